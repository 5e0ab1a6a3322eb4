//! What to make of a corpus, how it is watched, and what it comes to.

use crate::corpus::chunks::{Chunking, ChunkingError, Pool};
use crate::corpus::dtype::Dtype;
use crate::corpus::journal::JournalError;
use crate::corpus::known::UpdateError;
use crate::corpus::read::{Files, ReadError, RowError};
use crate::corpus::row::Place;
use crate::corpus::write::{OutputFormat, WriteError};
use crate::error::Error;
use crate::options::{EmbedOptions, setters};
use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What to make of a corpus. Nothing of what was computed is lost, whatever ends the work: it stands in a journal beside the output
/// until that is written, and the same job with [`Self::resume`] goes on from there, to the same bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// What is read.
    pub files: Files,
    /// What is written.
    pub output: PathBuf,
    /// In which form.
    pub format: OutputFormat,
    /// What a value of a vector is.
    pub dtype: Dtype,
    /// How texts are embedded; a row's own instruction goes before that of these. Vectors have length 1: they stay normalized.
    pub embed: EmbedOptions,
    /// How long texts are cut up; by default they are not.
    pub chunking: Option<Chunking>,
    /// Whether rows that cannot be embedded are named in a file of errors and passed over, instead of ending the work.
    pub skip_errors: bool,
    /// Whether two rows may not have the same id; in a database they never may.
    pub unique_ids: bool,
    /// Rows of a file of the output, of which there are then several.
    pub shard_rows: Option<NonZero<u64>>,
    /// The part of the rows that is done here.
    pub part: Option<Part>,
    /// An earlier output, of which vectors are taken over where the text is the same.
    pub update: Option<PathBuf>,
    /// Go on with what an interrupted run has left.
    pub resume: bool,
    /// Replace an output, or throw away what an interrupted run has left.
    pub overwrite: bool,
}

/// A share of the rows, so that several machines can do a corpus together: rows that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// Which, from 1.
    pub number: u64,
    /// Of how many.
    pub of: u64,
}

impl Part {
    /// Part `number` of so many; `None` unless it is one of them.
    pub fn new(number: u64, of: u64) -> Option<Self> {
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    /// Its rows, of so many.
    pub(crate) fn rows(self, of: u64) -> Range<u64> {
        let until = |part: u64| (u128::from(of) * u128::from(part) / u128::from(self.of)) as u64;
        until(self.number - 1)..until(self.number)
    }
}

/// Watches a job, and may end it.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct JobControl<'a> {
    /// Set it, from any thread, to end the job with [`Error::Cancelled`] after the pass that is under way.
    pub cancel: Option<&'a AtomicBool>,
    /// When to end the job with [`Error::DeadlineExceeded`], before the next layer.
    pub deadline: Option<Instant>,
    /// Called now and then.
    pub progress: Option<&'a dyn Fn(JobProgress)>,
}

impl<'a> JobControl<'a> {
    setters! {
        cancel: impl Into<Option<&'a AtomicBool>>,
        deadline: impl Into<Option<Instant>>,
        progress: impl Into<Option<&'a dyn Fn(JobProgress)>>,
    }

    /// Whether it is time to end.
    pub(crate) fn ended(&self) -> Result<(), Error> {
        if self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(Error::Cancelled);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::DeadlineExceeded);
        }
        Ok(())
    }
}

/// What is done of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobProgress {
    /// What is being done.
    pub stage: Stage,
    /// Rows for which it is done.
    pub rows: u64,
    /// Of how many, where that is known.
    pub of: Option<u64>,
    /// Tokens that were computed in this run.
    pub tokens: u64,
}

/// What is being done of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// All rows are looked at, so that what is wrong is found before hours of work.
    Looking,
    /// Vectors are computed.
    Embedding,
    /// The output is written.
    Writing,
}

/// What a job has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Rows that were read.
    pub rows: u64,
    /// Vectors in the output.
    pub vectors: u64,
    /// Rows that have none, since they cannot be embedded.
    pub failed: u64,
    /// Where these are named.
    pub errors: Option<PathBuf>,
    /// Rows that an earlier run had done.
    pub resumed: u64,
    /// Vectors that were taken over.
    pub reused: u64,
    /// Tokens that were computed in this run.
    pub tokens: u64,
    /// Files that were written.
    pub files: Vec<PathBuf>,
    /// Files of an earlier run whose numbers follow on those.
    pub stale: Vec<PathBuf>,
}

