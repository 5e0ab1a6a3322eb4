//! Answers to a batch of requests, as OpenAI gives them.

use crate::corpus::record::{Layout, Record};
use crate::corpus::row::Value;
use crate::corpus::write::error::WriteError;
use crate::corpus::write::sink::{Sink, Written};
use crate::corpus::write::value;
use crate::gguf::AtomicFile;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The records of a request, which are those of one row, make one line; so does a row that failed.
pub(crate) struct BatchSink {
    path: PathBuf,
    file: AtomicFile,
    layout: Layout,
    /// The model's name, in JSON.
    model: Vec<u8>,
    open: Option<Request>,
}

/// A request of which more records may come.
struct Request {
    row: u64,
    /// Its line up to the last vector.
    line: Vec<u8>,
    vectors: usize,
    tokens: u64,
}

impl BatchSink {
    pub(crate) fn create(path: &Path, layout: &Layout) -> Result<Self, WriteError> {
        let file = AtomicFile::create(path).map_err(WriteError::io(path))?;
        let name = layout.metadata.iter().find(|(name, _)| name == "qembed.model").map_or("qembed-q", |(_, name)| name);
        let mut model = Vec::new();
        value::serialize(name, &mut model);
        Ok(Self { path: path.to_owned(), file, layout: layout.clone(), model, open: None })
    }

    /// Writes the request that is open.
    fn close(&mut self) -> Result<(), WriteError> {
        let Some(Request { mut line, tokens, .. }) = self.open.take() else { return Ok(()) };
        line.extend_from_slice(b"],\"model\":");
        line.extend_from_slice(&self.model);
        let _ = write!(line, ",\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}}},");
        line.extend_from_slice(b"\"error\":null}\n");
        self.file.write_all(&line).map_err(WriteError::io(&self.path))
    }
}

/// How a line begins.
fn begin(row: u64, id: &Value) -> Result<Vec<u8>, WriteError> {
    let id = value::text(id).map_err(WriteError::value(row, "id"))?.unwrap_or_default();
    let mut line = format!("{{\"id\":\"batch_req_{row}\",\"custom_id\":").into_bytes();
    value::serialize(&id, &mut line);
    Ok(line)
}

impl Sink for BatchSink {
    fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        if self.open.as_ref().is_none_or(|request| request.row != record.row) {
            self.close()?;
            let mut line = begin(record.row, record.id)?;
            let _ = write!(line, ",\"response\":{{\"status_code\":200,\"request_id\":\"req_{}\",", record.row);
            line.extend_from_slice(b"\"body\":{\"object\":\"list\",\"data\":[");
            self.open = Some(Request { row: record.row, line, vectors: 0, tokens: 0 });
        }
        if let Some(Request { line, vectors, tokens, .. }) = &mut self.open {
            let comma = if *vectors == 0 { "" } else { "," };
            let _ = write!(line, "{comma}{{\"object\":\"embedding\",\"index\":{vectors},\"embedding\":");
            value::vector(self.layout.dtype, record.vector, line);
            line.push(b'}');
            *vectors += 1;
            *tokens += record.tokens;
        }
        Ok(())
    }

    fn push_error(&mut self, row: u64, id: &Value, message: &str) -> Result<(), WriteError> {
        self.close()?;
        let mut line = begin(row, id)?;
        line.extend_from_slice(b",\"response\":null,\"error\":{\"code\":\"invalid_request\",\"message\":");
        value::serialize(message, &mut line);
        line.extend_from_slice(b"}}\n");
        self.file.write_all(&line).map_err(WriteError::io(&self.path))
    }

    fn finish(mut self: Box<Self>) -> Result<Written, WriteError> {
        self.close()?;
        self.file.commit().map_err(WriteError::io(&self.path))?;
        Ok(Written { files: vec![self.path], ..Written::default() })
    }
}
