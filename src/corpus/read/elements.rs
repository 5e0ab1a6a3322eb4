//! The elements of a JSON array, one after the other, in bounded memory.

use crate::corpus::pieces::TooLong;
use std::io::{self, BufRead};

/// Cuts an array into its elements, by brackets, commas and quotation marks alone: what an element is, others find out.
pub(super) struct Elements<R> {
    input: R,
    /// The most bytes of an element.
    limit: usize,
    element: Vec<u8>,
    /// Lines and bytes of the last one before what comes next.
    line: u64,
    column: u64,
    /// Where the element begins.
    start: (u64, u64),
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first element.
    First,
    /// Before another element.
    Next,
    /// Behind the array.
    Behind,
}

/// What comes next in an array.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Element<'a> {
    /// An element, with white space around it.
    Whole(Result<&'a [u8], TooLong>),
    /// The array is at its end.
    End,
    /// The input is at its end, but not the array.
    Open,
    /// Something stands behind the array.
    Behind,
}

impl<R: BufRead> Elements<R> {
    /// The array's opening bracket is read already, `line` lines and then `column` bytes from the beginning.
    pub(super) fn new(input: R, limit: usize, (line, column): (u64, u64)) -> Self {
        Self { input, limit, element: Vec::new(), line, column, start: (line, column), state: State::First }
    }

    /// Where the last element begins: lines before it, and bytes of its first line before it.
    pub(super) fn start(&self) -> (u64, u64) {
        self.start
    }

    pub(super) fn next(&mut self) -> io::Result<Element<'_>> {
        let first = match self.state {
            State::First => true,
            State::Next => false,
            State::Behind => return self.behind(),
        };
        self.element.clear();
        let (mut depth, mut quoted, mut escaped, mut blank, mut long) = (0u64, false, false, true, false);
        self.start = (self.line, self.column);
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(Element::Open);
            }
            let mut end = None;
            for (at, byte) in chunk.iter().enumerate() {
                if blank && !byte.is_ascii_whitespace() {
                    self.start = (self.line, self.column);
                }
                self.column += 1;
                match byte {
                    b'\n' => (self.line, self.column) = (self.line + 1, 0),
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    _ if quoted => (),
                    b'[' | b'{' => depth += 1,
                    b',' | b']' if depth == 0 => {
                        end = Some(at);
                        break;
                    }
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => (),
                }
                blank &= byte.is_ascii_whitespace();
            }
            let part = &chunk[..end.unwrap_or(chunk.len())];
            long |= self.element.len() + part.len() > self.limit;
            // What precedes an element is none of it, so that places within it count from its beginning.
            let part = if self.element.is_empty() { part.trim_ascii_start() } else { part };
            if !long {
                self.element.extend_from_slice(part);
            }
            let Some(at) = end else {
                let read = chunk.len();
                self.input.consume(read);
                continue;
            };
            let last = chunk[at] == b']';
            self.input.consume(at + 1);
            self.state = if last { State::Behind } else { State::Next };
            if last && first && blank {
                return self.behind();
            }
            return Ok(Element::Whole(if long { Err(TooLong) } else { Ok(&self.element) }));
        }
    }

    /// Looks whether nothing but white space follows.
    fn behind(&mut self) -> io::Result<Element<'_>> {
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(Element::End);
            }
            let blank = chunk.len() - chunk.trim_ascii_start().len();
            self.line += chunk[..blank].iter().filter(|byte| **byte == b'\n').count() as u64;
            if blank < chunk.len() {
                self.start = (self.line, 0);
                return Ok(Element::Behind);
            }
            self.input.consume(blank);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    /// Each element and where it begins, read in steps of so many bytes.
    fn elements(json: &str, step: usize) -> Vec<String> {
        let mut elements = Elements::new(BufReader::with_capacity(step, json.as_bytes()), 20, (0, 1));
        let mut found = Vec::new();
        loop {
            let (text, end) = match elements.next().unwrap() {
                Element::Whole(Ok(bytes)) => (String::from_utf8(bytes.into()).unwrap(), false),
                Element::Whole(Err(TooLong)) => ("too long".into(), false),
                other => (format!("{other:?}"), true),
            };
            let (line, column) = elements.start();
            found.push(format!("{line}:{column} {text}"));
            if end {
                return found;
            }
        }
    }

    #[test]
    fn an_array_falls_apart_at_its_own_commas() {
        for step in [1, 2, 7, 100] {
            assert_eq!(
                elements("1, [2,\n{\"a,]\":3}] ,\n \"4,\\\"]\" ]\n ", step),
                ["0:1 1", "0:4 [2,\n{\"a,]\":3}] ", "2:1 \"4,\\\"]\" ", "2:1 End"]
            );
            assert_eq!(elements(" \n]", step), ["1:0 End"]);
            assert_eq!(elements("1,]", step), ["0:1 1", "0:3 ", "0:3 End"]);
            assert_eq!(elements("[},2]", step), ["0:1 [}", "0:4 2", "0:4 End"]);
        }
    }

    #[test]
    fn what_is_too_long_or_open_or_behind_is_told() {
        for step in [1, 2, 7, 100] {
            assert_eq!(elements("\"0123456789012345678\",2]", step), ["0:1 too long", "0:23 2", "0:23 End"]);
            assert_eq!(elements("1,\n [2, 3", step), ["0:1 1", "1:1 Open"]);
            assert_eq!(elements("1]\n\n,2", step), ["0:1 1", "2:0 Behind"]);
        }
    }
}
