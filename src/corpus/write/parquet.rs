//! Parquet files, with vectors as lists of fixed size.
//!
//! A file is a function of its records: batches and row groups end after so many records, or where their values reach so many
//! bytes, and nothing in it tells when or by what it was made but the program's version.

use crate::corpus::dtype::Dtype;
use crate::corpus::record::{Chunk, Layout, Record};
use crate::corpus::row::{ColumnType, Value};
use crate::corpus::write::arrays;
use crate::corpus::write::error::WriteError;
use crate::corpus::write::sink::{Sink, Written};
use crate::corpus::write::value;
use crate::digest::hex;
use crate::gguf::AtomicFile;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::{
    ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, ArrowWriter, encode_arrow_schema, parquet_to_arrow_schema,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The key of the footer's metadata under which the kinds of columns stand, as [`kind`] names them: of the id, then of the kept.
pub(crate) const KINDS: &str = "qembed.columns";

/// A batch ends after so many records, or with the one that brings it to so many bytes; a row group likewise, with a batch.
const BATCH: Limit = Limit { records: 1024, bytes: 2 << 20 };
const GROUP: Limit = Limit { records: 1 << 16, bytes: 16 << 20 };

#[derive(Clone, Copy)]
struct Limit {
    records: usize,
    bytes: usize,
}

impl Limit {
    fn reached(self, records: usize, bytes: usize) -> bool {
        records >= self.records || bytes >= self.bytes
    }
}

pub(crate) struct ParquetSink {
    path: PathBuf,
    writer: ArrowWriter<AtomicFile>,
    schema: SchemaRef,
    layout: Layout,
    batch: Batch,
    /// Records and bytes of the row group so far.
    group: (usize, usize),
}

/// Records that wait for being written together.
#[derive(Default)]
struct Batch {
    ids: Vec<Value>,
    chunks: Vec<Chunk>,
    hashes: Vec<String>,
    /// A column each.
    kept: Vec<Vec<Value>>,
    vectors: Vec<u8>,
    bytes: usize,
}

impl ParquetSink {
    pub(crate) fn create(path: &Path, layout: &Layout) -> Result<Self, WriteError> {
        let file = AtomicFile::create(path).map_err(WriteError::io(path))?;
        let create = || {
            let schema = as_read(&schema(layout))?;
            Ok((ArrowWriter::try_new(file, schema.clone(), Some(properties(layout)))?, schema))
        };
        let (writer, schema) = create().map_err(WriteError::parquet(path))?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            schema,
            layout: layout.clone(),
            batch: Batch::of(layout),
            group: (0, 0),
        })
    }

    /// Hands a batch to the writer.
    fn write(&mut self) -> Result<(), ParquetError> {
        let batch = std::mem::replace(&mut self.batch, Batch::of(&self.layout));
        self.group = (self.group.0 + batch.ids.len(), self.group.1 + batch.bytes);
        let columns = batch.columns(&self.layout)?.into_iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| cast(&column, field.data_type())).collect::<Result<_, _>>()?;
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?)?;
        if GROUP.reached(self.group.0, self.group.1) {
            self.writer.flush()?;
            self.group = (0, 0);
        }
        Ok(())
    }
}

impl Sink for ParquetSink {
    fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        self.batch.push(record, &self.layout)?;
        if BATCH.reached(self.batch.ids.len(), self.batch.bytes) {
            self.write().map_err(WriteError::parquet(&self.path))?;
        }
        Ok(())
    }

    fn note(&mut self, name: &str, value: &str) -> Result<(), WriteError> {
        self.writer.append_key_value_metadata(KeyValue::new(name.to_owned(), value.to_owned()));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written, WriteError> {
        let mut end = || if self.batch.ids.is_empty() { Ok(()) } else { self.write() };
        end().map_err(WriteError::parquet(&self.path))?;
        let file = self.writer.into_inner().map_err(WriteError::parquet(&self.path))?;
        file.commit().map_err(WriteError::io(&self.path))?;
        Ok(Written { files: vec![self.path], ..Written::default() })
    }
}

impl Batch {
    fn of(layout: &Layout) -> Self {
        Self { kept: vec![Vec::new(); layout.columns.names.len()], ..Self::default() }
    }

