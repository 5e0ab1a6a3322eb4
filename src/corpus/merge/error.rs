//! Why parts do not make a whole.

use crate::corpus::finished::FinishedError;
use crate::corpus::write::WriteError;
use std::io;
use std::path::{Path, PathBuf};

/// Why parts do not make a whole. Then nothing is written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// There are none.
    #[error("no parts are given")]
    NoParts,
    /// The output would replace a part.
    #[error("{} is a part: choose another name for the whole", path.display())]
    OutputIsPart {
        /// Which.
        path: PathBuf,
    },
    /// A file does not say which part it is.
    #[error("{} says of itself no number as a part", path.display())]
    NoPart {
        /// Which.
        path: PathBuf,
    },
    /// Parts are missing.
    #[error("of {} parts these are missing: {}", count, numbers(missing))]
    Missing {
        /// How many there must be.
        count: u64,
        /// Those that are not there, from 1.
        missing: Vec<u64>,
    },
    /// A part in several files lacks some of them.
    #[error("part {part} is in several files, of which these are missing: {}", numbers(missing))]
    MissingFiles {
        /// Which part, from 1.
        part: u64,
        /// Those that are not there, from 0, as in their names.
        missing: Vec<u64>,
    },
    /// A part in several files lacks the last of them.
    #[error("{} is not the last file of its part: files are missing, or the run that writes them has not ended", path.display())]
    NoLast {
        /// The last that is there.
        path: PathBuf,
    },
    /// A part ends before this file of it.
    #[error("{} is of an earlier run: its part ends before it. Leave it out", path.display())]
    Stale {
        /// Which.
        path: PathBuf,
    },
    /// A part is being written, or its run was interrupted.
    #[error("{}: the run that writes this part has not ended: resume it first", journal.display())]
    Unfinished {
        /// The run's journal.
        journal: PathBuf,
    },
    /// A part, or a file of it, is there twice.
    #[error("{} and {} are the same part", first.display(), second.display())]
    Twice {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Parts were not made in the same way.
    #[error("{} has {found} as {key}, {} has {expected}: they are no parts of one output", path.display(), first.display())]
    Differs {
        /// Another than the first.
        path: PathBuf,
        /// The first.
        first: PathBuf,
        /// In what.
        key: String,
        /// What the one says.
        found: String,
        /// What the first says.
        expected: String,
    },
    /// A part is not whole, or was not written by this program.
    #[error("{}: {what}", path.display())]
    NotWhole {
        /// Which.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
    /// A part cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A part cannot be read.
    #[error(transparent)]
    Finished(#[from] FinishedError),
    /// The whole cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl MergeError {
    pub(crate) fn read(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| MergeError::Read { path: path.to_owned(), source }
    }
}

/// The first of some numbers.
fn numbers(all: &[u64]) -> String {
    let shown: Vec<String> = all.iter().take(10).map(u64::to_string).collect();
    shown.join(", ") + if all.len() > shown.len() { " …" } else { "" }
}
