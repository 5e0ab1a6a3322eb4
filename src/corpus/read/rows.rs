//! The rows of all files, one after the other.

use crate::corpus::read::batch;
use crate::corpus::read::csv::CsvReader;
use crate::corpus::read::error::{ReadError, RowError};
use crate::corpus::read::files::{Files, InputFile};
use crate::corpus::read::format::InputFormat;
use crate::corpus::read::json;
use crate::corpus::read::json_lines::JsonLines;
use crate::corpus::read::object;
use crate::corpus::read::parquet::ParquetReader;
use crate::corpus::read::pick::Picker;
use crate::corpus::read::plain::{LineReader, NulReader, WholeReader, columns};
use crate::corpus::read::reader::{Item, Reader};
use crate::corpus::read::source::Source;
use crate::corpus::read::unpack::{open, open_text};
use crate::corpus::row::{Row, Value};
use std::sync::Arc;

/// The rows of [`Files`], in memory that does not depend on their number.
///
/// An item is a row; or, within `Ok`, why one is bad, after which the next row comes; or why a file has no more rows, after
/// which the next file comes. Bad rows have numbers, too, so that those of the others do not depend on them.
pub struct Rows {
    source: Arc<Source>,
    files: std::vec::IntoIter<InputFile>,
    open: Option<Box<dyn Reader>>,
    picker: Picker,
    number: i64,
}

impl Files {
    /// The rows, from the first: the same ones each time, as long as no file changes.
    pub fn rows(&self) -> Rows {
        let source = self.source.clone();
        let picker = match source.format {
            Some(InputFormat::OpenAiBatch) => Picker::with_columns(source.clone(), batch::COLUMNS),
            _ => Picker::new(source.clone()),
        };
        Rows { source, files: self.list().to_vec().into_iter(), open: None, picker, number: 0 }
    }
}

impl Rows {
    /// The columns that are kept, as far as they are known: those that were asked for; where all are, those met so far. A
    /// row has values for the first of them, as many as were known when it was read; it is null in the others.
    pub fn columns(&self) -> &[String] {
        self.picker.columns()
    }

    /// Fields that were asked for, but that no row so far has: columns to keep, and that of the instruction.
    pub fn unseen(&self) -> Vec<&str> {
        self.picker.unseen()
    }

    /// Opens a file. `None` if it cannot have rows.
    fn open(&self, file: &InputFile) -> Result<Option<Box<dyn Reader>>, ReadError> {
        let (path, shown) = (&file.path, &file.shown);
        let text = || open_text(path, shown);
        let plain = |whole| self.picker.check(&columns(whole)).map_err(|problem| ReadError::new(shown, problem));
        let separated = |separator| {
            let reader = CsvReader::open(text()?, separator, &self.picker)?;
            Ok(reader.map(|reader| Box::new(reader) as Box<dyn Reader>))
        };
        Ok(Some(match file.format {
            InputFormat::Lines => {
                plain(false)?;
                Box::new(LineReader::new(open(path, shown)?))
            }
            InputFormat::Nul => {
                plain(false)?;
                Box::new(NulReader::new(text()?))
            }
            InputFormat::Whole => {
                plain(true)?;
                Box::new(WholeReader::new(open(path, shown)?))
            }
            InputFormat::JsonLines => {
                Box::new(JsonLines::new(text()?, |json, place, picker| object::row(json, place, None, picker)))
            }
            InputFormat::OpenAiBatch => Box::new(JsonLines::new(text()?, batch::row)),
            InputFormat::Json => json::open(text()?)?,
            InputFormat::Csv => return separated(self.source.separator.unwrap_or(b',')),
            InputFormat::Tsv => return separated(b'\t'),
            InputFormat::Parquet => Box::new(ParquetReader::open(path, shown, &self.source, &self.picker)?),
        }))
    }

    /// A row with its number, if it has no other name.
    fn numbered(&mut self, mut row: Result<Row, RowError>) -> Result<Row, RowError> {
        if let Ok(row) = &mut row
            && matches!(row.id, Value::Null)
        {
            row.id = Value::Int(self.number);
        }
        self.number += 1;
        row
    }
}

impl Iterator for Rows {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(reader) = &mut self.open {
                match reader.next(&mut self.picker) {
                    Some(Ok(row)) => return Some(Ok(self.numbered(row))),
                    Some(Err(error)) => {
                        self.open = None;
                        return Some(Err(error));
                    }
                    None => self.open = None,
                }
            }
            let file = self.files.next()?;
            match self.open(&file) {
                Ok(reader) => self.open = reader,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
