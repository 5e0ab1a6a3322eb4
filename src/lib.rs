//! Text embeddings from Qwen3-Embedding GGUF files, on CPUs: exact, lean and fast.
//!
//! ```
//! use qembed_q::{EmbedOptions, Embedder, Prompt};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("model.gguf");
//! # let spec = qembed_models::synth::Spec {
//! #     dims: "tiny".parse()?, level: "Q8_0".parse()?, seed: 1, vocabulary: None };
//! # qembed_models::synth::write(&spec, &path)?;
//! let embedder = Embedder::open(&path)?;
//! let vectors = embedder.embed(&["The capital of China is Beijing.", "重力"], &EmbedOptions::default())?;
//! assert_eq!(vectors.len(), 2);
//! let similarity: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
//! assert!((-1.0..=1.0).contains(&similarity));
//! let query = EmbedOptions::default().prompt(Prompt::Query).dimensions(64);
//! assert_eq!(embedder.embed(&["What is the capital of China?"], &query)?.dimensions(), 64);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! Embedding needs none of them: `default-features = false` gives the library without model file and command line.
//!
//! | feature | what it adds |
//! |---|---|
//! | `builtin` | a small model, part of the program: `Embedder::builtin()` |
//! | `corpus` | `corpus`: files of rows in, files of vectors out, resumed where they were left |
//! | `convert` | `convert`: model files of Hugging Face's folders |
//! | `hub` | `hub`: models of the Hugging Face Hub: names, cache, download |
//! | `search` | `search`: passages of files and folders, vectors kept on disk |
//! | `verify` | `verify`: is a model file what it claims? |
//! | `selftest` | `selftest`: does a device compute what it should? |
//! | `metal` | GPUs of Macs; not tried on one so far |
//! | `serve` | `serve`: an HTTP server |
//! | `otel` | traces of its requests, for OpenTelemetry collectors |
//! | `cli` | the command `qembed-q`; with `convert`, `corpus`, `hub`, `search`, `selftest` and `verify` |
//!
//! `builtin`, `cli` and `serve` are on by default.
//!
//! # Promises
//!
//! An [`Embedder`] is `Send + Sync`: share it by reference or in an `Arc`. A vector never depends on what else was in
//! the call, on the order of texts or on the number of threads: the same bits, on one instruction set.
#![forbid(unsafe_code)]

mod call;
mod control;
#[cfg(feature = "corpus")]
pub mod corpus;
mod device;
#[cfg(any(feature = "corpus", feature = "hub", feature = "serve"))]
mod digest;
mod embedder;
mod embeddings;
mod error;
#[cfg(feature = "hub")]
pub mod hub;
mod ids;
mod memory;
mod options;
mod planner;
#[cfg(feature = "search")]
pub mod search;
#[cfg(feature = "selftest")]
mod selftest;
#[cfg(feature = "serve")]
pub mod serve;
mod tasks;
#[cfg(test)]
mod tests;
mod tokens;
#[cfg(feature = "verify")]
mod verify;

pub use control::{Control, Progress};
pub use device::MetalError;
#[cfg(any(feature = "corpus", feature = "hub", feature = "serve"))]
pub use digest::{level, sha256};
pub use embedder::Embedder;
pub use embeddings::Embeddings;
pub use error::{Error, InstructionError};
pub use memory::MemoryNeeds;
pub use options::{DEFAULT_TASK, Device, EmbedOptions, Empty, LoadOptions, Prompt, Truncate};
pub use qembed_kernels::cpu::isa::{Isa, IsaError};
pub use qembed_kernels::default_threads;
pub use qembed_kernels::formats::Format;
#[cfg(feature = "builtin")]
pub use qembed_models::builtin;
pub use qembed_models::gguf;
pub use qembed_models::text;
pub use qembed_models::tokenizer::{Cl100kError, TokenSpan, TokenizerError, UnknownToken};
pub use qembed_models::{ByteProgress, Choose, Level, ModelError, Quantize, QuantizeError, quantize};
#[cfg(feature = "convert")]
pub use qembed_models::{
    CONVERT_KEYS, Convert, ConvertError, ConvertNote, FileProblem, JsonKey, JsonTreatment, KnownFile, convert,
};
#[cfg(feature = "selftest")]
pub use selftest::{Outcome, Pace, Selftest, SelftestCheck, selftest};
pub use tasks::Task;
pub use tokens::Tokens;
#[cfg(feature = "verify")]
pub use verify::{Check, Verdict, verify};
