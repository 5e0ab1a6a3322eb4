//! Where records go.

use crate::corpus::record::Record;
use crate::corpus::row::Value;
use crate::corpus::write::error::WriteError;
use std::path::PathBuf;

/// An output that is being written: it takes records one after the other and appears under its name, whole, when it is
/// finished. Dropped before, it leaves nothing behind. The same records make the same bytes.
pub trait Sink {
    /// Takes the next record. Those of one row come one after the other.
    ///
    /// # Errors
    /// After one the output is lost.
    fn push(&mut self, record: &Record) -> Result<(), WriteError>;

    /// Takes note of a row, counted from 0, that has no vector, and why. Only answers to batches have a place for it.
    ///
    /// # Errors
    /// As [`Self::push`].
    fn push_error(&mut self, row: u64, id: &Value, message: &str) -> Result<(), WriteError> {
        let _ = (row, id, message);
        Ok(())
    }

    /// Adds to what the output says of itself besides [`Layout::metadata`](crate::corpus::Layout::metadata), where its form has a place for it.
    ///
    /// # Errors
    /// As [`Self::push`].
    fn note(&mut self, name: &str, value: &str) -> Result<(), WriteError> {
        let _ = (name, value);
        Ok(())
    }

    /// Ends the output, and gives it its name once it is on the disk.
    ///
    /// # Errors
    /// As [`Self::push`].
    fn finish(self: Box<Self>) -> Result<Written, WriteError>;
}

/// What has been written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The files, in the order of their records.
    pub files: Vec<PathBuf>,
    /// Files whose numbers follow on those, which some earlier run has left: who takes all by a pattern takes them too.
    pub stale: Vec<PathBuf>,
}
