//! A text a line.

use crate::corpus::pieces::{Pieces, TooLong};
use qembed_models::text::{TextError, utf8, without_mark};
use qembed_models::tokenizer::MAX_TEXT_BYTES;
use std::io::{self, BufRead};

/// The lines of an input as they come, without their ends (LF or CRLF) and without the byte order mark of the first.
///
/// Blank lines (nothing, or a CR alone) come as empty texts, save those at the very end of the input: they are no lines.
pub struct Lines<R> {
    lines: Pieces<R>,
    /// Lines read.
    read: usize,
    /// Blank lines that may be the last ones, and so wait for what follows them: here it is.
    blank: usize,
    next: Option<Result<String, LineError>>,
}

/// Why a line is no text. Lines count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// The input cannot be read on.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The input is in another encoding.
    #[error(transparent)]
    Encoding(TextError),
    /// A line is not valid UTF-8.
    #[error("line {line}: {source}")]
    NotUtf8 {
        /// Which.
        line: usize,
        /// Where.
        source: TextError,
    },
    /// A line is longer than a text can be.
    #[error("line {line}: more than {limit} bytes, which no text may have")]
    TooLong {
        /// Which.
        line: usize,
        /// The most bytes of a text.
        limit: usize,
    },
}

impl<R: BufRead> Lines<R> {
    /// Reads from the input's beginning.
    pub fn new(input: R) -> Self {
        Self { lines: Pieces::new(input, b'\n', MAX_TEXT_BYTES), read: 0, blank: 0, next: None }
    }

    /// The next line, blank or not; `None` at the end.
    fn read_line(&mut self) -> Result<Option<String>, LineError> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        self.read += 1;
        let mut text = line.map_err(|TooLong| LineError::TooLong { line: self.read, limit: MAX_TEXT_BYTES })?;
        if self.read == 1 {
            text = without_mark(text).map_err(LineError::Encoding)?;
        }
        let text = utf8(text).map_err(|source| LineError::NotUtf8 { line: self.read, source })?;
        Ok(Some(text.to_owned()))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<String, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next.is_none() {
            match self.read_line().transpose()? {
                Ok(line) if line.is_empty() => self.blank += 1,
                other => self.next = Some(other),
            }
        }
        if self.blank > 0 {
            self.blank -= 1;
            return Some(Ok(String::new()));
        }
        self.next.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each line its text, or what is wrong.
    fn lines(input: &[u8]) -> Vec<String> {
        Lines::new(input).map(|line| line.unwrap_or_else(|error| format!("! {error}"))).collect()
    }

    #[test]
    fn ends_of_lines_are_none_of_theirs() {
        assert_eq!(lines(b"a\nb \r\n\rc\r\r\n d"), ["a", "b ", "\rc\r", " d"]);
        assert_eq!(lines(b""), [""; 0]);
    }

    #[test]
    fn blank_lines_are_texts_but_for_the_last() {
        assert_eq!(lines(b"\na\n\r\n\n \nb\n\n\r\n\r"), ["", "a", "", "", " ", "b"]);
        for input in [&b"\n"[..], b"\r\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"] {
            assert_eq!(lines(input), [""; 0], "{input:?}");
        }
    }

    #[test]
    fn a_mark_is_dropped_at_the_beginning_only() {
        assert_eq!(lines(b"\xef\xbb\xbfa\n\xef\xbb\xbfb"), ["a", "\u{feff}b"]);
    }

    #[test]
    fn what_is_no_text_is_named_after_what_is() {
        assert_eq!(lines(b"a\n\nab\xff\n"), ["a", "", "! line 3: byte 3 is not valid UTF-8"]);
        assert!(lines(b"\xff\xfea\0\n\0")[0].starts_with("! this is UTF-16"));
    }
}
