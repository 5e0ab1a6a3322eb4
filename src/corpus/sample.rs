//! Records for tests: columns of every type, vectors that are none of another record's.

use crate::corpus::dtype::Dtype;
use crate::corpus::record::{Chunk, Layout, Record};
use crate::corpus::row::{ColumnType, Columns, Value};
use crate::corpus::write::{OutputFormat, Sink, create};
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, ListArray, TimestampMillisecondArray};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Sample {
    pub(crate) layout: Layout,
    pub(crate) records: Vec<Owned>,
}

/// A record, and what it borrows.
pub(crate) struct Owned {
    pub(crate) row: u64,
    pub(crate) id: Value,
    pub(crate) chunk: Option<Chunk>,
    pub(crate) kept: Vec<Value>,
    pub(crate) vector: Vec<u8>,
}

impl Owned {
    pub(crate) fn record(&self) -> Record<'_> {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&self.row.to_be_bytes());
        let (id, chunk, kept, vector) = (&self.id, self.chunk.as_ref(), &self.kept, &self.vector);
        Record { row: self.row, id, chunk, text: "text", hash, tokens: 3 + self.row, kept, vector }
    }
}

/// A value that is different for every record and place, about as large as one of a unit vector.
pub(crate) fn value(record: u64, i: usize) -> f32 {
    ((record * 31 + i as u64 * 17) % 257) as f32 / 1024.0 - 0.125 + i as f32 * 1e-7
}

/// Records of so many rows; if chunked, of every row its number mod 3, plus one.
pub(crate) fn sample(rows: u64, dimensions: usize, dtype: Dtype, chunked: bool) -> Sample {
    let lists: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]));
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![Some(1_700_000_000_123), None]));
    let columns = [
        ("nothing", ColumnType::Null),
        ("flag", ColumnType::Bool),
        ("count", ColumnType::Int),
        ("score", ColumnType::Float),
        ("title", ColumnType::Text),
        ("tags", ColumnType::Json),
        ("list", ColumnType::Arrow(lists.data_type().clone())),
        ("time", ColumnType::Arrow(times.data_type().clone())),
    ];
    let mut metadata = dtype.metadata(dimensions);
    metadata.push(("qembed.model".into(), "a model".into()));
    let mut records = Vec::new();
    for row in 0..rows {
        let at = row as usize;
        let kept = vec![
            Value::Null,
            if row % 3 == 0 { Value::Null } else { Value::Bool(row % 2 == 0) },
            if row % 5 == 0 { Value::Null } else { Value::Int(row as i64 - 3) },
            if row % 2 == 0 { Value::Int(row as i64) } else { Value::Float(row as f64 / 8.0) },
            if row % 7 == 0 { Value::Int(7) } else { Value::Text(format!("a \"title\",\n{row}")) },
            if row % 4 == 0 { Value::Text("x".into()) } else { Value::Json(format!("[\n{row}, {{\"a\": null}}]")) },
            Value::Cell(lists.clone(), at % 3),
            Value::Cell(times.clone(), at % 2),
        ];
        for number in 0..if chunked { row % 3 + 1 } else { 1 } {
            let mut vector = Vec::new();
            let values: Vec<f32> = (0..dimensions).map(|i| value(records.len() as u64, i)).collect();
            dtype.encode(&values, &mut vector);
            let bytes = number * 10..number * 10 + 9;
            let chunk =
                chunked.then(|| Chunk { number, bytes, lines: (number + 1, number + 2), tokens: number..number + 4 });
            // Not in their order as texts.
            let id = Value::Text(format!("id {}", row * 7919 % 10007));
            records.push(Owned { row, id, chunk, kept: kept.clone(), vector });
        }
    }
    let columns = Columns {
        names: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        types: columns.into_iter().map(|(_, of)| of).collect(),
    };
    Sample { layout: Layout { id: ColumnType::Text, columns, chunked, dimensions, dtype, metadata }, records }
}

impl Sample {
    /// Pushes some of the records.
    pub(crate) fn push(&self, sink: &mut dyn Sink, range: Range<usize>) {
        self.records[range].iter().for_each(|record| sink.push(&record.record()).unwrap());
    }

    /// Writes some of the records to a file.
    pub(crate) fn write(&self, format: OutputFormat, path: &Path, range: Range<usize>) {
        let mut sink = create(format, path, &self.layout).unwrap();
        self.push(&mut *sink, range);
        assert_eq!(sink.finish().unwrap().files, [path]);
    }

    /// Writes all of them, and gives back the file's bytes.
    pub(crate) fn bytes(&self, format: OutputFormat, path: &Path) -> Vec<u8> {
        self.write(format, path, 0..self.records.len());
        std::fs::read(path).unwrap()
    }
}
