//! From the journal to the output: the input is read a second time, and each row gets its vectors.

use crate::corpus::job::{Job, JobControl, JobError, JobProgress, Stage, beside};
use crate::corpus::journal::{Entry, Journal};
use crate::corpus::record::{Chunk, Layout, Record};
use crate::corpus::row::{Place, Row, Unit, Value};
use crate::corpus::work::hash;
use crate::corpus::write::{Sink, Written, create, create_shards, shard};
use crate::gguf::AtomicFile;
use serde_json::json;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where the rows are named that have no vector.
pub(crate) fn errors_path(output: &Path) -> PathBuf {
    beside(output, ".errors.jsonl")
}

/// What an output has come to.
pub(crate) struct Yield {
    pub(crate) vectors: u64,
    pub(crate) failed: u64,
    pub(crate) written: Written,
}

/// The output's file, or the first of several.
pub(crate) fn first_file(job: &Job) -> PathBuf {
    job.shard_rows.map_or_else(|| job.output.clone(), |_| shard(&job.output, 0))
}

/// Opens the output.
pub(crate) fn sink(job: &Job, layout: &Layout) -> Result<Box<dyn Sink>, JobError> {
    Ok(match job.shard_rows {
        Some(rows) => create_shards(job.format, &job.output, layout, rows)?,
        None => create(job.format, &job.output, layout)?,
    })
}

/// Writes all of it.
pub(crate) fn write(
    job: &Job,
    layout: &Layout,
    journal: &Journal,
    rows: Range<u64>,
    control: &JobControl,
) -> Result<Yield, JobError> {
    let mut sink = sink(job, layout)?;
    let mut errors = Errors::new(&job.output);
    let (mut vectors, total) = (0, rows.end - rows.start);
    let mut entries = journal.entries().map_err(JobError::JournalRead)?;
    let input = job.files.rows().skip(rows.start as usize).take(total as usize);
    for (done, (number, item)) in (0..).zip(rows.zip(input)) {
        if done % 1024 == 0 {
            control.ended()?;
            if let Some(progress) = control.progress {
                progress(JobProgress { stage: Stage::Writing, rows: done, of: Some(total), tokens: 0 });
            }
        }
        let missing = || io::Error::new(io::ErrorKind::UnexpectedEof, "a row is missing that was there");
        let entry = entries.next().unwrap_or_else(|| Err(missing())).map_err(JobError::JournalRead)?;
        match (item?, entry) {
            (Ok(row), Entry::Vectors { count, tokens, bytes }) => {
                push(&mut *sink, layout, number, &row, tokens, &bytes)?;
                vectors += u64::from(count);
            }
            (Ok(row), Entry::Failed(reason)) => {
                errors.add(&row.place, Some(&row.id), &reason)?;
                sink.push_error(number, &row.id, &reason)?;
            }
            (Err(error), _) => {
                let reason = error.problem.to_string();
                errors.add(&error.place, None, &reason)?;
                sink.push_error(number, &Value::Null, &reason)?;
            }
        }
    }
    let failed = errors.finish()?;
    Ok(Yield { vectors, failed, written: sink.finish()? })
}

/// Writes the records of a row.
fn push(
    sink: &mut dyn Sink,
    layout: &Layout,
    number: u64,
    row: &Row,
    tokens: u64,
    bytes: &[u8],
) -> Result<(), JobError> {
    let mut kept = row.kept.clone();
    // Columns that came up later.
    kept.resize(layout.columns.names.len(), Value::Null);
    let ahead = if layout.chunked { Chunk::BYTES } else { 0 };
    let vector = layout.dtype.vector_bytes(row.dimensions.unwrap_or(layout.dimensions));
    for (i, bytes) in bytes.chunks_exact(ahead + vector).enumerate() {
        let (chunk, vector) = bytes.split_at(ahead);
        let chunk = if layout.chunked { Chunk::decode(chunk) } else { None };
        let text = match &chunk {
            Some(chunk) => row.texts[0].get(chunk.bytes.start as usize..chunk.bytes.end as usize),
            None => row.texts.get(i).map(String::as_str),
        };
        let text = text.ok_or(JobError::Shrunk)?;
        sink.push(&Record {
            row: number,
            id: &row.id,
            chunk: chunk.as_ref(),
            text,
            hash: hash(row.instruction.as_deref(), text),
            tokens,
            kept: &kept,
            vector,
        })?;
    }
    Ok(())
}

/// The file of rows that have no vector.
struct Errors {
    path: PathBuf,
    file: Option<AtomicFile>,
    count: u64,
}

impl Errors {
    fn new(output: &Path) -> Self {
        Self { path: errors_path(output), file: None, count: 0 }
    }

    fn fail(&self) -> impl Fn(io::Error) -> JobError + use<> {
        let path = self.path.clone();
        move |source| JobError::Errors { path: path.clone(), source }
    }

    fn add(&mut self, place: &Place, id: Option<&Value>, reason: &str) -> Result<(), JobError> {
        let fail = self.fail();
        if self.file.is_none() {
            self.file = Some(AtomicFile::create(&self.path).map_err(&fail)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = json!({ "file": place.file.to_string_lossy(), "error": reason });
        match place.unit {
            Unit::Line => line["line"] = place.number.into(),
            Unit::Row => line["row"] = place.number.into(),
            Unit::Whole => {}
        }
        match id {
            Some(Value::Int(id)) => line["id"] = (*id).into(),
            Some(Value::Text(id)) => line["id"] = id.as_str().into(),
            _ => {}
        }
        self.count += 1;
        serde_json::to_writer(&mut *file, &line)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(fail)
    }

    /// Gives the file its name; or takes away that of an earlier run, where there is nothing to say.
    fn finish(mut self) -> Result<u64, JobError> {
        let fail = self.fail();
        match self.file.take() {
            Some(file) => file.commit().map_err(fail)?,
            None => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
                _ => {}
            },
        }
        Ok(self.count)
    }
}
