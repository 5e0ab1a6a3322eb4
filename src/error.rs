//! The errors of the library.

use crate::device::MetalError;
use qembed_kernels::cpu::isa::IsaError;
use qembed_models::ModelError;
use qembed_models::gguf::GgufError;
use qembed_models::tokenizer::TokenizerError;

/// Why no text can be embedded with an instruction. One that is too long for the model is
/// [`Error::InstructionTooLong`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstructionError {
    /// It cannot be tokenized.
    #[error("cannot be tokenized: {0}")]
    Tokenize(#[source] TokenizerError),
    /// It has a token that the model has no embedding for: model and tokenizer do not belong together.
    #[error("has token {token}, the model's embeddings end at {rows}: the tokenizer is that of another model")]
    Vocabulary {
        /// The token.
        token: u32,
        /// Rows of the model's token embedding.
        rows: usize,
    },
    /// It leaves no room for a text in the memory budget.
    #[error(
        "has {tokens} tokens, which take with the shortest text {needed} bytes of memory; the budget of {budget} allows \
         {limit} tokens: raise the budget, or shorten it"
    )]
    OverBudget {
        /// Its tokens.
        tokens: usize,
        /// Memory that a pass of it and one more token takes, in bytes.
        needed: u64,
        /// The budget, in bytes.
        budget: u64,
        /// The most tokens that fit.
        limit: usize,
    },
}

/// Why a model could not be opened or a text not be embedded. `text` is an index into the texts of the call, from 0;
/// messages count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read as GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file holds no model that can be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file's tokenizer, or the `tokenizer.json` in its place, cannot be used.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// A text cannot be tokenized.
    #[error("text {}: {source}", text + 1)]
    Tokenize {
        /// Index of the text.
        text: usize,
        /// What the tokenizer said.
        source: TokenizerError,
    },
    /// The instruction set asked for cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// Metal was asked for and cannot be used.
    #[error("Metal cannot be used ({0}): take the CPU instead")]
    Metal(#[from] MetalError),
    /// A device that cannot hold the model and a small pass.
    #[error(
        "{device} holds {limit} bytes, the model and a small pass take {needed}: take a smaller level, or another device"
    )]
    DeviceTooSmall {
        /// The device's name.
        device: &'static str,
        /// Bytes that it can hold.
        limit: u64,
        /// Bytes that are needed at least.
        needed: u64,
    },
    /// More threads than a pool can hold.
    #[error("{threads} threads asked for, the limit is {limit}")]
    TooManyThreads {
        /// Threads asked for.
        threads: usize,
        /// The most that are allowed.
        limit: usize,
    },
    /// A dimension that vectors of this model cannot be cut to.
    #[error("{asked} dimensions asked for: this model's vectors can be cut to {min} … {max}")]
    Dimensions {
        /// Dimensions asked for.
        asked: usize,
        /// The fewest.
        min: usize,
        /// The model's own.
        max: usize,
    },
    /// A text without a character.
    #[error("text {} is empty: there is nothing to embed", text + 1)]
    EmptyText {
        /// Index of the text.
        text: usize,
    },
    /// A text that does not fit the model's context.
    #[error(
        "text {} has {tokens} tokens (instruction and end token included), the model's limit is {limit}: \
         shorten it, or ask for truncation",
        text + 1
    )]
    TooLong {
        /// Index of the text.
        text: usize,
        /// Its tokens.
        tokens: usize,
        /// The most that the model takes.
        limit: usize,
    },
    /// A token that the model has no embedding for: model and tokenizer do not belong together.
    #[error(
        "text {} has token {token}, the model's embeddings end at {rows}: the tokenizer is that of another model",
        text + 1
    )]
    Vocabulary {
        /// Index of the text.
        text: usize,
        /// The token.
        token: u32,
        /// Rows of the model's token embedding.
        rows: usize,
    },
    /// An instruction that leaves no room for any text.
    #[error("the instruction has {tokens} tokens, which leaves no room for a text within the model's limit of {limit}")]
    InstructionTooLong {
        /// Tokens of the instruction.
        tokens: usize,
        /// The most that the model takes.
        limit: usize,
    },
    /// The instruction cannot be used, whatever the text.
    #[error("the instruction {0}")]
    Instruction(#[from] InstructionError),
    /// A vector with a NaN or infinity in it, or of length zero.
    #[error("the vector of text {} is not finite: the model file is damaged, or its weights overflow", text + 1)]
    NonFinite {
        /// Index of the text.
        text: usize,
    },
    /// The process may not take the addresses that the model needs besides its file.
    #[error(
        "the process may take {left} more bytes of address space, the model needs {needed}: raise the limit (ulimit -v), \
         or choose a smaller model"
    )]
    AddressSpace {
        /// What is left of the limit, in bytes.
        left: u64,
        /// What the tokenizer and a pass of 64 tokens take, in bytes.
        needed: u64,
    },
    /// A budget in which not even a small pass fits.
    #[error(
        "a memory budget of {budget} bytes is too small: a forward pass of this model takes {least} bytes at least; \
         free memory, raise the budget, or choose a smaller model"
    )]
    BudgetTooSmall {
        /// The budget, in bytes.
        budget: u64,
        /// What a pass of 64 tokens takes, in bytes.
        least: u64,
    },
    /// A text whose forward pass does not fit the memory budget.
    #[error(
        "text {} has {tokens} tokens, which take {needed} bytes of memory; the budget of {budget} allows {limit} tokens: \
         raise the budget, cut the text, or split it",
        text + 1
    )]
    OverBudget {
        /// Index of the text.
        text: usize,
        /// Its tokens.
        tokens: usize,
        /// Memory that its pass takes, in bytes.
        needed: u64,
        /// The budget, in bytes.
        budget: u64,
        /// The most tokens that fit.
        limit: usize,
    },
    /// Pieces of a text that would overlap by all that they have room for.
    #[error(
        "pieces of a text cannot overlap by {overlap} tokens: there is room for {room} of the text in a piece, so ask for fewer"
    )]
    Overlap {
        /// Tokens that pieces should have in common.
        overlap: usize,
        /// Tokens of a text that a piece has room for.
        room: usize,
    },
    /// The caller called it off.
    #[error("cancelled")]
    Cancelled,
    /// The caller's deadline has passed.
    #[error("the time limit was reached before the work was done")]
    DeadlineExceeded,
}

impl Error {
    /// The text that it is about, if it is about one: an index into the texts of the call, from 0.
    pub fn text(&self) -> Option<usize> {
        match *self {
            Error::Tokenize { text, .. }
            | Error::EmptyText { text }
            | Error::TooLong { text, .. }
            | Error::Vocabulary { text, .. }
            | Error::NonFinite { text }
            | Error::OverBudget { text, .. } => Some(text),
            _ => None,
        }
    }
}
