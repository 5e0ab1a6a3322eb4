//! An output in several files.

use crate::corpus::record::{Layout, Record};
use crate::corpus::row::Value;
use crate::corpus::write::error::WriteError;
use crate::corpus::write::format::OutputFormat;
use crate::corpus::write::open::create;
use crate::corpus::write::sink::{Sink, Written};
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Begins an output in files of so many rows of the input each, of which the last may have fewer: `name-00000.parquet`,
/// `name-00001.parquet` … for `name.parquet`. All records of a row are in one file. Rows that have no record do not count,
/// save in answers to batches, where they are answered. Of no rows there is one file.
///
/// A file has its name as soon as it is whole, so those of a run that has been killed are there.
///
/// # Errors
/// As [`create`].
pub fn create_shards(
    format: OutputFormat,
    path: &Path,
    layout: &Layout,
    rows: NonZero<u64>,
) -> Result<Box<dyn Sink>, WriteError> {
    let sink = create(format, &shard(path, 0), layout)?;
    let layout = layout.clone();
    let path = path.to_owned();
    Ok(Box::new(Shards { format, path, layout, rows, sink: Some(sink), taken: 0, row: None, done: Vec::new() }))
}

struct Shards {
    format: OutputFormat,
    path: PathBuf,
    layout: Layout,
    /// Rows of a file.
    rows: NonZero<u64>,
    sink: Option<Box<dyn Sink>>,
    /// Rows of the present one so far.
    taken: u64,
    /// The last of them.
    row: Option<u64>,
    done: Vec<PathBuf>,
}

/// The name of a file of an output.
pub(crate) fn shard(path: &Path, number: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number:05}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

impl Shards {
    /// The file that a row goes into.
    fn sink(&mut self, row: u64) -> Result<&mut dyn Sink, WriteError> {
        if self.row != Some(row) {
            if self.taken == self.rows.get() {
                self.end()?;
            }
            self.taken += 1;
            self.row = Some(row);
        }
        let sink = match self.sink.take() {
            Some(sink) => sink,
            None => create(self.format, &shard(&self.path, self.done.len()), &self.layout)?,
        };
        Ok(&mut **self.sink.insert(sink))
    }

    /// Ends the present file.
    fn end(&mut self) -> Result<(), WriteError> {
        self.taken = 0;
        if let Some(sink) = self.sink.take() {
            self.done.extend(sink.finish()?.files);
        }
        Ok(())
    }
}

impl Sink for Shards {
    fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        self.sink(record.row)?.push(record)
    }

    fn push_error(&mut self, row: u64, id: &Value, message: &str) -> Result<(), WriteError> {
        if self.format == OutputFormat::OpenaiBatch { self.sink(row)?.push_error(row, id, message) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<Written, WriteError> {
        self.end()?;
        let next = (self.done.len()..).map(|number| shard(&self.path, number));
        let stale = next.take_while(|path| path.exists()).collect();
        Ok(Written { files: self.done, stale })
    }
}
