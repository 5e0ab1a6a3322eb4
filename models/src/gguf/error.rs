//! What can be wrong with a GGUF file, in words that say which file, which item and what to do about it.
//!
//! Names that come out of a file are escaped and shortened before they reach a message.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error about one GGUF file: its path and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct GgufError {
    path: PathBuf,
    #[source]
    problem: Box<GgufProblem>,
}

impl GgufError {
    /// The file; for a split file, the part that has the problem.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &GgufProblem {
        &self.problem
    }

    /// The problem alone, for code that adds the path itself.
    pub(super) fn into_problem(self) -> GgufProblem {
        *self.problem
    }
}

/// What is wrong with a GGUF file. Sizes and offsets are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the message of a variant is its documentation
pub enum GgufProblem {
    #[error("no such file; check the path")]
    NotFound,
    #[error("no permission to read this file; check its owner and mode")]
    PermissionDenied,
    #[error("this is a directory; give the path of a .gguf file in it")]
    Directory,
    #[error("this is not a regular file (a pipe, device or socket cannot be mapped); save it to a file first")]
    NotRegular,
    #[error("cannot read the file: {0}")]
    Io(#[source] io::Error),
    #[error(
        "the file was changed while it was in use, so nothing more can be trusted that comes of it; replace such a file by \
         a rename, or read it into memory instead of mapping it"
    )]
    Changed,
    #[error(
        "there is no room for its {0} bytes: free memory, raise the limit on address space (ulimit -v), or take a smaller model"
    )]
    NoRoom(u64),
    #[error("the file is empty (0 bytes); download or copy it again")]
    Empty,
    #[error("not a GGUF file: starts with {start}{hint}")]
    NotGguf { start: String, hint: &'static str },
    #[error(
        "this is a big-endian GGUF file; only little-endian files can be read: convert the model for little-endian"
    )]
    BigEndian,
    #[error("GGUF version {0} is too old, versions 2 and 3 can be read; convert the model again with a current tool")]
    VersionTooOld(u32),
    #[error("GGUF version {0} is not known, versions 2 and 3 can be read; convert the model to version 3")]
    VersionUnknown(u32),
    #[error(
        "the file ends inside {what}: {need} bytes are needed at offset {at}, {left} are left; \
         the file is truncated or damaged, fetch it again"
    )]
    Truncated { what: String, at: u64, need: u64, left: u64 },
    #[error("{what} is {value}, the limit is {limit}; the file is damaged or was not made for this program")]
    Limit { what: String, value: u64, limit: u64 },
    #[error("{what} is not valid UTF-8; the file is damaged or was written by a faulty tool")]
    NotUtf8 { what: String },
    #[error("metadata key {key} occurs twice; the file was written by a faulty tool")]
    DuplicateKey { key: Quoted },
    #[error("metadata key {key} has value type {id}, which GGUF does not define; the file is damaged or too new")]
    ValueType { key: Quoted, id: u32 },
    #[error("metadata key {key} nests arrays deeper than {limit} levels; the file is damaged")]
    ArrayDepth { key: Quoted, limit: usize },
    #[error("metadata key {key} has a bool of {value}, expected 0 or 1; the file is damaged")]
    Bool { key: Quoted, value: u8 },
    #[error("metadata key {key}: expected {expected}, found {found}")]
    WrongType { key: Quoted, expected: &'static str, found: String },
    #[error("metadata key {key}: {value} does not fit {expected}")]
    OutOfRange { key: Quoted, value: String, expected: &'static str },
    #[error(
        "metadata key {key} is missing; the file is not a model of the expected kind or was converted incompletely"
    )]
    MissingKey { key: Quoted },
    #[error("general.alignment is {0}, expected a power of two; the file is damaged")]
    Alignment(u32),
    #[error("tensor {tensor} occurs twice; the file was written by a faulty tool")]
    DuplicateTensor { tensor: Quoted },
    #[error("tensor {tensor} is missing; the file is not a model of the expected kind or was converted incompletely")]
    MissingTensor { tensor: Quoted },
    #[error("tensor {tensor} has {rank} dimensions, expected 1 to 4")]
    Rank { tensor: Quoted, rank: u32 },
    #[error("tensor {tensor}: dimension {axis} is 0; the file is damaged")]
    ZeroDimension { tensor: Quoted, axis: usize },
    #[error("tensor {tensor}: the size of shape {shape} overflows; the file is damaged")]
    SizeOverflow { tensor: Quoted, shape: String },
    #[error("tensor {tensor}: rows of {row} values are not whole {format} blocks of {block}; the file is damaged")]
    RowLength { tensor: Quoted, row: usize, format: &'static str, block: usize },
    #[error("tensor {tensor}: offset {offset} is not a multiple of the alignment {alignment}; the file is damaged")]
    Misaligned { tensor: Quoted, offset: u64, alignment: u64 },
    #[error("tensor {tensor} needs bytes {start} to {end}, the file has {size}; truncated? fetch it again")]
    TensorOutside { tensor: Quoted, start: u64, end: u64, size: u64 },
    #[error(
        "tensor {tensor} has ggml type {id} ({}), which cannot be read; take a file of this model at {instead} instead",
        name.unwrap_or("unknown")
    )]
    UnsupportedType { tensor: Quoted, id: u32, name: Option<&'static str>, instead: &'static str },
    #[error("part {part} of {count} of this split model is missing: {} not found; put all parts in one folder", missing.display())]
    SplitMissing { part: u32, count: u32, missing: PathBuf },
    #[error("this is part {part} of {count} of a split model, so its name must end in {expected}; rename it back")]
    SplitName { part: u32, count: u32, expected: String },
    #[error("{key} is {found}, expected {expected}; the parts belong to different models or the file is damaged")]
    SplitMismatch { key: &'static str, found: u64, expected: u64 },
    #[error("the parts hold {found} tensors together, split.tensors.count says {expected}; fetch the parts again")]
    SplitTensors { found: u64, expected: u64 },
    #[error("this is one part of {count} of a split model; open it by its path")]
    SplitInMemory { count: u32 },
}

