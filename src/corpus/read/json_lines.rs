//! A line is a JSON object, or a string.

use crate::corpus::pieces::Pieces;
use crate::corpus::read::error::{RowError, RowProblem};
use crate::corpus::read::pick::Picker;
use crate::corpus::read::reader::{Input, Item, MAX_ROW_BYTES, Origin, Reader};
use crate::corpus::row::{Place, Row, Unit};
use qembed_models::text::utf8;

/// Makes a row of a line.
pub(super) type Parse = fn(&str, &Place, &mut Picker) -> Result<Row, RowError>;

/// Lines that are not blank.
pub(super) struct JsonLines {
    origin: Origin,
    lines: Pieces<Input>,
    read: u64,
    parse: Parse,
}

impl JsonLines {
    pub(super) fn new((origin, input): (Origin, Input), parse: Parse) -> Self {
        Self { origin, lines: Pieces::new(input, b'\n', MAX_ROW_BYTES), read: 0, parse }
    }
}

impl Reader for JsonLines {
    fn next(&mut self, picker: &mut Picker) -> Option<Item> {
        loop {
            let line = match self.lines.next().transpose()? {
                Ok(line) => line,
                Err(error) => return Some(Err(self.origin.failed(error))),
            };
            self.read += 1;
            if line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()) {
                continue;
            }
            let place = self.origin.place(self.read, Unit::Line);
            let problem = match line.map(utf8) {
                Ok(Ok(line)) => return Some(Ok((self.parse)(line, &place, picker))),
                Ok(Err(source)) => RowProblem::Encoding { column: None, source },
                Err(_) => RowProblem::TooLong { limit: MAX_ROW_BYTES },
            };
            return Some(Ok(Err(RowError { place, problem })));
        }
    }
}
