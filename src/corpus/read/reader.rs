//! What the readers of all formats have in common.

use crate::corpus::read::error::{Compression, ReadError, ReadProblem, RowError};
use crate::corpus::read::pick::Picker;
use crate::corpus::row::{Place, Row, Unit};
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

/// A row; or why it is none; or why the file has no more.
pub(super) type Item = Result<Result<Row, RowError>, ReadError>;

/// Reads the rows of a file.
pub(super) trait Reader: Send {
    /// The next row; after a [`ReadError`] there is none.
    fn next(&mut self, picker: &mut Picker) -> Option<Item>;
}

/// What comes out of a file, unpacked.
pub(super) type Input = Box<dyn BufRead + Send>;

/// The most bytes of a row in a text format, of which the text is a part.
pub(super) const MAX_ROW_BYTES: usize = 64 << 20;

/// The file that a reader reads, for what it says of it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) shown: Arc<Path>,
    pub(super) compression: Option<Compression>,
}

impl Origin {
    pub(super) fn place(&self, number: u64, unit: Unit) -> Place {
        Place { file: self.shown.clone(), number, unit }
    }

    pub(super) fn error(&self, problem: ReadProblem) -> ReadError {
        ReadError::new(&self.shown, problem)
    }

    /// What it means that the input cannot be read on.
    pub(super) fn failed(&self, source: io::Error) -> ReadError {
        self.error(match self.compression {
            Some(compression) if source.kind() == io::ErrorKind::UnexpectedEof => ReadProblem::CutOff { compression },
            // Errors of the system have a number, those of a decoder none.
            Some(compression) if source.raw_os_error().is_none() => ReadProblem::Damaged { compression, source },
            _ => ReadProblem::Read(source),
        })
    }
}
