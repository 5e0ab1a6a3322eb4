//! What can go wrong between a GGUF file and a vector.

use crate::gguf::GgufError;
use crate::known::{NotUnderstood, summary};
use qembed_kernels::{DeviceError, WeightError};

/// An error of the model layer. Messages name the item, what was expected and what was found. `text` is an index into the
/// texts of a batch, from 0; messages count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the message of a variant is its documentation
pub enum ModelError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(
        "general.architecture is {found:?}: only Qwen3 embedding models (architecture \"qwen3\") can be run; \
         pick a Qwen3-Embedding GGUF file"
    )]
    Architecture { found: String },
    #[error("metadata {key} is {found}: {problem}")]
    Hyperparameter { key: String, found: String, problem: &'static str },
    #[error("tensor {name} has shape {found}, expected {expected} (row length first)")]
    Shape { name: String, expected: String, found: String },
    /// At least one; each can be allowed by its name.
    #[error("the file is not understood, and its vectors could be wrong: {}", summary(.0))]
    NotUnderstood(Vec<NotUnderstood>),
    #[error("tensor {name}: {source}")]
    Weight { name: String, source: WeightError },
    #[error("text {} of the batch is empty: a text has at least its end-of-text token", text + 1)]
    NoTokens { text: usize },
    #[error("text {} of the batch has token {token}, the model's vocabulary ends at {limit}", text + 1)]
    Token { text: usize, token: u32, limit: usize },
    #[error("text {} of the batch has {tokens} tokens, the limit of the model's context is {limit}", text + 1)]
    TooLong { text: usize, tokens: usize, limit: usize },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("the pass was called off")]
    Unwanted,
}
