//! Objects in JSON: one a line, or all in one array.

use crate::corpus::record::{Chunk, Layout, Record};
use crate::corpus::write::error::WriteError;
use crate::corpus::write::sink::{Sink, Written};
use crate::corpus::write::value;
use crate::gguf::AtomicFile;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How an array begins; its objects stand on lines of their own, parted by [`BETWEEN`].
pub(crate) const BEGIN: &[u8] = b"[\n";
pub(crate) const BETWEEN: &[u8] = b",\n";
pub(crate) const END: &[u8] = b"\n]\n";
/// One without objects.
pub(crate) const EMPTY: &[u8] = b"[]\n";

pub(crate) struct JsonSink {
    path: PathBuf,
    file: AtomicFile,
    layout: Layout,
    array: bool,
    empty: bool,
    line: Vec<u8>,
}

impl JsonSink {
    pub(crate) fn create(path: &Path, layout: &Layout, array: bool) -> Result<Self, WriteError> {
        let file = AtomicFile::create(path).map_err(WriteError::io(path))?;
        Ok(Self { path: path.to_owned(), file, layout: layout.clone(), array, empty: true, line: Vec::new() })
    }

    /// Makes the line of a record.
    fn print(&mut self, record: &Record) -> Result<(), WriteError> {
        let line = &mut self.line;
        line.clear();
        if self.array {
            line.extend_from_slice(if self.empty { BEGIN } else { BETWEEN });
        }
        line.extend_from_slice(b"{\"id\":");
        value::json(record.id, line).map_err(WriteError::value(record.row, "id"))?;
        if let Some(Chunk { number, bytes, lines, tokens }) = record.chunk {
            let _ = write!(line, ",\"chunk\":{number},\"bytes\":[{},{}]", bytes.start, bytes.end);
            let _ = write!(line, ",\"lines\":[{},{}],\"tokens\":[{},{}]", lines.0, lines.1, tokens.start, tokens.end);
        }
        line.extend_from_slice(b",\"embedding\":");
        value::vector(self.layout.dtype, record.vector, line);
        for (name, kept) in self.layout.columns.names.iter().zip(record.kept) {
            line.push(b',');
            value::serialize(name, line);
            line.push(b':');
            value::json(kept, line).map_err(WriteError::value(record.row, name))?;
        }
        line.push(b'}');
        if !self.array {
            line.push(b'\n');
        }
        Ok(())
    }
}

impl Sink for JsonSink {
    fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        self.print(record)?;
        self.empty = false;
        self.file.write_all(&self.line).map_err(WriteError::io(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<Written, WriteError> {
        let Self { path, mut file, array, empty, .. } = *self;
        let end: &[u8] = match (array, empty) {
            (false, _) => b"",
            (true, true) => EMPTY,
            (true, false) => END,
        };
        file.write_all(end).and_then(|()| file.commit()).map_err(WriteError::io(&path))?;
        Ok(Written { files: vec![path], ..Written::default() })
    }
}
