//! Parts in Parquet, written anew: row groups fall as if there had been no parts.

use crate::corpus::dtype::Dtype;
use crate::corpus::finished::{FinishedError, hashes_and_vectors, open_parquet, parquet_metadata};
use crate::corpus::merge::error::MergeError;
use crate::corpus::merge::parts::{Part, differs, in_order};
use crate::corpus::record::{Chunk, Layout, Record};
use crate::corpus::row::{ColumnType, Columns, Value};
use crate::corpus::write::{OutputFormat, PARQUET_KINDS, Written, create};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use std::path::{Path, PathBuf};

/// Columns between the id and those that are kept, of outputs whose records are chunks.
const CHUNK: [&str; 4] = ["chunk", "bytes", "lines", "tokens"];

pub(crate) fn merge(paths: &[PathBuf], out: &Path) -> Result<Written, MergeError> {
    let mut parts = Vec::new();
    for path in paths {
        let mut metadata = parquet_metadata(&open_parquet(path)?);
        // Of what kind a column is, a part may know less than the whole.
        metadata.retain(|(key, _)| key != PARQUET_KINDS);
        parts.push(Part { path: path.clone(), metadata });
    }
    let (parts, metadata) = in_order(parts)?;
    let mut layouts = Vec::new();
    for part in &parts {
        layouts.push(layout(&part.path)?);
    }
    let mut whole = Layout { metadata, ..layouts[0].clone() };
    for (part, layout) in parts.iter().zip(&layouts) {
        widen(&mut whole, layout).map_err(|(key, found, expected)| differs(part, &parts[0], key, found, expected))?;
    }
    let mut sink = create(OutputFormat::Parquet, out, &whole)?;
    let mut row = 0;
    for (part, layout) in parts.iter().zip(&layouts) {
        let at = &part.path;
        let reader = open_parquet(at)?.with_batch_size(256).build().map_err(FinishedError::parquet(at))?;
        for batch in reader {
            let records = Records::of(&batch.map_err(FinishedError::arrow(at))?, layout);
            let records = records.ok_or_else(|| FinishedError::not_ours(at, "columns are missing"))?;
            for i in 0..records.vectors.len() {
                records.push(i, row, &mut |record| sink.push(record))?;
                row += 1;
            }
        }
    }
    Ok(sink.finish()?)
}

/// What a file's schema says of its records.
fn layout(path: &Path) -> Result<Layout, MergeError> {
    let file = open_parquet(path)?;
    let metadata = parquet_metadata(&file);
    let kinds = metadata.iter().find(|(key, _)| key == PARQUET_KINDS).map_or("", |(_, kinds)| kinds);
    let found = from_schema(file.schema(), &kinds.split(' ').collect::<Vec<_>>());
    Ok(found.ok_or_else(|| FinishedError::not_ours(path, "no output of this program"))?)
}

fn from_schema(schema: &Schema, kinds: &[&str]) -> Option<Layout> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let chunked = names.get(1..5) == Some(&CHUNK);
    let before = if chunked { 5 } else { 1 };
    let kept = schema.fields().get(before..names.len().checked_sub(2)?)?;
    let DataType::FixedSizeList(element, length) = schema.field_with_name("embedding").ok()?.data_type() else {
        return None;
    };
    let dtype = match element.data_type() {
        DataType::Float32 => Dtype::F32,
        DataType::Float16 => Dtype::F16,
        DataType::Int8 => Dtype::Int8,
        DataType::UInt8 => Dtype::Ubinary,
        _ => return None,
    };
    let of = |(kind, field): (&&str, &arrow_schema::FieldRef)| match *kind {
        "null" => ColumnType::Null,
        "bool" => ColumnType::Bool,
        "int" => ColumnType::Int,
        "float" => ColumnType::Float,
        "text" => ColumnType::Text,
        "json" => ColumnType::Json,
        _ => ColumnType::Arrow(field.data_type().clone()),
    };
    let (id, rest) = kinds.split_first()?;
    if rest.len() != kept.len() || names[0] != "id" {
        return None;
    }
    Some(Layout {
        id: of((id, &schema.fields()[0])),
        columns: Columns {
            names: kept.iter().map(|field| field.name().clone()).collect(),
            types: rest.iter().zip(kept).map(of).collect(),
        },
        chunked,
        // Of bits as many as there is room for: the whole has the same bytes.
        dimensions: *length as usize * if dtype == Dtype::Ubinary { 8 } else { 1 },
        dtype,
        metadata: Vec::new(),
    })
}

