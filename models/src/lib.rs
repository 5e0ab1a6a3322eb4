//! Model layer of qembed-q: GGUF files, tokenizer, the Qwen3 forward pass.
//!
//! `unsafe` is denied, save what maps a file (`gguf::map`) and answers for a mapping that was cut (`gguf::fault`).
#![deny(unsafe_code)]

mod batch;
#[cfg(feature = "builtin")]
mod builtin;
mod config;
#[cfg(feature = "convert")]
mod convert;
mod error;
pub mod gguf;
mod json;
mod known;
mod level;
mod prefixes;
mod quantize;
mod qwen3;
mod runner;
#[cfg(feature = "synth")]
pub mod synth;
pub mod text;
pub mod tokenizer;

pub use batch::{Batch, Text, common_tokens};
#[cfg(feature = "builtin")]
pub use builtin::builtin;
pub use config::{ARCHITECTURE, Config, tensor_shapes};
#[cfg(feature = "convert")]
pub use convert::{
    CONVERT_KEYS, Convert, ConvertError, ConvertNote, FileProblem, JsonKey, JsonTreatment, KnownFile, convert,
};
pub use error::ModelError;
pub use json::{GitLfsPointer, JsonError};
pub use known::{KEYS, KnownKey, NotUnderstood, TENSORS, Treatment, is_called_reranker, is_judged, not_understood};
pub use level::{Level, Place, UnknownLevel};
pub use quantize::{ByteProgress, Choose, Quantize, QuantizeError, plan, quantize};
pub use qwen3::Qwen3;
pub use qwen3::forward::{Outcome, Pass, Prefix};
pub use runner::{PassMemory, Qwen3Runner, Runner};
