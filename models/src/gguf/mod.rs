//! GGUF files: a zero-copy, bounds-checked reader and a streaming writer.
//!
//! A file is mapped, its header is walked once and checked in full, and from then on metadata and tensors are views of
//! the mapping. Opening costs time in the header's size, never in the model's, and memory in the number of keys and
//! tensors, never in a count that the file claims. Whatever the bytes are, the outcome is a [`Gguf`] or a [`GgufError`]
//! which says what is wrong: this module must never panic, read out of bounds or allocate on the word of a file.
//!
//! Versions 2 and 3, little-endian, split models included. The format: ggml `docs/gguf.md`.

mod array;
mod atomic;
mod cursor;
mod encode;
mod error;
#[cfg(unix)]
mod fault;
mod getters;
mod map;
mod meta;
mod part;
mod split;
mod tensor;
mod value;
mod write;

pub use array::ArrayRef;
pub use atomic::{AtomicFile, discard_unfinished_files};
pub use encode::Element;
pub use error::{GgufError, GgufProblem, Quoted};
#[cfg(unix)]
pub use fault::exit_on_faults;
pub use map::{Access, Watch};
pub use meta::{MAX_METADATA, MAX_NAME};
pub use tensor::{MAX_RANK, MAX_TENSORS, Shape, Tensor, TensorInfo};
pub use value::{MAX_ARRAY_DEPTH, Value, ValueType};
pub use write::{GgufBuilder, GgufWriteError, GgufWriter};

#[cfg(feature = "convert")]
pub(crate) use map::open_mapped as map_file;

use bytes::Bytes;
use meta::{Metadata, NameIndex};
use part::Part;
use std::fmt;
use std::path::Path;

/// An open GGUF file, or all parts of a split one.
pub struct Gguf {
    parts: Vec<Part>,
    /// Of all parts, in file order.
    tensors: Vec<TensorInfo>,
    index: NameIndex,
}

impl Gguf {
    /// Maps a file and checks its header. Any part of a split model (`name-00001-of-00003.gguf`) opens all of it.
    ///
    /// The file must not be truncated or overwritten in place while the returned value, or a tensor out of it, is alive
    /// ([`Gguf::watch`] tells); replacing it by a rename is fine, and so is anything once [`Access::Read`] has read it.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf, GgufError> {
        Self::open_with(path, Access::default())
    }

    /// [`Gguf::open`] with a choice of how the file gets into memory.
    pub fn open_with(path: impl AsRef<Path>, access: Access) -> Result<Gguf, GgufError> {
        let path = path.as_ref();
        Self::assemble(split::with_siblings(path, Part::open(path, access)?, access)?)
    }

    /// Reads a file that is in memory. A part of a split model is an error: its siblings cannot be found.
    pub fn from_bytes(bytes: Bytes) -> Result<Gguf, GgufError> {
        let path = Path::new("(in memory)");
        let part = Part::parse(path, bytes)?;
        match split::count(&part)? {
            1 => Self::assemble(vec![part]),
            count => Err(GgufProblem::SplitInMemory { count }.at(path)),
        }
    }

    fn assemble(mut parts: Vec<Part>) -> Result<Gguf, GgufError> {
        let mut tensors = Vec::with_capacity(parts.iter().map(|p| p.tensors.len()).sum());
        for (i, part) in parts.iter_mut().enumerate() {
            tensors.extend(part.tensors.drain(..).map(|t| TensorInfo { part: i as u32, ..t }));
            part.tensors = Vec::new();
        }
        let index = NameIndex::new(tensors.len(), |i| &tensors[i].name).map_err(|i| {
            let t = &tensors[i];
            GgufProblem::DuplicateTensor { tensor: Quoted::new(&t.name) }.at(parts[t.part as usize].metadata.path())
        })?;
        Ok(Gguf { parts, tensors, index })
    }

    /// The path as opened; for a split model, that of its first part.
    pub fn path(&self) -> &Path {
        self.meta().path()
    }

    /// The paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.metadata.path())
    }

    /// What tells, later, whether the files are still as they were when they were opened.
    pub fn watch(&self) -> Watch {
        Watch(self.parts.iter().filter_map(|part| part.mapped.clone()).collect())
    }

    /// The GGUF version of the (first) file: 2 or 3.
    pub fn version(&self) -> u32 {
        self.parts[0].version
    }

    /// The alignment of tensor data in the (first) file, in bytes.
    pub fn alignment(&self) -> u32 {
        self.parts[0].alignment
    }

    /// The bytes of each file that is mapped, of which tensors are slices: whole pages that a device may read in place.
    pub fn mapped(&self) -> impl Iterator<Item = &Bytes> {
        self.parts.iter().filter(|part| part.mapped.is_some()).map(|part| &part.bytes)
    }

    /// The bytes of each file, of which tensors are slices; mapped, unless they were read.
    pub fn mappings(&self) -> impl Iterator<Item = &Bytes> {
        self.parts.iter().map(|part| &part.bytes)
    }

    /// The number of files: 1, or the parts of a split model.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// Bytes of all files together.
    pub fn file_size(&self) -> u64 {
        self.parts.iter().map(|p| p.bytes.len() as u64).sum()
    }

    /// Bits that a value takes on average, in tensors whose types can be read.
    pub fn bits_per_value(&self) -> f64 {
        let sizes = self.tensors.iter().filter_map(|tensor| Some((tensor.shape.values(), tensor.bytes()?)));
        let (values, bytes) = sizes.fold((0, 0), |sum, tensor| (sum.0 + tensor.0, sum.1 + tensor.1));
        8.0 * bytes as f64 / values.max(1) as f64
    }

    /// What the header says about each tensor, in file order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// What the header says about one tensor.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.index.find(name, |i| &self.tensors[i].name).map(|i| &self.tensors[i])
    }

    /// A tensor and its data; an error only when its type cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>, GgufError> {
        let Some(info) = self.tensor_info(name) else { return Ok(None) };
        let part = &self.parts[info.part as usize];
        let Some(format) = info.format else {
            let (tensor, id, (name, instead)) = (Quoted::new(name), info.type_id, tensor::unsupported(info.type_id));
            return Err(GgufProblem::UnsupportedType { tensor, id, name, instead }.at(part.metadata.path()));
        };
        let data = part.bytes.slice(info.range.clone());
        Ok(Some(Tensor { name: info.name.clone(), shape: info.shape, format, data }))
    }

    /// A tensor that has to be there.
    pub fn require_tensor(&self, name: &str) -> Result<Tensor, GgufError> {
        self.tensor(name)?.ok_or_else(|| GgufProblem::MissingTensor { tensor: Quoted::new(name) }.at(self.path()))
    }

    fn meta(&self) -> &Metadata {
        &self.parts[0].metadata
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("path", &self.path())
            .field("parts", &self.parts.len())
            .field("metadata", &self.meta().len())
            .field("tensors", &self.tensors.len())
            .finish()
    }
}
