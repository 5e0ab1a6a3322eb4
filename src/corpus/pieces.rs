//! An input cut at a byte, in bounded memory.

use std::io::{self, BufRead, Read};

/// The pieces of an input, each without the byte at which it ends, and for lines without the CR before that.
pub(crate) struct Pieces<R> {
    input: R,
    end: u8,
    /// The most bytes of a piece.
    limit: usize,
    piece: Vec<u8>,
}

/// A piece has more bytes than it may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl<R: BufRead> Pieces<R> {
    /// Pieces that end with `end`, or with the input, and have at most `limit` bytes.
    pub(crate) fn new(input: R, end: u8, limit: usize) -> Self {
        Self { input, end, limit, piece: Vec::new() }
    }

    /// The next piece; one that is too long is passed over. `None` at the end of the input: after a last `end` there is no
    /// piece.
    ///
    /// # Errors
    /// When the input cannot be read on.
    pub(crate) fn next(&mut self) -> io::Result<Option<Result<&[u8], TooLong>>> {
        self.piece.clear();
        // Room for CR and LF.
        let most = self.limit as u64 + 2;
        if self.input.by_ref().take(most).read_until(self.end, &mut self.piece)? == 0 {
            return Ok(None);
        }
        let mut piece = self.piece.as_slice();
        match piece.strip_suffix(&[self.end]) {
            Some(whole) => piece = whole,
            None if piece.len() as u64 == most => {
                self.input.skip_until(self.end)?;
            }
            None => (),
        }
        if self.end == b'\n' {
            piece = piece.strip_suffix(b"\r").unwrap_or(piece);
        }
        Ok(Some(if piece.len() > self.limit { Err(TooLong) } else { Ok(piece) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(input: &[u8], end: u8) -> Vec<String> {
        let mut pieces = Pieces::new(input, end, 4);
        let mut found = Vec::new();
        while let Some(piece) = pieces.next().unwrap() {
            found.push(piece.map_or("!".into(), |piece| String::from_utf8(piece.into()).unwrap()));
        }
        found
    }

    #[test]
    fn a_long_piece_is_passed_over_as_a_whole() {
        assert_eq!(pieces(b"abcd\nabcde\nabcd\r\nabcde\r\na\n\n", b'\n'), ["abcd", "!", "abcd", "!", "a", ""]);
        assert_eq!(pieces(b"abcdefghijklmnop\nabcdef\nb\nabcdefg", b'\n'), ["!", "!", "b", "!"]);
        assert_eq!(pieces(b"abcd\r", b'\n'), ["abcd"]);
        assert_eq!(pieces(b"a\nb\0\0abcde\0c\r\0\0", 0), ["a\nb", "", "!", "c\r", ""]);
    }
}
