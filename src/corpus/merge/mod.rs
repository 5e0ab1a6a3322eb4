//! Parts of an output, made by several machines, put together.

mod error;
mod parquet;
mod parts;
mod plain;
mod sqlite;
#[cfg(test)]
mod tests;

pub use error::MergeError;

use crate::corpus::job::beside;
use crate::corpus::write::{OutputFormat, Written, shards};
use std::path::{Path, PathBuf};

/// Makes one output of its parts, which this program has written in one form and in the same way, each for the rows that follow
/// on those of the part before. It is, byte for byte, what one run over all rows writes; save where a kept column has numbers alone
/// in one part and texts among them in another, since a part writes the numbers as numbers.
///
/// A part in several files is named as if it were one, or by all of them.
///
/// Parts in Parquet and in databases say of themselves which they are: their order does not matter, and they must all be there.
/// Those of other forms say nothing, and come in the order given.
///
/// # Errors
/// When parts are missing, were not made in the same way, or are not whole; and when the whole cannot be written.
pub fn merge(format: OutputFormat, parts: &[PathBuf], out: &Path) -> Result<Written, MergeError> {
    if parts.is_empty() {
        return Err(MergeError::NoParts);
    }
    let mut files = Vec::new();
    for part in parts {
        files.extend(files_of(part)?);
    }
    let parts = &files;
    let same = |path: &Path| {
        path == out || out.canonicalize().is_ok_and(|out| path.canonicalize().is_ok_and(|path| path == out))
    };
    if let Some(path) = parts.iter().find(|path| same(path)) {
        return Err(MergeError::OutputIsPart { path: path.clone() });
    }
    match format {
        OutputFormat::Parquet => parquet::merge(parts, out),
        OutputFormat::Sqlite => sqlite::merge(parts, out),
        _ => plain::merge(format, parts, out),
    }
}

/// The files of a part: itself, or those that it is in.
fn files_of(part: &Path) -> Result<Vec<PathBuf>, MergeError> {
    let files = if part.exists() { Vec::new() } else { shards(part).map_err(MergeError::read(part))? };
    if files.is_empty() {
        return Ok(vec![part.to_owned()]);
    }
    // Of a run that has not ended, some are there already.
    let journal = beside(part, ".journal");
    if journal.exists() { Err(MergeError::Unfinished { journal }) } else { Ok(files) }
}
