//! JSON files as people have them: with a byte order mark, in another encoding, or not fetched from Git LFS.

use crate::text::without_mark;
use serde_json::Value;

/// How a Git LFS pointer begins, which stands in for a file that was not fetched.
const POINTER: &[u8] = b"version https://git-lfs";

/// What to do when a file is a Git LFS pointer, else `None`.
pub(crate) fn git_lfs_pointer(bytes: &[u8]) -> Option<&'static str> {
    bytes.starts_with(POINTER).then_some("it is a Git LFS pointer, fetch the file itself with `git lfs pull`")
}

/// The value of a JSON file in UTF-8; a byte order mark at its start is no part of it.
///
/// # Errors
/// A clause that says what is wrong.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    if let Some(advice) = git_lfs_pointer(bytes) {
        return Err(advice.into());
    }
    let bytes = without_mark(bytes).map_err(|error| error.to_string())?;
    serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))
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
            let said = parse(bytes).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
