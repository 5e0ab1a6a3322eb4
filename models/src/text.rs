//! Text files as people have them: UTF-8, with or without a byte order mark in front.

/// The byte order mark in UTF-8, which Windows programs put in front of a text. It is no part of it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Why bytes are no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// They begin with the byte order mark of UTF-16.
    #[error(
        "this is UTF-16, as PowerShell 5 writes it with `>`: make it UTF-8, for instance with `iconv -f UTF-16 -t UTF-8`, \
         or in PowerShell with `Set-Content -Encoding utf8`"
    )]
    Utf16,
    /// They are not valid UTF-8.
    #[error("byte {at} is not valid UTF-8")]
    NotUtf8 {
        /// The first byte that is not, from 1.
        at: usize,
    },
}

/// The beginning of an input without its byte order mark, if it has one.
///
/// # Errors
/// When the mark is that of UTF-16.
pub fn without_mark(bytes: &[u8]) -> Result<&[u8], TextError> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(TextError::Utf16),
        _ => Ok(bytes.strip_prefix(MARK).unwrap_or(bytes)),
    }
}

/// Bytes as text; a byte order mark is looked for elsewhere.
///
/// # Errors
/// When they are not valid UTF-8.
pub fn utf8(bytes: &[u8]) -> Result<&str, TextError> {
    std::str::from_utf8(bytes).map_err(|error| TextError::NotUtf8 { at: error.valid_up_to() + 1 })
}

/// A whole text, without its byte order mark.
///
/// # Errors
/// When it is no UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, TextError> {
    utf8(without_mark(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_dropped_once_and_at_the_beginning() {
        assert_eq!(decode(b"\xef\xbb\xbfa\xef\xbb\xbfb"), Ok("a\u{feff}b"));
        assert_eq!(decode(b"\xef\xbb\xbf\xef\xbb\xbf"), Ok("\u{feff}"));
        assert_eq!(decode(b"a"), Ok("a"));
        assert_eq!(decode(b"\xef\xbb"), Err(TextError::NotUtf8 { at: 1 }));
        assert_eq!(decode(b"a\xff\xfe"), Err(TextError::NotUtf8 { at: 2 }));
    }

    #[test]
    fn utf16_is_called_by_its_name() {
        for bytes in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a"] {
            let said = decode(bytes).unwrap_err().to_string();
            assert!(said.contains("UTF-16") && said.contains("iconv"), "{said}");
        }
    }
}