/// Why a job ends before it is done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// An input cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A row cannot be embedded.
    #[error("{place}: {reason}")]
    Text {
        /// Which row.
        place: Place,
        /// Why.
        reason: String,
        /// Its cause.
        source: Box<Error>,
    },
    /// A row wants vectors of another number of dimensions than it can have.
    #[error("{place}: {source}")]
    Dimensions {
        /// Which row.
        place: Place,
        /// Why it cannot have them.
        source: DimensionsError,
    },
    /// Two rows have one id.
    #[error("{place}: the id {id:?} is that of {first}, too: take another field as id, or make one of the two another")]
    SameId {
        /// The second row.
        place: Place,
        /// The id.
        id: String,
        /// Where the first row stands.
        first: String,
    },
    /// Ids cannot be compared, for which a temporary file is needed.
    #[error("the temporary file of ids: {0}")]
    Ids(#[from] rusqlite::Error),
    /// There is nothing in the input.
    #[error("there are no rows to embed")]
    NoRows,
    /// The output is there already.
    #[error("{}: it exists: name another output, or overwrite it", .0.display())]
    Exists(PathBuf),
    /// There is nothing to resume: the output is there, and no run was interrupted.
    #[error("{}: it is whole and there is no journal of an interrupted run: nothing to resume; overwrite it to do it anew", .0.display())]
    Whole(PathBuf),
    /// Fewer rows than there were when they were counted.
    #[error("the input has changed while it was read: it has fewer rows than before")]
    Shrunk,
    /// The output's folder is not there.
    #[error("{}: there is no such folder for the output: make it first", .0.display())]
    NoFolder(PathBuf),
    /// Texts cannot be cut up so.
    #[error(transparent)]
    Chunking(#[from] ChunkingError),
    /// Requests of a batch have one vector for each of their texts.
    #[error("requests of a batch cannot be cut up: each of their texts has one vector")]
    ChunkedBatch,
    /// Vectors of a corpus have length 1.
    #[error("vectors of a corpus have length 1: leave `normalize` of its options on")]
    NotNormalized,
    /// No row has a field that was asked for.
    #[error("no row has the field {0:?} that was asked for")]
    Unseen(String),
    /// What is done cannot be kept.
    #[error("journal {0}")]
    Journal(#[from] JournalError),
    /// The journal cannot be read again.
    #[error("journal: {0}")]
    JournalRead(#[source] io::Error),
    /// The earlier output cannot be used.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The file of errors cannot be written.
    #[error("{}: {source}", path.display())]
    Errors {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The model, or who ended the job.
    #[error(transparent)]
    Embed(#[from] Error),
}

/// Why the vectors of a row cannot have the dimensions that it asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DimensionsError {
    /// The model's vectors cannot be cut to so many.
    #[error(transparent)]
    Model(Error),
    /// All vectors of the output have the same number.
    #[error(
        "{asked} dimensions asked for, while all vectors of {format} have {all}: ask for {asked} of all, or write openai-batch"
    )]
    Output {
        /// Dimensions asked for.
        asked: usize,
        /// Those that all have.
        all: usize,
        /// The output's form.
        format: OutputFormat,
    },
}

impl Job {
    /// All rows of the files, into one file.
    pub fn new(files: Files, output: impl Into<PathBuf>, format: OutputFormat) -> Self {
        Self {
            files,
            output: output.into(),
            format,
            dtype: Dtype::F32,
            embed: EmbedOptions::default(),
            chunking: None,
            skip_errors: false,
            unique_ids: false,
            shard_rows: None,
            part: None,
            update: None,
            resume: false,
            overwrite: false,
        }
    }

    setters! {
        dtype: Dtype,
        embed: EmbedOptions,
        chunking: impl Into<Option<Chunking>>,
        skip_errors: bool,
        unique_ids: bool,
        shard_rows: impl Into<Option<NonZero<u64>>>,
        part: impl Into<Option<Part>>,
        update: impl Into<Option<PathBuf>>,
        resume: bool,
        overwrite: bool,
    }

    /// Where the journal is, for as long as the job is not done.
    pub fn journal(&self) -> PathBuf {
        beside(&self.output, ".journal")
    }

    /// Whether a record is a chunk of its row.
    pub(crate) fn chunked(&self) -> bool {
        self.chunking.is_some_and(|how| how.pool == Pool::None)
    }
}

/// A file beside the output.
pub(crate) fn beside(output: &Path, more: &str) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// An error of a text, said of its row.
pub(crate) fn text_error(place: &Place, source: Error) -> JobError {
    JobError::Text { place: place.clone(), reason: reason(&source), source: source.into() }
}

/// What is wrong with a text, without the number that it has in a call.
pub(crate) fn reason(error: &Error) -> String {
    let words = error.to_string();
    match error.text() {
        Some(text) => words.replacen(&format!("text {}", text + 1), "the text", 1),
        None => words,
    }
}
