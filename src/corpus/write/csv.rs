//! Tables as text, with commas or tabs.

use crate::corpus::record::{Layout, Record};
use crate::corpus::write::error::WriteError;
use crate::corpus::write::sink::{Sink, Written};
use crate::corpus::write::value;
use crate::gguf::AtomicFile;
use csv::{Writer, WriterBuilder};
use std::path::{Path, PathBuf};

pub(crate) struct CsvSink {
    path: PathBuf,
    writer: Writer<AtomicFile>,
    layout: Layout,
    field: Vec<u8>,
}

impl CsvSink {
    /// `delimiter` stands between fields. The header is written at once.
    pub(crate) fn create(path: &Path, layout: &Layout, delimiter: u8) -> Result<Self, WriteError> {
        let file = AtomicFile::create(path).map_err(WriteError::io(path))?;
        let mut writer = WriterBuilder::new().delimiter(delimiter).from_writer(file);
        let chunk: &[&str] = if layout.chunked { &["chunk", "bytes", "lines", "tokens"] } else { &[] };
        let kept = layout.columns.names.iter().map(String::as_str);
        let names = ["id"].into_iter().chain(chunk.iter().copied()).chain(kept).chain(["embedding"]);
        writer.write_record(names).map_err(failed(path))?;
        Ok(Self { path: path.to_owned(), writer, layout: layout.clone(), field: Vec::new() })
    }
}

impl Sink for CsvSink {
    fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        let failed = failed(&self.path);
        let id = value::text(record.id).map_err(WriteError::value(record.row, "id"))?;
        self.writer.write_field(id.unwrap_or_default()).map_err(&failed)?;
        if let Some(chunk) = record.chunk {
            let of = |from: u64, to: u64| format!("[{from},{to}]");
            for field in [
                chunk.number.to_string(),
                of(chunk.bytes.start, chunk.bytes.end),
                of(chunk.lines.0, chunk.lines.1),
                of(chunk.tokens.start, chunk.tokens.end),
            ] {
                self.writer.write_field(field).map_err(&failed)?;
            }
        }
        for (name, kept) in self.layout.columns.names.iter().zip(record.kept) {
            let text = value::text(kept).map_err(WriteError::value(record.row, name))?;
            self.writer.write_field(text.unwrap_or_default()).map_err(&failed)?;
        }
        self.field.clear();
        value::vector(self.layout.dtype, record.vector, &mut self.field);
        self.writer.write_field(&self.field).map_err(&failed)?;
        self.writer.write_record(None::<&[u8]>).map_err(&failed)
    }

    fn finish(self: Box<Self>) -> Result<Written, WriteError> {
        let file = self.writer.into_inner().map_err(|error| error.into_error());
        file.and_then(AtomicFile::commit).map_err(WriteError::io(&self.path))?;
        Ok(Written { files: vec![self.path], ..Written::default() })
    }
}

fn failed(path: &Path) -> impl Fn(csv::Error) -> WriteError {
    move |error| WriteError::io(path)(error.into())
}