impl GgufProblem {
    pub(super) fn at(self, path: &Path) -> GgufError {
        GgufError { path: path.to_owned(), problem: Box::new(self) }
    }
}

impl From<io::Error> for GgufProblem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => GgufProblem::NotFound,
            io::ErrorKind::PermissionDenied => GgufProblem::PermissionDenied,
            io::ErrorKind::IsADirectory => GgufProblem::Directory,
            _ => GgufProblem::Io(error),
        }
    }
}

/// A name out of a file as messages show it: in quotes, control characters escaped, cut after 80 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    pub(crate) fn new(name: &str) -> Self {
        const SHOWN: usize = 80;
        let mut shown: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if name.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        Quoted(shown)
    }

    /// The name without its quotes, as shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_keep_their_meaning() {
        let says = |kind: io::ErrorKind| GgufProblem::from(io::Error::from(kind)).at(Path::new("m.gguf")).to_string();
        assert!(says(io::ErrorKind::NotFound).starts_with("m.gguf: no such file"));
        assert!(says(io::ErrorKind::PermissionDenied).contains("no permission"));
        assert!(says(io::ErrorKind::IsADirectory).contains("directory"));
        assert!(says(io::ErrorKind::Other).contains("cannot read the file"));
    }

    #[test]
    fn names_are_escaped_and_cut() {
        assert_eq!(Quoted::new("a\n\u{1b}[31m").to_string(), r#""a\n\u{1b}[31m""#);
        assert_eq!(Quoted::new(&"é".repeat(100)).as_str().chars().count(), 81);
        assert_eq!(Quoted::new(&"é".repeat(80)).as_str(), "é".repeat(80));
    }
}