/// Makes room in a layout for records of another, or says in what they differ, and how.
fn widen(whole: &mut Layout, part: &Layout) -> Result<(), (&'static str, String, String)> {
    let of = |layout: &Layout| {
        let chunks = if layout.chunked { "chunks" } else { "whole texts" };
        [
            ("columns", layout.columns.names.join(", ")),
            ("records", chunks.to_owned()),
            ("vectors", format!("{} × {}", layout.dimensions, layout.dtype)),
        ]
    };
    for ((key, found), (_, expected)) in of(part).into_iter().zip(of(whole)) {
        if found != expected {
            return Err((key, found, expected));
        }
    }
    whole.id.join(part.id.clone());
    whole.columns.types.iter_mut().zip(&part.columns.types).for_each(|(whole, part)| whole.join(part.clone()));
    Ok(())
}

/// Records of a batch.
struct Records {
    ids: Vec<Value>,
    chunks: Option<Vec<Chunk>>,
    /// A column each.
    kept: Vec<Vec<Value>>,
    vectors: Vec<crate::corpus::finished::StoredVector>,
}

impl Records {
    fn of(batch: &RecordBatch, layout: &Layout) -> Option<Self> {
        let kept = layout.columns.names.iter().zip(&layout.columns.types);
        Some(Self {
            ids: values(batch.column(0), &layout.id)?,
            chunks: if layout.chunked { Some(chunks(batch)?) } else { None },
            kept: kept.map(|(name, of)| values(batch.column_by_name(name)?, of)).collect::<Option<_>>()?,
            vectors: hashes_and_vectors(batch)?,
        })
    }

    /// Gives one of them, as one of a row.
    fn push<T>(&self, i: usize, row: u64, to: &mut dyn FnMut(&Record) -> T) -> T {
        let kept: Vec<Value> = self.kept.iter().map(|column| column[i].clone()).collect();
        let (hash, vector) = (self.vectors[i].hash, &self.vectors[i].vector);
        let chunk = self.chunks.as_ref().map(|chunks| &chunks[i]);
        to(&Record { row, id: &self.ids[i], chunk, text: "", hash, tokens: 0, kept: &kept, vector })
    }
}

/// The values of a column as they were when it was written.
fn values(array: &ArrayRef, of: &ColumnType) -> Option<Vec<Value>> {
    let value: Box<dyn Fn(usize) -> Value> = match of {
        ColumnType::Null => Box::new(|_| Value::Null),
        ColumnType::Bool => {
            let array = array.as_boolean_opt()?;
            Box::new(|row| Value::Bool(array.value(row)))
        }
        ColumnType::Int => {
            let array = array.as_primitive_opt::<Int64Type>()?;
            Box::new(|row| Value::Int(array.value(row)))
        }
        ColumnType::Float => {
            let array = array.as_primitive_opt::<Float64Type>()?;
            Box::new(|row| Value::Float(array.value(row)))
        }
        ColumnType::Text => {
            let array = array.as_string_opt::<i32>()?;
            Box::new(|row| Value::Text(array.value(row).to_owned()))
        }
        ColumnType::Json => {
            let array = array.as_string_opt::<i32>()?;
            Box::new(|row| Value::Json(array.value(row).to_owned()))
        }
        ColumnType::Arrow(_) => Box::new(|row| Value::Cell(array.clone(), row)),
    };
    Some((0..array.len()).map(|row| if array.is_null(row) { Value::Null } else { value(row) }).collect())
}

fn chunks(batch: &RecordBatch) -> Option<Vec<Chunk>> {
    let numbers = batch.column_by_name("chunk")?.as_primitive_opt::<Int64Type>()?;
    let pairs = |name: &str| -> Option<Vec<(u64, u64)>> {
        let list = batch.column_by_name(name)?.as_fixed_size_list_opt()?;
        let of = |row| match list.value(row).as_primitive_opt::<Int64Type>()?.values()[..] {
            [from, to] => Some((from as u64, to as u64)),
            _ => None,
        };
        (0..list.len()).map(of).collect()
    };
    let (bytes, lines, tokens) = (pairs("bytes")?, pairs("lines")?, pairs("tokens")?);
    let chunk = |i: usize| Chunk {
        number: numbers.value(i) as u64,
        bytes: bytes[i].0..bytes[i].1,
        lines: lines[i],
        tokens: tokens[i].0..tokens[i].1,
    };
    Some((0..batch.num_rows()).map(chunk).collect())
}
