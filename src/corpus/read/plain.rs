//! Texts and nothing else: lines, whole files, and what ends with a zero byte.

use crate::corpus::lines::{LineError, Lines};
use crate::corpus::pieces::Pieces;
use crate::corpus::read::error::{ReadError, ReadProblem, RowError, RowProblem};
use crate::corpus::read::pick::{Fields, Picker};
use crate::corpus::read::reader::{Input, Item, Origin, Reader};
use crate::corpus::row::{Place, Row, Unit, Value};
use qembed_models::text::{decode, utf8};
use qembed_models::tokenizer::MAX_TEXT_BYTES;
use std::io::Read;

/// The name under which a template or a column finds the text.
pub(super) const TEXT: &str = "text";
/// The name of the file's path, where a file is a text.
const PATH: &str = "path";

/// A text, and perhaps where it lies.
pub(super) struct Plain {
    pub(super) text: String,
    pub(super) path: Option<String>,
}

impl Fields for Plain {
    fn value(&self, name: &str) -> Result<Option<Value>, RowProblem> {
        Ok(match name {
            TEXT => Some(Value::Text(self.text.clone())),
            PATH => self.path.clone().map(Value::Text),
            _ => None,
        })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        [TEXT].into_iter().chain(self.path.as_ref().map(|_| PATH))
    }

    fn plain(&self) -> Option<&str> {
        Some(&self.text)
    }
}

/// A line is a text.
pub(super) struct LineReader {
    origin: Origin,
    lines: Lines<Input>,
    read: u64,
}

impl LineReader {
    pub(super) fn new((origin, input): (Origin, Input)) -> Self {
        Self { origin, lines: Lines::new(input), read: 0 }
    }
}

impl Reader for LineReader {
    fn next(&mut self, picker: &mut Picker) -> Option<Item> {
        let line = self.lines.next()?;
        self.read += 1;
        let place = self.origin.place(self.read, Unit::Line);
        let bad = |problem| Ok(Err(RowError { place: place.clone(), problem }));
        Some(match line {
            Ok(text) => Ok(picker.pick(&place, &Plain { text, path: None })),
            Err(LineError::Read(error)) => Err(self.origin.failed(error)),
            Err(LineError::Encoding(error)) => Err(self.origin.error(ReadProblem::Encoding(error))),
            Err(LineError::NotUtf8 { source, .. }) => bad(RowProblem::Encoding { column: None, source }),
            Err(LineError::TooLong { limit, .. }) => bad(RowProblem::TooLong { limit }),
        })
    }
}

/// A text ends with a zero byte.
pub(super) struct NulReader {
    origin: Origin,
    pieces: Pieces<Input>,
    read: u64,
}

impl NulReader {
    pub(super) fn new((origin, input): (Origin, Input)) -> Self {
        Self { origin, pieces: Pieces::new(input, 0, MAX_TEXT_BYTES), read: 0 }
    }
}

impl Reader for NulReader {
    fn next(&mut self, picker: &mut Picker) -> Option<Item> {
        let piece = match self.pieces.next().transpose()? {
            Ok(piece) => piece,
            Err(error) => return Some(Err(self.origin.failed(error))),
        };
        self.read += 1;
        let place = self.origin.place(self.read, Unit::Row);
        let text = match piece {
            Ok(bytes) => utf8(bytes).map(str::to_owned).map_err(|source| RowProblem::Encoding { column: None, source }),
            Err(_) => Err(RowProblem::TooLong { limit: MAX_TEXT_BYTES }),
        };
        Some(Ok(picked(picker, place, text, None)))
    }
}

/// All is one text.
pub(super) struct WholeReader {
    origin: Origin,
    input: Option<Input>,
}

impl WholeReader {
    pub(super) fn new((origin, input): (Origin, Input)) -> Self {
        Self { origin, input: Some(input) }
    }

    fn read(&self, input: Input) -> Result<Result<String, RowProblem>, ReadError> {
        let mut bytes = Vec::new();
        input.take(MAX_TEXT_BYTES as u64 + 4).read_to_end(&mut bytes).map_err(|error| self.origin.failed(error))?;
        if bytes.len() > MAX_TEXT_BYTES {
            return Ok(Err(RowProblem::TooLong { limit: MAX_TEXT_BYTES }));
        }
        let text = decode(&bytes).map(str::to_owned);
        Ok(text.map_err(|source| RowProblem::Encoding { column: None, source }))
    }
}

impl Reader for WholeReader {
    fn next(&mut self, picker: &mut Picker) -> Option<Item> {
        let input = self.input.take()?;
        let text = self.read(input);
        let path = self.origin.shown.to_string_lossy().into_owned();
        let place = self.origin.place(1, Unit::Whole);
        Some(text.map(|text| picked(picker, place, text, Some(path))))
    }
}

fn picked(
    picker: &mut Picker,
    place: Place,
    text: Result<String, RowProblem>,
    path: Option<String>,
) -> Result<Row, RowError> {
    match text {
        Ok(text) => picker.pick(&place, &Plain { text, path }),
        Err(problem) => Err(RowError { place, problem }),
    }
}

/// The columns of such a file.
pub(super) fn columns(whole: bool) -> Vec<String> {
    let path = whole.then_some(PATH);
    [TEXT].into_iter().chain(path).map(str::to_owned).collect()
}