    fn push(&mut self, record: &Record, layout: &Layout) -> Result<(), WriteError> {
        let fit = |value: &Value, name: &str, of: &ColumnType| {
            value::fit(value, of).map_err(WriteError::value(record.row, name))?.ok_or_else(|| WriteError::Unfit {
                row: record.row,
                column: name.to_owned(),
                expected: arrays::data_type(of).to_string(),
            })
        };
        let id = fit(record.id, "id", &layout.id)?;
        self.bytes += record.vector.len() + arrays::weight(&id);
        self.ids.push(id);
        let columns = &layout.columns;
        for (((column, name), of), value) in
            self.kept.iter_mut().zip(&columns.names).zip(&columns.types).zip(record.kept)
        {
            let value = fit(value, name, of)?;
            self.bytes += arrays::weight(&value);
            column.push(value);
        }
        self.chunks.extend(record.chunk.cloned());
        self.hashes.push(hex(&record.hash));
        self.vectors.extend_from_slice(record.vector);
        Ok(())
    }

    /// As many columns as the [`schema`] has.
    fn columns(&self, layout: &Layout) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns = vec![arrays::column(&layout.id, &self.ids)?];
        if layout.chunked {
            let numbers = self.chunks.iter().map(|chunk| chunk.number as i64);
            columns.push(Arc::new(Int64Array::from_iter_values(numbers)));
            columns.push(arrays::pairs(self.chunks.iter().map(|chunk| (chunk.bytes.start, chunk.bytes.end)))?);
            columns.push(arrays::pairs(self.chunks.iter().map(|chunk| chunk.lines))?);
            columns.push(arrays::pairs(self.chunks.iter().map(|chunk| (chunk.tokens.start, chunk.tokens.end)))?);
        }
        for (values, of) in self.kept.iter().zip(&layout.columns.types) {
            columns.push(arrays::column(of, values)?);
        }
        columns.push(Arc::new(StringArray::from_iter_values(&self.hashes)));
        columns.push(arrays::vectors(layout.dtype, layout.dimensions, &self.vectors)?);
        Ok(columns)
    }
}

fn schema(layout: &Layout) -> Schema {
    let mut fields = vec![Field::new("id", arrays::data_type(&layout.id), true)];
    if layout.chunked {
        fields.push(Field::new("chunk", DataType::Int64, false));
        let pair = |name| Field::new(name, arrays::list_type(DataType::Int64, 2), false);
        fields.extend(["bytes", "lines", "tokens"].map(pair));
    }
    let kept = layout.columns.names.iter().zip(&layout.columns.types);
    fields.extend(kept.map(|(name, of)| Field::new(name, arrays::data_type(of), true)));
    fields.push(Field::new("text_sha256", DataType::Utf8, false));
    fields.push(Field::new("embedding", arrays::vector_type(layout.dtype, layout.dimensions), false));
    Schema::new(fields)
}

/// The schema that a reader of the file finds, in which parts of types may have other names. So what is read and written again
/// makes the same file.
fn as_read(schema: &Schema) -> Result<SchemaRef, ParquetError> {
    let written = ArrowSchemaConverter::new().with_coerce_types(true).convert(schema)?;
    let hint = KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(schema));
    Ok(Arc::new(Schema::new(parquet_to_arrow_schema(&written, Some(&vec![hint]))?.fields)))
}

fn properties(layout: &Layout) -> WriterProperties {
    let kinds: Vec<&str> = [&layout.id].into_iter().chain(&layout.columns.types).map(kind).collect();
    let kinds = (KINDS.to_owned(), kinds.join(" "));
    let metadata = layout.metadata.iter().cloned().chain([kinds]);
    let metadata = metadata.map(|(key, value)| KeyValue { key, value: Some(value) }).collect();
    let vector = || ColumnPath::from(vec!["embedding".to_owned(), "list".to_owned(), "element".to_owned()]);
    let hash = || ColumnPath::from("text_sha256");
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("qembed-q version {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_coerce_types(true)
        .set_max_row_group_row_count(None)
        // An index of pages stays in memory until the end, and lists of lists are none that one searches by it.
        .set_offset_index_disabled(true)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_dictionary_enabled(hash(), false)
        .set_column_statistics_enabled(hash(), EnabledStatistics::None)
        .set_column_statistics_enabled(vector(), EnabledStatistics::None)
        // Whole numbers are stored as 32 bits each, unless as one of a dictionary of 256: then 8.
        .set_column_dictionary_enabled(vector(), matches!(layout.dtype, Dtype::Int8 | Dtype::Ubinary));
    // DuckDB 2.0 reads no float16 that is split.
    if layout.dtype == Dtype::F32 {
        properties = properties.set_column_encoding(vector(), Encoding::BYTE_STREAM_SPLIT);
    }
    properties.build()
}

/// What tells columns apart that Arrow has one type for.
pub(crate) fn kind(of: &ColumnType) -> &'static str {
    match of {
        ColumnType::Null => "null",
        ColumnType::Bool => "bool",
        ColumnType::Int => "int",
        ColumnType::Float => "float",
        ColumnType::Text => "text",
        ColumnType::Json => "json",
        ColumnType::Arrow(_) => "arrow",
    }
}
