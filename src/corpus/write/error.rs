//! Why an output cannot be written.

use crate::corpus::write::format::OutputFormat;
use arrow_schema::ArrowError;
use parquet::errors::ParquetError;
use std::io;
use std::path::{Path, PathBuf};

/// Why an output cannot be written. Then there is none: what stood under its name stands there still.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The system does not write it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The output.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The Parquet writer does not.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The output.
        path: PathBuf,
        /// What it says.
        source: ParquetError,
    },
    /// SQLite does not.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The output.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// A column that is kept has a name that is taken.
    #[error(
        "the column {name:?} cannot be kept: the output has one of that name already. \
         Leave it out of the columns that are kept, or give it another name in the input"
    )]
    NameTaken {
        /// Which.
        name: String,
    },
    /// Records that are chunks do not go into such a file.
    #[error("chunks of texts cannot be written as {format}: choose another form, or take texts whole")]
    Chunked {
        /// The file's form.
        format: OutputFormat,
    },
    /// A value has no form in the output.
    #[error("row {}, column {column:?}: {source}; leave the column out of those that are kept", row + 1)]
    Value {
        /// Its row in the input, from 0.
        row: u64,
        /// Its column.
        column: String,
        /// Why.
        source: ArrowError,
    },
    /// A value is of another type than its column.
    #[error("row {}, column {column:?}: a value that is no {expected}, as the column is", row + 1)]
    Unfit {
        /// Its row in the input, from 0.
        row: u64,
        /// Its column.
        column: String,
        /// The column's type.
        expected: String,
    },
    /// A database finds a record by its id, which no other may have.
    #[error(
        "{}: id {id} of row {} is that of an earlier row, too: name another field as id, or write another form",
        path.display(), row + 1
    )]
    SameId {
        /// The output.
        path: PathBuf,
        /// The id that two rows have.
        id: String,
        /// The second of them, from 0.
        row: u64,
    },
}

impl WriteError {
    /// Of the system, about a path.
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| WriteError::Io { path: path.to_owned(), source }
    }

    /// Of the Parquet writer, about a path.
    pub(crate) fn parquet(path: &Path) -> impl Fn(ParquetError) -> Self {
        move |source| match source {
            ParquetError::External(error) => match error.downcast() {
                Ok(error) => WriteError::Io { path: path.to_owned(), source: *error },
                Err(error) => WriteError::Parquet { path: path.to_owned(), source: ParquetError::External(error) },
            },
            source => WriteError::Parquet { path: path.to_owned(), source },
        }
    }

    /// Of SQLite, about a path.
    pub(crate) fn sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |source| WriteError::Sqlite { path: path.to_owned(), source }
    }

    /// Of a value, in a column of a row.
    pub(crate) fn value(row: u64, column: &str) -> impl Fn(ArrowError) -> Self {
        move |source| WriteError::Value { row, column: column.to_owned(), source }
    }
}
