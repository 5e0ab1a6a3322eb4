//! Choices that have names, the same in requests and on the command line.

use crate::tasks::Task;

/// Whose numbers the token arrays of requests are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenIds {
    /// Those of `cl100k_base`, as OpenAI's embedding models have them and as LangChain sends them: they become text again.
    #[default]
    Cl100k,
    /// The model's own.
    Model,
    /// Nobody's: token arrays are refused.
    Reject,
}

impl TokenIds {
    /// By the name that requests and the command line have for it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "cl100k" => Some(Self::Cl100k),
            "model" => Some(Self::Model),
            "reject" => Some(Self::Reject),
            _ => None,
        }
    }
}

/// What becomes of a text that is longer than the model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooLong {
    /// An error.
    Error,
    /// Its beginning is cut.
    Left,
    /// Its end is cut.
    Right,
    /// It is cut into pieces that overlap; its vector is the mean of theirs.
    Mean,
}

impl TooLong {
    /// The names, for people.
    pub(crate) const NAMES: &str = "error, left, right, mean";

    /// By the name that requests and the command line have for it.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "error" | "none" => Some(Self::Error),
            "left" | "start" => Some(Self::Left),
            "right" | "end" => Some(Self::Right),
            "mean" => Some(Self::Mean),
            _ => None,
        }
    }
}

/// The names of tasks, for people.
pub(crate) fn task_names() -> String {
    Task::ALL.iter().map(|task| task.name).collect::<Vec<_>>().join(", ")
}
