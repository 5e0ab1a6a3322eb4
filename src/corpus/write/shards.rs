//! An output in several files.

use crate::corpus::record::{Layout, Record, SHARD, SHARDS};
use crate::corpus::row::Value;
use crate::corpus::write::error::WriteError;
use crate::corpus::write::format::OutputFormat;
use crate::corpus::write::open::create;
use crate::corpus::write::sink::{Sink, Written};
use std::ffi::OsStr;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Begins an output in files of so many rows of the input each, of which the last may have fewer: `name-00000.parquet`,
/// `name-00001.parquet` … for `name.parquet`. All records of a row are in one file. Rows that have no record do not count,
/// save in answers to batches, where they are answered. Of no rows there is one file. Each says of itself which it is ([`SHARD`]), and
/// the last how many they are ([`SHARDS`]).
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
    let (layout, path) = (layout.clone(), path.to_owned());
    let mut shards = Shards { format, path, layout, rows, sink: None, taken: 0, row: None, done: Vec::new() };
    shards.sink = Some(shards.next()?);
    Ok(Box::new(shards))
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

/// The files that there are of an output in several, in their order; where one is missing, the first such is among them.
///
/// # Errors
/// When their folder cannot be read.
pub(crate) fn shards(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut numbers: Vec<usize> = Vec::new();
    for entry in folder.read_dir()? {
        let name = entry?.file_name();
        // What stands between the last hyphen and the ending.
        let number = Path::new(&name).file_stem().and_then(OsStr::to_str).and_then(|stem| stem.rsplit_once('-'));
        if let Some(number) = number.and_then(|(_, number)| number.parse().ok())
            && shard(path, number).file_name() == Some(&name)
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    if let Some(missing) = numbers.iter().zip(0..).position(|(number, expected)| *number != expected) {
        numbers.insert(missing, missing);
    }
    Ok(numbers.into_iter().map(|number| shard(path, number)).collect())
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
    /// Begins the next file.
    fn next(&self) -> Result<Box<dyn Sink>, WriteError> {
        let number = self.done.len();
        let mut layout = self.layout.clone();
        layout.metadata.push((SHARD.to_owned(), number.to_string()));
        create(self.format, &shard(&self.path, number), &layout)
    }

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
            None => self.next()?,
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
        if let Some(last) = &mut self.sink {
            last.note(SHARDS, &(self.done.len() + 1).to_string())?;
        }
        self.end()?;
        let next = (self.done.len()..).map(|number| shard(&self.path, number));
        let stale = next.take_while(|path| path.exists()).collect();
        Ok(Written { files: self.done, stale })
    }
}
