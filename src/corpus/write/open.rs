//! Which form is written by what.

use crate::corpus::record::Layout;
use crate::corpus::write::batch::BatchSink;
use crate::corpus::write::csv::CsvSink;
use crate::corpus::write::error::WriteError;
use crate::corpus::write::format::OutputFormat;
use crate::corpus::write::json::JsonSink;
use crate::corpus::write::parquet::ParquetSink;
use crate::corpus::write::raw::{NpySink, RawSink};
use crate::corpus::write::sink::Sink;
use crate::corpus::write::sqlite::SqliteSink;
use std::path::Path;

/// Begins an output. Nothing stands under its name before it is finished.
///
/// # Errors
/// When the file cannot be made, or not hold such records: a kept column has the name of another of the output's.
pub fn create(format: OutputFormat, path: &Path, layout: &Layout) -> Result<Box<dyn Sink>, WriteError> {
    check(format, layout)?;
    Ok(match format {
        OutputFormat::Jsonl => Box::new(JsonSink::create(path, layout, false)?),
        OutputFormat::Json => Box::new(JsonSink::create(path, layout, true)?),
        OutputFormat::Csv => Box::new(CsvSink::create(path, layout, b',')?),
        OutputFormat::Tsv => Box::new(CsvSink::create(path, layout, b'\t')?),
        OutputFormat::Npy => Box::new(NpySink::create(path, layout)?),
        OutputFormat::Raw => Box::new(RawSink::create(path)?),
        OutputFormat::Parquet => Box::new(ParquetSink::create(path, layout)?),
        OutputFormat::Sqlite => Box::new(SqliteSink::create(path, layout)?),
        OutputFormat::OpenaiBatch => Box::new(BatchSink::create(path, layout)?),
    })
}

/// That such a file can be of this layout.
fn check(format: OutputFormat, layout: &Layout) -> Result<(), WriteError> {
    if layout.chunked && format == OutputFormat::OpenaiBatch {
        return Err(WriteError::Chunked { format });
    }
    // In a database the kept columns are one, of their own.
    if !format.has_columns() || format == OutputFormat::Sqlite {
        return Ok(());
    }
    let mut taken = vec!["id", "embedding"];
    if layout.chunked {
        taken.extend(["chunk", "bytes", "lines", "tokens"]);
    }
    if format == OutputFormat::Parquet {
        taken.push("text_sha256");
    }
    for name in &layout.columns.names {
        if taken.contains(&name.as_str()) {
            return Err(WriteError::NameTaken { name: name.clone() });
        }
        taken.push(name);
    }
    Ok(())
}
