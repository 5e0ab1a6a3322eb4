//! An array of JSON objects or strings.

use crate::corpus::read::elements::{Element, Elements};
use crate::corpus::read::error::{ReadError, ReadProblem, RowError, RowProblem};
use crate::corpus::read::json_lines::JsonLines;
use crate::corpus::read::object;
use crate::corpus::read::pick::Picker;
use crate::corpus::read::reader::{Input, Item, MAX_ROW_BYTES, Origin, Reader};
use crate::corpus::read::value::json_kind;
use crate::corpus::row::Unit;
use qembed_models::text::utf8;
use std::io::{BufRead, Cursor, Read};

/// The elements of an array.
struct ArrayReader {
    origin: Origin,
    elements: Elements<Input>,
    read: u64,
}

/// Reads an array; or, as many files have it under the same name, an object or a string a line.
pub(super) fn open((origin, mut input): (Origin, Input)) -> Result<Box<dyn Reader>, ReadError> {
    let mut blank = Vec::new();
    let first = loop {
        let chunk = input.fill_buf().map_err(|error| origin.failed(error))?;
        let rest = chunk.trim_ascii_start();
        blank.extend_from_slice(&chunk[..chunk.len() - rest.len()]);
        let (first, read, end) = (rest.first().copied(), chunk.len() - rest.len(), chunk.is_empty());
        input.consume(read);
        if first.is_some() || end {
            break first;
        }
        if blank.len() > MAX_ROW_BYTES {
            return Err(origin.error(ReadProblem::NotAnArray { found: json_kind("") }));
        }
    };
    match first {
        Some(b'[') => {
            input.consume(1);
            let line = blank.iter().filter(|byte| **byte == b'\n').count();
            let column = 1 + blank.iter().rev().take_while(|byte| **byte != b'\n').count();
            let elements = Elements::new(input, MAX_ROW_BYTES, (line as u64, column as u64));
            Ok(Box::new(ArrayReader { origin, elements, read: 0 }))
        }
        None | Some(b'{' | b'"') => {
            let whole: Input = Box::new(Cursor::new(blank).chain(input));
            Ok(Box::new(JsonLines::new((origin, whole), |json, place, picker| object::row(json, place, None, picker))))
        }
        Some(other) => {
            let found = json_kind(char::from(other).encode_utf8(&mut [0; 4]));
            Err(origin.error(ReadProblem::NotAnArray { found }))
        }
    }
}

impl Reader for ArrayReader {
    fn next(&mut self, picker: &mut Picker) -> Option<Item> {
        let element = match self.elements.next() {
            Ok(Element::Whole(Ok(bytes))) => Ok(bytes.to_vec()),
            Ok(Element::Whole(Err(_))) => Err(RowProblem::TooLong { limit: MAX_ROW_BYTES }),
            Ok(Element::End) => return None,
            Ok(Element::Open) => {
                let problem = ReadProblem::OpenArray { row: self.read + 1, line: self.elements.start().0 + 1 };
                return Some(Err(self.origin.error(problem)));
            }
            Ok(Element::Behind) => {
                let problem = ReadProblem::AfterArray { line: self.elements.start().0 + 1 };
                return Some(Err(self.origin.error(problem)));
            }
            Err(error) => return Some(Err(self.origin.failed(error))),
        };
        self.read += 1;
        let place = self.origin.place(self.read, Unit::Row);
        let start = Some(self.elements.start());
        Some(Ok(match element.as_deref().map(utf8) {
            Ok(Ok(json)) => object::row(json, &place, start, picker),
            Ok(Err(source)) => Err(RowError { place, problem: RowProblem::Encoding { column: None, source } }),
            Err(_) => Err(RowError { place, problem: RowProblem::TooLong { limit: MAX_ROW_BYTES } }),
        }))
    }
}
