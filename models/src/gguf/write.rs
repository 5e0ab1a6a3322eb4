//! Writing GGUF files as a stream: the header first, from the list of tensors alone, then their data in that order.
//!
//! Memory holds the metadata and the list; tensor data passes through in pieces of the caller's choosing. Every size is
//! checked, so a file that finished is one that [`Gguf`](super::Gguf) opens.

use super::Gguf;
use super::encode::{self, Element};
use super::error::{GgufProblem, Quoted};
use super::meta::{MAX_METADATA, MAX_NAME};
use super::part::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC};
use super::tensor::{MAX_TENSORS, Shape};
use super::value::{Value, ValueType};
use qembed_kernels::formats::Format;
use std::collections::HashMap;
use std::io::{self, Write};

const VERSION: u32 = 3;

/// An error of the writer: a broken call order, a wrong size or a failed write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the message of a variant is its documentation
pub enum GgufWriteError {
    #[error("cannot write the GGUF file: {0}; check the disk's free space")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Invalid(GgufProblem),
    #[error("general.alignment must be a u32 and a power of two")]
    Alignment,
    #[error("{what} is {value}, the limit of a GGUF file is {limit}")]
    Limit { what: &'static str, value: u64, limit: u64 },
    #[error("data of tensor {found} given where {expected} is due; tensors are written in the order they were added")]
    Order { found: Quoted, expected: String },
    #[error("tensor {tensor} has {size} bytes, {given} were given")]
    TooMuch { tensor: Quoted, size: u64, given: u64 },
    #[error("tensor {tensor} is unfinished: {written} of {size} bytes were written")]
    Unfinished { tensor: Quoted, written: u64, size: u64 },
}

/// Metadata and the list of tensors of a file to be written.
#[derive(Clone, Debug, Default)]
pub struct GgufBuilder {
    metadata: Vec<Entry>,
    keys: HashMap<String, usize>,
    tensors: Vec<Planned>,
    names: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    ty: ValueType,
    value: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Planned {
    name: String,
    shape: Shape,
    format: Format,
    bytes: u64,
}

impl GgufBuilder {
    /// No metadata, no tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key, in place of its earlier value if it has one. The type in the file is the Rust type of the value.
    /// `general.alignment` (a `u32`) is also the alignment that the writer uses.
    pub fn set<T: Element>(&mut self, key: &str, value: T) -> &mut Self {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        self.put(key, T::TYPE, bytes)
    }

    /// Sets a key to a value out of another file.
    pub fn set_value(&mut self, key: &str, value: Value<'_>) -> &mut Self {
        let mut bytes = Vec::new();
        encode::value(&value, &mut bytes);
        self.put(key, value.value_type(), bytes)
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        if let Some(at) = self.keys.remove(key) {
            self.metadata.remove(at);
            self.keys.values_mut().filter(|i| **i > at).for_each(|i| *i -= 1);
        }
        self
    }

    /// Sets all metadata of another file, but for the `split.` keys: this one is written whole.
    pub fn copy_metadata(&mut self, from: &Gguf) -> &mut Self {
        for (key, value) in from.metadata().filter(|(key, _)| !key.starts_with("split.")) {
            self.set_value(key, value);
        }
        self
    }

    fn put(&mut self, key: &str, ty: ValueType, value: Vec<u8>) -> &mut Self {
        let entry = Entry { key: key.to_owned(), ty, value };
        match self.keys.get(key) {
            Some(&at) => self.metadata[at] = entry,
            None => {
                self.keys.insert(key.to_owned(), self.metadata.len());
                self.metadata.push(entry);
            }
        }
        self
    }

    /// Adds a tensor; `shape` is in ggml order, the length of a row first. Its data follows later, in this order.
    pub fn add_tensor(&mut self, name: &str, shape: &[usize], format: Format) -> Result<&mut Self, GgufWriteError> {
        let dims: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
        let shape = Shape::new(name, &dims).map_err(GgufWriteError::Invalid)?;
        let bytes = shape.bytes(name, format).map_err(GgufWriteError::Invalid)? as u64;
        if self.names.insert(name.to_owned(), self.tensors.len()).is_some() {
            return Err(GgufWriteError::Invalid(GgufProblem::DuplicateTensor { tensor: Quoted::new(name) }));
        }
        self.tensors.push(Planned { name: name.to_owned(), shape, format, bytes });
        Ok(self)
    }

    /// Writes the header to `out`, which then takes the tensors' data. `out` should be buffered.
    pub fn begin<W: Write>(self, mut out: W) -> Result<GgufWriter<W>, GgufWriteError> {
        let (header, alignment) = self.header()?;
        out.write_all(&header)?;
        pad(&mut out, header.len() as u64, alignment)?;
        let mut writer = GgufWriter { out, tensors: self.tensors, alignment, current: 0, written: 0 };
        writer.advance()?;
        Ok(writer)
    }

