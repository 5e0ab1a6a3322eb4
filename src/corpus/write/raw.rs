//! Vectors alone: bytes, or a NumPy matrix of them.

use crate::corpus::dtype::Dtype;
use crate::corpus::npy::NpyWriter;
use crate::corpus::record::{Layout, Record};
use crate::corpus::write::error::WriteError;
use crate::corpus::write::sink::{Sink, Written};
use crate::gguf::AtomicFile;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) struct RawSink {
    path: PathBuf,
    file: AtomicFile,
}

impl RawSink {
    pub(crate) fn create(path: &Path) -> Result<Self, WriteError> {
        Ok(Self { path: path.to_owned(), file: AtomicFile::create(path).map_err(WriteError::io(path))? })
    }
}

impl Sink for RawSink {
    fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        self.file.write_all(record.vector).map_err(WriteError::io(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<Written, WriteError> {
        self.file.commit().map_err(WriteError::io(&self.path))?;
        Ok(Written { files: vec![self.path], ..Written::default() })
    }
}

pub(crate) struct NpySink {
    path: PathBuf,
    writer: NpyWriter<AtomicFile>,
}

impl NpySink {
    pub(crate) fn create(path: &Path, layout: &Layout) -> Result<Self, WriteError> {
        let columns = layout.dtype.numbers(layout.dimensions);
        let create = || NpyWriter::with_descr(AtomicFile::create(path)?, columns, descr(layout.dtype));
        Ok(Self { path: path.to_owned(), writer: create().map_err(WriteError::io(path))? })
    }
}

impl Sink for NpySink {
    fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        self.writer.push_bytes(record.vector).map_err(WriteError::io(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<Written, WriteError> {
        self.writer.finish().and_then(|(file, _)| file.commit()).map_err(WriteError::io(&self.path))?;
        Ok(Written { files: vec![self.path], ..Written::default() })
    }
}

/// NumPy's name of a type.
fn descr(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
        Dtype::Int8 => "|i1",
        Dtype::Ubinary => "|u1",
    }
}
