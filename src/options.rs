//! Choices of a caller.

use qembed_models::gguf::Access;
use std::path::PathBuf;

/// The task of a query when the caller names none (Qwen3-Embedding's own default).
pub const DEFAULT_TASK: &str = "Given a web search query, retrieve relevant passages that answer the query";

/// Methods that change one field each: structs that may grow have no other way to be made.
macro_rules! setters {
    ($($field:ident: $ty:ty),* $(,)?) => {$(
        #[doc = concat!("The same with this [`", stringify!($field), "`](#structfield.", stringify!($field), ").")]
        #[must_use]
        pub fn $field(mut self, $field: $ty) -> Self {
            self.$field = $field.into();
            self
        }
    )*};
}
pub(crate) use setters;

/// What stands before a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// Nothing: a passage to be found.
    #[default]
    Document,
    /// The instruction for queries, with [`DEFAULT_TASK`].
    Query,
    /// The instruction for queries, with a task in your own words.
    Instruct(String),
}

impl Prompt {
    /// What stands before every text: `Instruct: {task}\nQuery:`, without a space after `Query:`, as the model was
    /// trained; empty for documents.
    pub fn prefix(&self) -> String {
        let task = match self {
            Prompt::Document => return String::new(),
            Prompt::Query => DEFAULT_TASK,
            Prompt::Instruct(task) => task,
        };
        format!("Instruct: {task}\nQuery:")
    }
}

/// Which end of a text that is too long is cut away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncate {
    /// The beginning is cut; an instruction stays.
    Left,
    /// The end is cut.
    Right,
}

/// What becomes of a text without a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Empty {
    /// It is an error: most often something went wrong before.
    #[default]
    Refuse,
    /// Its vector is that of the end token (after the instruction, if there is one), which the model's reference
    /// implementation gives as well. All empty texts have the same.
    EndToken,
}

/// How to embed texts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbedOptions {
    /// What stands before each text.
    pub prompt: Prompt,
    /// Cut vectors to so many dimensions, before they are normalized; the model's own by default.
    pub dimensions: Option<usize>,
    /// Bring vectors to length 1. On by default; else they are the final hidden states as they are.
    pub normalize: bool,
    /// Cut texts that exceed the model's context instead of refusing them.
    pub truncate: Option<Truncate>,
    /// What becomes of empty texts.
    pub empty: Empty,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        let (prompt, empty) = (Prompt::default(), Empty::default());
        Self { prompt, dimensions: None, normalize: true, truncate: None, empty }
    }
}

impl EmbedOptions {
    setters! {
        prompt: Prompt,
        dimensions: impl Into<Option<usize>>,
        normalize: bool,
        truncate: impl Into<Option<Truncate>>,
        empty: Empty,
    }
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor, by the best of its instruction sets or the one named.
    #[default]
    Cpu,
    /// The GPU of a Mac (feature `metal`); an error where there is none that can be used.
    Metal,
    /// Metal where its self-test has passed on this GPU, system and version of the program, and the model fits; else the
    /// processor, and [`Embedder::warnings`](crate::Embedder::warnings) says why.
    Auto,
}

/// How to open a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Where the model runs.
    pub device: Device,
    /// Threads of the processor to work with; the number of physical cores by default.
    pub threads: Option<usize>,
    /// Instruction-set tier of the processor, such as `avx2`; by default what the environment variable `QEMBED_ISA` names, else the best.
    pub isa: Option<String>,
    /// How the model file gets into memory; mapped by default.
    pub access: Access,
    /// The most anonymous memory that a forward pass may take, in bytes; by default half of what the system has to give.
    pub memory_budget: Option<u64>,
    /// The most memory for what is kept of instructions from call to call, in bytes; 0 keeps nothing. 64 MiB by default.
    pub prefix_cache: usize,
    /// Compute what texts have in common from their start once. On by default; the vectors are the same either way.
    pub share_prefixes: bool,
    /// A `tokenizer.json` that takes the place of the file's own tokenizer.
    pub tokenizer: Option<PathBuf>,
    /// Metadata keys and tensors that may be passed over although they are not understood, by name. The vectors may be
    /// wrong then.
    pub allow: Vec<String>,
}

impl LoadOptions {
    setters! {
        device: Device,
        threads: impl Into<Option<usize>>,
        isa: impl Into<Option<String>>,
        access: Access,
        memory_budget: impl Into<Option<u64>>,
        prefix_cache: usize,
        share_prefixes: bool,
        tokenizer: impl Into<Option<PathBuf>>,
        allow: Vec<String>,
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: Device::default(),
            threads: None,
            isa: None,
            access: Access::Mapped,
            memory_budget: None,
            prefix_cache: 64 << 20,
            share_prefixes: true,
            tokenizer: None,
            allow: Vec::new(),
        }
    }
}
