//! Fields with separators between them (RFC 4180), below a row that names them.
//!
//! The splitting is csv-core's; what is read around it here tells on which line a row begins, and that a quotation mark is
//! not closed, neither of which the csv crate does.

use crate::corpus::read::error::{ReadError, ReadProblem, RowError, RowProblem};
use crate::corpus::read::pick::{Fields, Picker};
use crate::corpus::read::reader::{Input, Item, MAX_ROW_BYTES, Origin, Reader};
use crate::corpus::row::{Unit, Value};
use csv_core::ReadRecordResult;
use qembed_models::text::{TextError, utf8};
use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;

/// The rows below the first.
pub(super) struct CsvReader {
    records: Records,
    header: Vec<String>,
    /// Where in the header a name stands.
    at: HashMap<String, usize>,
}

/// The rows of a file, whatever is in them.
struct Records {
    origin: Origin,
    input: Input,
    core: csv_core::Reader,
    limit: usize,
    /// Lines that are read.
    lines: u64,
    /// The fields of the last row, one after the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// How many of `ends` are the last row's.
    count: usize,
}

impl CsvReader {
    /// Reads the first row. `None` if there is none.
    pub(super) fn open(
        (origin, input): (Origin, Input),
        separator: u8,
        picker: &Picker,
    ) -> Result<Option<Self>, ReadError> {
        let core = csv_core::ReaderBuilder::new().delimiter(separator).build();
        let mut records = Records {
            origin,
            input,
            core,
            limit: MAX_ROW_BYTES,
            lines: 0,
            bytes: vec![0; 4096],
            ends: vec![0; 64],
            count: 0,
        };
        if records.next()?.is_none() {
            return Ok(None);
        }
        let names: Result<Vec<String>, TextError> =
            (0..records.count).map(|field| records.field(field).map(str::to_owned)).collect();
        let header = names.map_err(|error| records.origin.error(ReadProblem::Encoding(error)))?;
        picker.check(&header).map_err(|problem| records.origin.error(problem))?;
        let at = header.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        Ok(Some(Self { records, header, at }))
    }
}

impl Records {
    /// Reads a row, and tells on which line it begins.
    fn next(&mut self) -> Result<Option<u64>, ReadError> {
        if self.skip_blank()? {
            return Ok(None);
        }
        let line = self.lines + 1;
        let (mut written, mut count) = (0, 0);
        loop {
            let chunk = self.input.fill_buf().map_err(|error| self.origin.failed(error))?;
            let at_end = chunk.is_empty();
            // A newline ends the last row, unless it is within quotation marks.
            let bytes = if at_end { &b"\n"[..] } else { chunk };
            let (result, read, wrote, ended) =
                self.core.read_record(bytes, &mut self.bytes[written..], &mut self.ends[count..]);
            if !at_end {
                self.lines += bytes[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
                self.input.consume(read);
            }
            (written, count) = (written + wrote, count + ended);
            if written > self.limit {
                return Err(self.origin.error(ReadProblem::EndlessRow { line, limit: self.limit }));
            }
            match result {
                ReadRecordResult::InputEmpty if at_end => {
                    return Err(self.origin.error(ReadProblem::OpenQuote { line }));
                }
                ReadRecordResult::InputEmpty => (),
                ReadRecordResult::OutputFull => self.bytes.resize(2 * self.bytes.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record => {
                    self.count = count;
                    return Ok(Some(line));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Goes to the next line that is not empty; tells whether there is none.
    fn skip_blank(&mut self) -> Result<bool, ReadError> {
        loop {
            let chunk = self.input.fill_buf().map_err(|error| self.origin.failed(error))?;
            if chunk.is_empty() {
                return Ok(true);
            }
            let blank = chunk.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
            self.lines += chunk[..blank].iter().filter(|byte| **byte == b'\n').count() as u64;
            let more = blank < chunk.len();
            self.input.consume(blank);
            if more {
                return Ok(false);
            }
        }
    }

    fn range(&self, field: usize) -> Range<usize> {
        let start = field.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[field]
    }

    fn field(&self, field: usize) -> Result<&str, TextError> {
        utf8(&self.bytes[self.range(field)])
    }
}

impl Reader for CsvReader {
    fn next(&mut self, picker: &mut Picker) -> Option<Item> {
        let line = match self.records.next().transpose()? {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        let place = self.records.origin.place(line, Unit::Line);
        let (expected, found) = (self.header.len(), self.records.count);
        if expected != found {
            return Some(Ok(Err(RowError { place, problem: RowProblem::FieldCount { expected, found } })));
        }
        Some(Ok(picker.pick(&place, self)))
    }
}

impl Fields for CsvReader {
    fn value(&self, name: &str) -> Result<Option<Value>, RowProblem> {
        let Some(at) = self.at.get(name) else { return Ok(None) };
        match self.records.field(*at) {
            Ok(text) => Ok(Some(Value::Text(text.into()))),
            Err(source) => Err(RowProblem::Encoding { column: Some(name.into()), source }),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.header.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;
    use std::path::Path;

    /// The line and the fields of each row, read in steps of so many bytes.
    fn records(text: &'static str, step: usize) -> Vec<String> {
        let mut records = Records {
            origin: Origin { shown: Path::new("x").into(), compression: None },
            input: Box::new(BufReader::with_capacity(step, text.as_bytes())),
            core: csv_core::Reader::new(),
            limit: 20,
            lines: 0,
            bytes: vec![0; 1],
            ends: vec![0; 1],
            count: 0,
        };
        let mut found = Vec::new();
        loop {
            match records.next() {
                Ok(Some(line)) => {
                    let fields: Vec<_> = (0..records.count).map(|field| records.field(field).unwrap()).collect();
                    found.push(format!("{line} {}", fields.join("|")));
                }
                Ok(None) => return found,
                Err(error) => {
                    found.push(error.to_string());
                    return found;
                }
            }
        }
    }

    #[test]
    fn rows_are_named_by_their_first_line() {
        for step in [1, 2, 7, 100] {
            let rows = ["1 a|b", "4 c\n\nd|e\"", "8 |", "9 f"];
            assert_eq!(records("a,b\n\n\n\"c\n\nd\",\"e\"\"\"\n\n,\nf", step), rows);
            let rows = ["1 a|b", "4 c\r\n\r\nd|e\"", "8 |", "9 f"];
            assert_eq!(records("a,b\r\n\r\n\r\n\"c\r\n\r\nd\",\"e\"\"\"\r\n\r\n,\r\nf\r\n", step), rows);
            assert_eq!(records("\n\r\n", step), [""; 0]);
            assert_eq!(records("\"a\"", step), ["1 a"]);
        }
    }

    #[test]
    fn what_never_ends_is_an_error() {
        for step in [1, 2, 7, 100] {
            let open = "x: a quotation mark is not closed, in the row that begins on line 2: its fields end nowhere";
            assert_eq!(records("a,b\nc,\"d\ne,f\n", step), ["1 a|b", open]);
            let long = "x: the row that begins on line 2 has more than 20 bytes: is there a quotation mark that is not closed?";
            assert_eq!(records("a,b\nc,\"d\n0123456789\n0123456789\n", step), ["1 a|b", long]);
        }
    }
}
