//! One GGUF file: its header checked in full, its data not touched.

use super::cursor::Cursor;
use super::error::{GgufError, GgufProblem};
use super::map::{self, Access, Mapped};
use super::meta::{Metadata, limit};
use super::tensor::{self, MAX_TENSORS, RawTensor, TensorInfo};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

/// The first four bytes of every GGUF file.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// The metadata key of the alignment of tensor data.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// The alignment of files that state none.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;

/// A file, or one part of a split model.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    pub(super) version: u32,
    pub(super) alignment: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    /// `None` for bytes that nobody else can change.
    pub(super) mapped: Option<Arc<Mapped>>,
}

impl Part {
    pub(super) fn open(path: &Path, access: Access) -> Result<Self, GgufError> {
        let (bytes, mapped) = map::open(path, access).map_err(|e| e.at(path))?;
        Ok(Self { mapped: mapped.map(Arc::new), ..Self::parse(path, bytes)? })
    }

    /// Parses a file; `path` is for messages.
    pub(super) fn parse(path: &Path, bytes: Bytes) -> Result<Self, GgufError> {
        Self::parse_inner(path, &bytes).map_err(|e| e.at(path))
    }

    fn parse_inner(path: &Path, bytes: &Bytes) -> Result<Self, GgufProblem> {
        let c = &mut Cursor::new(bytes);
        let version = version(c, bytes)?;
        let n_tensors = c.u64(format_args!("the header"))?;
        let n_metadata = c.u64(format_args!("the header"))?;
        let metadata = Metadata::read(c, n_metadata, path, bytes)?;

        limit(format_args!("the number of tensors"), n_tensors, MAX_TENSORS)?;
        c.fits(n_tensors, tensor::MIN_ENTRY, format_args!("the list of tensors ({n_tensors} entries)"))?;
        let raw = (0..n_tensors).map(|i| RawTensor::read(c, i, n_tensors)).collect::<Result<Vec<_>, _>>()?;

        let alignment = match metadata.int::<u32>(ALIGNMENT_KEY, "a u32") {
            Ok(a) => a.unwrap_or(DEFAULT_ALIGNMENT),
            Err(e) => return Err(e.into_problem()),
        };
        if !alignment.is_power_of_two() {
            return Err(GgufProblem::Alignment(alignment));
        }
        let data_start = (c.pos() as u64).next_multiple_of(alignment.into());
        let tensors = raw
            .into_iter()
            .map(|t| t.place(data_start, alignment.into(), bytes.len()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Part { bytes: bytes.clone(), version, alignment, metadata, tensors, mapped: None })
    }
}

/// Reads magic and version.
fn version(c: &mut Cursor<'_>, bytes: &[u8]) -> Result<u32, GgufProblem> {
    if bytes.is_empty() {
        return Err(GgufProblem::Empty);
    }
    let magic = bytes.get(..4).unwrap_or(bytes);
    if magic == b"FUGG" {
        return Err(GgufProblem::BigEndian);
    }
    if !MAGIC.starts_with(magic) {
        return Err(GgufProblem::NotGguf { start: start(bytes), hint: hint(bytes) });
    }
    c.take(4, format_args!("the header"))?;
    match c.u32(format_args!("the header"))? {
        version @ 2..=3 => Ok(version),
        version @ 0..2 => Err(GgufProblem::VersionTooOld(version)),
        // Small numbers written in the other byte order: the magic reads the same in both.
        version if version.swap_bytes() <= 0xffff => Err(GgufProblem::BigEndian),
        version => Err(GgufProblem::VersionUnknown(version)),
    }
}

/// The first bytes of a file, as text and in hex.
fn start(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(8)];
    let hex: Vec<String> = head.iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{}\" (hex {})", head.escape_ascii(), hex.join(" "))
}

/// What a file that is not GGUF looks like, and what to do then.
fn hint(bytes: &[u8]) -> &'static str {
    let text = bytes.trim_ascii_start();
    let tag = |t: &str| text.get(..t.len()).is_some_and(|s| s.eq_ignore_ascii_case(t.as_bytes()));
    match bytes {
        [b'P', b'K', 3, 4, ..] => "; it looks like a ZIP archive or PyTorch checkpoint, convert it to GGUF",
        [0x1f, 0x8b, ..] => "; it looks gzip-compressed, unpack it first",
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => "; it looks like a safetensors file, convert it to GGUF",
        [b'l', b'm', b'g', b'g', ..] | [_, _, b'g', b'g', ..] => {
            "; it looks like an old GGML file, from before GGUF: convert the model again"
        }
        _ if tag("version https://git-lfs") => "; it is a Git LFS pointer, fetch the file itself with `git lfs pull`",
        _ if tag("<!doctype") || tag("<html") => "; it is a web page, check the address it was downloaded from",
        _ => "; check that it is the right file and was downloaded whole",
    }
}
