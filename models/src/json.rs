//! JSON files as people have them: with a byte order mark, in another encoding, or not fetched from Git LFS.

use crate::text::{TextError, without_mark};
use serde_json::Value;

/// How a Git LFS pointer begins, which stands in for a file that was not fetched.
const POINTER: &[u8] = b"version https://git-lfs";

/// Why a file holds no JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It only stands in for the file.
    #[error("{0}")]
    Pointer(#[from] GitLfsPointer),
    /// It is in another encoding.
    #[error("{0}")]
    Text(#[from] TextError),
    /// It is malformed.
    #[error("not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
}

/// A file that only stands in for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is a Git LFS pointer, fetch the file itself with `git lfs pull`")]
pub struct GitLfsPointer;

impl GitLfsPointer {
    /// Refuses the bytes of a pointer.
    pub(crate) fn refuse(bytes: &[u8]) -> Result<(), Self> {
        if bytes.starts_with(POINTER) { Err(Self) } else { Ok(()) }
    }
}

/// The value of a JSON file in UTF-8; a byte order mark at its start is no part of it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    GitLfsPointer::refuse(bytes)?;
    Ok(serde_json::from_slice(without_mark(bytes)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_as_people_have_them() {
        assert_eq!(parse(b"{\"a\":\"\xef\xbb\xbf\"}").unwrap()["a"], "\u{feff}");
        assert_eq!(parse(b"\xef\xbb\xbf{}").unwrap(), parse(b" {}\n").unwrap());
        for (bytes, why) in [
            (&b"\xff\xfe{\0}\0"[..], "UTF-16"),
            (b"\xfe\xff\0{\0}", "UTF-16"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
            (b"\xef\xbb\xbf\xef\xbb\xbf{}", "not JSON"),
            (b"", "not JSON"),
            (b"{\"a\":\"\xff\"}", "not JSON"),
        ] {
            let said = parse(bytes).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
