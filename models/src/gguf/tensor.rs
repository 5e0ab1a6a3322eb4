//! Tensors of a file: what the header says about them, checked, and their data as slices of the mapping.

use super::cursor::Cursor;
use super::error::{GgufProblem, Quoted};
use super::meta;
use bytes::Bytes;
use qembed_kernels::formats::Format;
use std::fmt;
use std::ops::{Deref, Range};

/// ggml's limit (`GGML_MAX_DIMS`).
pub const MAX_RANK: usize = 4;
/// A file may have this many tensors; the largest models have a few thousand.
pub const MAX_TENSORS: u64 = 65_536;

/// The fewest bytes of a tensor's entry: name length, rank, one dimension, type and offset.
pub(super) const MIN_ENTRY: u64 = 8 + 4 + 8 + 4 + 8;

/// The dimensions of a tensor in ggml order: the first is the innermost, the length of a row. 1 to 4 of them, none 0,
/// and their product fits a `usize`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// The length of a row, in values (ggml's `ne[0]`, the K of a matrix).
    pub fn row_len(&self) -> usize {
        self.dims[0]
    }

    /// The number of rows: the product of all dimensions but the first.
    pub fn rows(&self) -> usize {
        self[1..].iter().product()
    }

    /// The number of values.
    pub fn values(&self) -> usize {
        self.iter().product()
    }

    /// Checks dimensions; `tensor` is the name for messages.
    pub(crate) fn new(tensor: &str, dims: &[u64]) -> Result<Self, GgufProblem> {
        let quoted = || Quoted::new(tensor);
        if dims.is_empty() || dims.len() > MAX_RANK {
            return Err(GgufProblem::Rank { tensor: quoted(), rank: dims.len() as u32 });
        }
        if let Some(axis) = dims.iter().position(|&d| d == 0) {
            return Err(GgufProblem::ZeroDimension { tensor: quoted(), axis });
        }
        let overflow = || GgufProblem::SizeOverflow { tensor: quoted(), shape: format!("{dims:?}") };
        let mut shape = Shape { dims: [1; MAX_RANK], rank: dims.len() as u8 };
        let mut values = 1usize;
        for (to, &from) in shape.dims.iter_mut().zip(dims) {
            *to = usize::try_from(from).map_err(|_| overflow())?;
            values = values.checked_mul(*to).ok_or_else(overflow)?;
        }
        Ok(shape)
    }

    /// The bytes of a tensor of this shape.
    pub(super) fn bytes(&self, tensor: &str, format: Format) -> Result<usize, GgufProblem> {
        let (row, block) = (self.row_len(), format.block_len());
        if !row.is_multiple_of(block) {
            return Err(GgufProblem::RowLength { tensor: Quoted::new(tensor), row, format: format.name(), block });
        }
        format
            .row_bytes(row)
            .and_then(|bytes| bytes.checked_mul(self.rows()))
            .ok_or_else(|| GgufProblem::SizeOverflow { tensor: Quoted::new(tensor), shape: self.to_string() })
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self[..], f)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self[..], f)
    }
}

/// What the header says about a tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// The dimensions, ggml order.
    pub shape: Shape,
    /// The ggml type id of the file.
    pub type_id: u32,
    /// The storage format, `None` when this program cannot read the type.
    pub format: Option<Format>,
    /// Where the data lies in its part of the file; empty when the format is not known.
    pub(super) range: Range<usize>,
    /// The part that holds it.
    pub(super) part: u32,
}

impl TensorInfo {
    /// Bytes of data, `None` when the format is not known.
    pub fn bytes(&self) -> Option<usize> {
        self.format.map(|_| self.range.len())
    }

    /// The name of the type, `None` for an id that ggml did not define when this was written.
    pub fn type_name(&self) -> Option<&'static str> {
        self.format.map(Format::name).or(unsupported(self.type_id).0)
    }
}

/// A tensor: a zero-copy slice of the file that keeps the mapping alive.
#[derive(Clone)]
pub struct Tensor {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// The dimensions, ggml order.
    pub shape: Shape,
    /// How `data` stores the values.
    pub format: Format,
    /// `shape.rows()` rows of `format.row_bytes(shape.row_len())` bytes each. In a mapped file its address is
    /// a multiple of `general.alignment` (32 bytes if the file states none).
    pub data: Bytes,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?} {} {:?})", self.name, self.format, self.shape)
    }
}

/// A tensor's entry as read: its offset counts from the start of the data section, which is not known yet.
pub(super) struct RawTensor {
    name: String,
    shape: Shape,
    type_id: u32,
    offset: u64,
}