    fn alignment(&self) -> Result<u64, GgufWriteError> {
        let Some(entry) = self.keys.get(ALIGNMENT_KEY).map(|&at| &self.metadata[at]) else {
            return Ok(DEFAULT_ALIGNMENT.into());
        };
        match (entry.ty, <[u8; 4]>::try_from(&entry.value[..]).map(u32::from_le_bytes)) {
            (ValueType::U32, Ok(alignment)) if alignment.is_power_of_two() => Ok(alignment.into()),
            _ => Err(GgufWriteError::Alignment),
        }
    }

    /// The header without the padding after it, and the alignment.
    fn header(&self) -> Result<(Vec<u8>, u64), GgufWriteError> {
        let alignment = self.alignment()?;
        let names = self.metadata.iter().map(|e| &e.key).chain(self.tensors.iter().map(|t| &t.name));
        let longest = names.map(String::len).max().unwrap_or(0) as u64;
        for (what, value, limit) in [
            ("the number of metadata keys", self.metadata.len() as u64, MAX_METADATA),
            ("the number of tensors", self.tensors.len() as u64, MAX_TENSORS),
            ("the length of the longest key or tensor name", longest, MAX_NAME),
        ] {
            if value > limit {
                return Err(GgufWriteError::Limit { what, value, limit });
            }
        }
        let mut header = MAGIC.to_vec();
        VERSION.encode(&mut header);
        (self.tensors.len() as u64).encode(&mut header);
        (self.metadata.len() as u64).encode(&mut header);
        for entry in &self.metadata {
            entry.key.encode(&mut header);
            entry.ty.id().encode(&mut header);
            header.extend_from_slice(&entry.value);
        }
        let mut offset = 0u64;
        for t in &self.tensors {
            t.name.encode(&mut header);
            (t.shape.len() as u32).encode(&mut header);
            for &d in t.shape.iter() {
                (d as u64).encode(&mut header);
            }
            t.format.id().encode(&mut header);
            offset.encode(&mut header);
            offset =
                t.bytes.checked_next_multiple_of(alignment).and_then(|n| offset.checked_add(n)).ok_or_else(|| {
                    let (tensor, shape) = (Quoted::new(&t.name), t.shape.to_string());
                    GgufWriteError::Invalid(GgufProblem::SizeOverflow { tensor, shape })
                })?;
        }
        Ok((header, alignment))
    }
}

/// A file whose header is written and whose tensors are being written.
#[derive(Debug)]
pub struct GgufWriter<W> {
    out: W,
    tensors: Vec<Planned>,
    alignment: u64,
    /// The tensor due, and how many of its bytes are written.
    current: usize,
    written: u64,
}

impl<W: Write> GgufWriter<W> {
    /// The tensor that is due and how many bytes of it are missing; `None` when all are written.
    pub fn due(&self) -> Option<(&str, u64)> {
        self.tensors.get(self.current).map(|t| (t.name.as_str(), t.bytes - self.written))
    }

    /// Writes the next piece of a tensor, which must be the one that is due.
    pub fn write(&mut self, tensor: &str, data: &[u8]) -> Result<(), GgufWriteError> {
        let due = self.tensors.get(self.current);
        let Some(t) = due.filter(|t| t.name == tensor) else {
            let expected = due.map_or("no more data".into(), |t| Quoted::new(&t.name).to_string());
            return Err(GgufWriteError::Order { found: Quoted::new(tensor), expected });
        };
        let given = self.written + data.len() as u64;
        if given > t.bytes {
            return Err(GgufWriteError::TooMuch { tensor: Quoted::new(tensor), size: t.bytes, given });
        }
        self.out.write_all(data)?;
        self.written = given;
        self.advance()
    }

    /// Writes a whole tensor, which must be the one that is due.
    pub fn write_tensor(&mut self, tensor: &str, data: &[u8]) -> Result<(), GgufWriteError> {
        match self.due() {
            Some((name, missing)) if name == tensor && (data.len() as u64) < missing => {
                let size = self.tensors[self.current].bytes;
                let written = self.written + data.len() as u64;
                Err(GgufWriteError::Unfinished { tensor: Quoted::new(tensor), written, size })
            }
            _ => self.write(tensor, data),
        }
    }

    /// Checks that every tensor is written, flushes and gives the output back.
    pub fn finish(mut self) -> Result<W, GgufWriteError> {
        if let Some(t) = self.tensors.get(self.current) {
            let (tensor, written, size) = (Quoted::new(&t.name), self.written, t.bytes);
            return Err(GgufWriteError::Unfinished { tensor, written, size });
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Goes on to the next tensor once the current one is complete.
    fn advance(&mut self) -> Result<(), GgufWriteError> {
        if self.tensors.get(self.current).is_some_and(|t| t.bytes == self.written) {
            pad(&mut self.out, self.written, self.alignment)?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }
}

/// Zeros from `len` to the next multiple of the alignment.
fn pad(out: &mut impl Write, len: u64, alignment: u64) -> io::Result<()> {
    let zeros = len.next_multiple_of(alignment) - len;
    io::copy(&mut io::Read::take(io::repeat(0), zeros), out).map(drop)
}
