//! Apache Parquet: the columns that are asked for, a few rows at a time.

use crate::corpus::read::error::{ReadError, ReadProblem, Role, RowProblem};
use crate::corpus::read::pick::{Fields, Picker};
use crate::corpus::read::reader::{Item, Origin, Reader};
use crate::corpus::read::source::Source;
use crate::corpus::read::template::TextOf;
use crate::corpus::read::unpack::{compression, head};
use crate::corpus::read::value::is_text;
use crate::corpus::row::{Unit, Value};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// With these four bytes a Parquet file begins and ends.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// Rows that are read at once.
const ROWS: u64 = 256;
/// Bytes that they may have, as far as one can tell beforehand.
const BATCH_BYTES: u64 = 8 << 20;

/// The rows of a file.
pub(super) struct ParquetReader {
    origin: Origin,
    batches: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    /// The row of the batch that comes next.
    next: usize,
    /// Rows read before.
    read: u64,
    /// Where in a batch a column stands.
    at: HashMap<String, usize>,
    schema: SchemaRef,
}

impl ParquetReader {
    pub(super) fn open(path: &Path, shown: &Arc<Path>, source: &Source, picker: &Picker) -> Result<Self, ReadError> {
        let origin = Origin { shown: shown.clone(), compression: None };
        let at_path = |problem| origin.error(problem);
        let file = File::open(path).map_err(|error| at_path(ReadProblem::Open(error)))?;
        check_ends(path, &file).map_err(at_path)?;
        let broken = |error| at_path(ReadProblem::Parquet(error));
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(broken)?;
        let schema = builder.schema().clone();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        picker.check(&names).map_err(at_path)?;
        check_types(&schema, source).map_err(at_path)?;

        let asked = |name: &str| {
            let named = [&source.id, &source.instruction].into_iter().flatten().any(|other| other == name);
            named || source.text.fields().any(|field| field == name) || picker.is_kept(name)
        };
        let wanted: Vec<usize> = (0..names.len()).filter(|column| asked(&names[*column])).collect();
        let columns = builder.parquet_schema();
        let mask = ProjectionMask::roots(columns, wanted.iter().copied());
        // The widest group of rows decides.
        let bytes_of_row = builder.metadata().row_groups().iter().map(|group| {
            let leaves = group.columns().iter().enumerate();
            let leaves = leaves.filter(|(leaf, _)| wanted.contains(&columns.get_column_root_idx(*leaf)));
            let bytes: i64 = leaves.map(|(_, column)| column.uncompressed_size()).sum();
            bytes.max(0) as u64 / group.num_rows().max(1) as u64
        });
        let rows = (BATCH_BYTES / bytes_of_row.max().unwrap_or(0).max(1)).clamp(1, ROWS);
        let batches = builder.with_projection(mask).with_batch_size(rows as usize).build().map_err(broken)?;
        let schema = batches.schema();
        let at = schema.fields().iter().enumerate().map(|(at, field)| (field.name().clone(), at)).collect();
        Ok(Self { origin, batches, batch: None, next: 0, read: 0, at, schema })
    }
}

/// Looks at both ends, where it shows that a file is another or has been cut off.
fn check_ends(path: &Path, mut file: &File) -> Result<(), ReadProblem> {
    let head = head(path, 4).map_err(ReadProblem::Read)?;
    if let Some(compression) = compression(&head) {
        return Err(ReadProblem::PackedParquet { compression });
    }
    let mut ends = || {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(4)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok((tail, length))
    };
    match (&head[..], ends().map_err(ReadProblem::Read)?) {
        // Encrypted ones begin and end otherwise, and are refused by who knows them.
        (MAGIC, (tail, length)) if tail == MAGIC && length >= 12 => Ok(()),
        (b"PARE", _) => Ok(()),
        (MAGIC, _) => Err(ReadProblem::NoFooter),
        _ => Err(ReadProblem::NotParquet),
    }
}

/// Whether columns can be what they are asked to be.
fn check_types(schema: &SchemaRef, source: &Source) -> Result<(), ReadProblem> {
    let whole = matches!(source.text, TextOf::Field(_));
    let text = source.text.fields().map(|name| (name, Role::Text));
    let id = source.id.as_deref().map(|name| (name, Role::Id));
    let instruction = source.instruction.as_deref().map(|name| (name, Role::Instruction));
    for (column, wanted) in text.chain(id).chain(instruction) {
        let Ok(field) = schema.field_with_name(column) else { continue };
        let of: &DataType = field.data_type();
        let fits = match wanted {
            Role::Text if whole => is_text(of),
            Role::Instruction => is_text(of),
            _ => !of.is_nested(),
        };
        if !fits {
            return Err(ReadProblem::WrongType { column: column.into(), found: of.to_string(), wanted });
        }
    }
    Ok(())
}

impl Reader for ParquetReader {
    fn next(&mut self, picker: &mut Picker) -> Option<Item> {
        while self.batch.as_ref().is_none_or(|batch| self.next >= batch.num_rows()) {
            match self.batches.next()? {
                Ok(batch) => (self.batch, self.next) = (Some(batch), 0),
                Err(error) => {
                    let problem = ReadProblem::Parquet(ParquetError::External(Box::new(error)));
                    return Some(Err(self.origin.error(problem)));
                }
            }
        }
        self.read += 1;
        let row = picker.pick(&self.origin.place(self.read, Unit::Row), self);
        self.next += 1;
        Some(Ok(row))
    }
}

impl Fields for ParquetReader {
    fn value(&self, name: &str) -> Result<Option<Value>, RowProblem> {
        let cell = |batch: &RecordBatch, at: usize| Value::Cell(batch.column(at).clone(), self.next);
        Ok(self.batch.as_ref().zip(self.at.get(name)).map(|(batch, at)| cell(batch, *at)))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.schema.fields().iter().map(|field| field.name().as_str())
    }
}