impl RawTensor {
    /// Reads entry `i` of `count`.
    pub(super) fn read(c: &mut Cursor<'_>, i: u64, count: u64) -> Result<Self, GgufProblem> {
        let name = meta::name(c, format_args!("the name of tensor {} of {count}", i + 1))?.to_owned();
        let quoted = Quoted::new(&name);
        let what = format_args!("the entry of tensor {quoted}");
        let rank = c.u32(what)?;
        if rank == 0 || rank as usize > MAX_RANK {
            return Err(GgufProblem::Rank { tensor: quoted, rank });
        }
        let mut dims = [0u64; MAX_RANK];
        for d in &mut dims[..rank as usize] {
            *d = c.u64(what)?;
        }
        let type_id = c.u32(what)?;
        let offset = c.u64(what)?;
        let shape = Shape::new(&name, &dims[..rank as usize])?;
        Ok(RawTensor { name, shape, type_id, offset })
    }

    /// Checks that the data lies in a file of `size` bytes whose data section starts at `data_start`.
    pub(super) fn place(self, data_start: u64, alignment: u64, size: usize) -> Result<TensorInfo, GgufProblem> {
        let RawTensor { name, shape, type_id, offset } = self;
        if !offset.is_multiple_of(alignment) {
            return Err(GgufProblem::Misaligned { tensor: Quoted::new(&name), offset, alignment });
        }
        let format = Format::from_id(type_id);
        let bytes = format.map_or(Ok(0), |f| shape.bytes(&name, f))?;
        let start = data_start.saturating_add(offset);
        let end = start.saturating_add(bytes as u64);
        if end > size as u64 {
            return Err(GgufProblem::TensorOutside { tensor: Quoted::new(&name), start, end, size: size as u64 });
        }
        Ok(TensorInfo { name, shape, type_id, format, range: start as usize..end as usize, part: 0 })
    }
}

/// The types of ggml that this program cannot read (`ggml/include/ggml.h`): id, name, and what to take instead, of quantized
/// types the levels that are nearest in size.
const OTHERS: [(u32, &str, &str); 27] = [
    (4, "Q4_2", "Q4_0 or Q4_K_M"),
    (5, "Q4_3", "Q4_1 or Q4_K_M"),
    (9, "Q8_1", "Q8_0"),
    (15, "Q8_K", "Q8_0"),
    (16, "IQ2_XXS", "Q2_K"),
    (17, "IQ2_XS", "Q2_K"),
    (18, "IQ3_XXS", "Q3_K_S or Q3_K_M"),
    (19, "IQ1_S", "Q2_K"),
    (21, "IQ3_S", "Q3_K_S or Q3_K_M"),
    (22, "IQ2_S", "Q2_K"),
    (24, "I8", "F16 or F32"),
    (25, "I16", "F16 or F32"),
    (26, "I32", "F16 or F32"),
    (27, "I64", "F16 or F32"),
    (28, "F64", "F32"),
    (29, "IQ1_M", "Q2_K"),
    (31, "Q4_0_4_4", "Q4_0"),
    (32, "Q4_0_4_8", "Q4_0"),
    (33, "Q4_0_8_8", "Q4_0"),
    (34, "TQ1_0", "Q2_K"),
    (35, "TQ2_0", "Q2_K"),
    (36, "IQ4_NL_4_4", "Q4_0 or Q4_K_S"),
    (37, "IQ4_NL_4_8", "Q4_0 or Q4_K_S"),
    (38, "IQ4_NL_8_8", "Q4_0 or Q4_K_S"),
    (40, "NVFP4", "Q4_0 or Q4_K_M"),
    (41, "Q1_0", "Q2_K"),
    (42, "Q2_0", "Q2_K"),
];

/// Name of a type that this program cannot read, if it has one, and what to take instead.
pub(super) fn unsupported(id: u32) -> (Option<&'static str>, &'static str) {
    let known = OTHERS.iter().find(|other| other.0 == id);
    known.map_or((None, "Q4_K_M or Q8_0"), |(_, name, instead)| (Some(name), instead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;

    #[test]
    fn every_type_has_a_name_and_what_cannot_be_read_has_levels_instead() {
        // Q2_0, the newest, is 42.
        for id in 0..=42 {
            let info = TensorInfo {
                name: String::new(),
                shape: Shape::new("", &[1]).unwrap(),
                type_id: id,
                format: Format::from_id(id),
                range: 0..0,
                part: 0,
            };
            let name = info.type_name().unwrap_or_else(|| panic!("type {id} has no name"));
            let (other, instead) = unsupported(id);
            assert_eq!(other, info.format.is_none().then_some(name), "either read or not");
            for level in instead.split(" or ") {
                level.parse::<Level>().unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        assert_eq!(unsupported(43), (None, "Q4_K_M or Q8_0"));
    }
}
