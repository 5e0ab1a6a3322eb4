//! Vectors that an earlier output has, found by the hash of their text.

use crate::corpus::finished::{FinishedError, StoredVector, read_vectors};
use crate::corpus::record::Layout;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{Path, PathBuf};

/// Why an earlier output is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] FinishedError),
    /// It has vectors of another kind.
    #[error("{}: {what} is {was:?} there and {is:?} here, so its vectors are others: start a new output", path.display())]
    Differs {
        /// The earlier output.
        path: PathBuf,
        /// What differs.
        what: String,
        /// There.
        was: String,
        /// Here.
        is: String,
    },
    /// The index over it, a temporary file, fails.
    #[error("the index of earlier vectors: {0}")]
    Index(#[from] rusqlite::Error),
}

/// What makes other vectors of the same text.
const SAME: &[&str] = &[
    "qembed.version",
    "qembed.model_sha256",
    "qembed.isa",
    "qembed.dimensions",
    "qembed.dtype",
    "qembed.instruction",
    "qembed.chunk",
    "qembed.truncate",
];

/// An index of vectors, in a temporary file: it may be larger than memory.
pub(crate) struct Known(Connection);

impl Known {
    /// Reads an earlier output.
    ///
    /// # Errors
    /// When it cannot be read, or its vectors are of another kind.
    pub(crate) fn open(path: &Path, layout: &Layout) -> Result<Self, UpdateError> {
        let old = read_vectors(path)?;
        let of = |all: &[(String, String)], name: &str| {
            all.iter().find(|(other, _)| other == name).map_or(String::new(), |(_, value)| value.clone())
        };
        for name in SAME {
            let (was, is) = (of(&old.metadata, name), of(&layout.metadata, name));
            if was != is {
                return Err(UpdateError::Differs { path: path.to_owned(), what: (*name).to_owned(), was, is });
            }
        }
        // Without a name: SQLite removes it when it is closed, or the program ends.
        let index = Connection::open("")?;
        index.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;")?;
        index.execute("CREATE TABLE known (hash BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID", [])?;
        let all = index.unchecked_transaction()?;
        {
            let mut insert = all.prepare("INSERT OR IGNORE INTO known VALUES (?, ?)")?;
            for record in old {
                let StoredVector { hash, vector } = record?;
                insert.execute(params![hash, vector])?;
            }
        }
        all.commit()?;
        Ok(Self(index))
    }

    /// The vector of the text with this hash.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn vector(&self, hash: &[u8; 32]) -> Result<Option<Vec<u8>>, UpdateError> {
        let mut find = self.0.prepare_cached("SELECT vector FROM known WHERE hash = ?")?;
        Ok(find.query_row([hash], |row| row.get(0)).optional()?)
    }
}
