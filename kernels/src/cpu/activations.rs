//! The input of a matrix product: rows of activations in the forms that the weights at that place consume.

use super::panel::CHUNK;
use crate::buffer::{Arena, Buffer, CACHE_LINE, FLOATS_PER_LINE, Plain};
use std::sync::Arc;

/// Activation values that share a scale.
pub(crate) const GROUP: usize = 32;

/// Groups of a part of a row, which have their means side by side.
pub(crate) const MEANS: usize = CHUNK / GROUP;

/// Rows whose values of a group share a cache line. A task that sets whole lines of rows keeps other threads off them.
pub(crate) const ROWS_PER_LINE: usize = FLOATS_PER_LINE;

/// Which forms of its input a set of weights consumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Form {
    /// Plain f32.
    pub f32: bool,
    /// 8-bit codes with a scale for each 32 of them.
    pub i8: bool,
    /// The same, for weights that have neither mins nor smaller groups.
    pub i8_uniform: bool,
    /// 16-bit codes with a scale for each 32 of them.
    pub i16: bool,
    /// bfloat16.
    pub bf16: bool,
    /// What rounding to bfloat16 takes away, as bfloat16 too; comes with `bf16`.
    pub bf16_residual: bool,
}

impl Form {
    /// The form of no weight.
    pub(crate) const NONE: Self =
        Self { f32: false, i8: false, i8_uniform: false, i16: false, bf16: false, bf16_residual: false };

    /// Every form.
    pub(crate) const ALL: Self =
        Self { f32: true, i8: true, i8_uniform: true, i16: true, bf16: true, bf16_residual: true };

    /// Whether `other` has all of these forms.
    pub(crate) fn is_part_of(self, other: Self) -> bool {
        self | other == other
    }

    /// What a row of `cols` activations takes in these forms, in bytes.
    pub(crate) fn bytes_of_row(self, cols: usize) -> usize {
        let forms = [
            (self.f32, size_of::<f32>() * cols),
            (self.i8, Codes::<i8>::bytes_of_row(cols)),
            (self.i8_uniform, UniformCodes::bytes_of_row(cols)),
            (self.i16, Codes::<i16>::bytes_of_row(cols)),
            (self.bf16, Bf16::bytes_of_row(cols)),
            (self.bf16_residual, Bf16::bytes_of_row(cols)),
        ];
        forms.into_iter().map(|(wanted, bytes)| if wanted { bytes } else { 0 }).sum()
    }
}

impl std::ops::BitOr for Form {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self {
            f32: self.f32 || other.f32,
            i8: self.i8 || other.i8,
            i8_uniform: self.i8_uniform || other.i8_uniform,
            i16: self.i16 || other.i16,
            bf16: self.bf16 || other.bf16,
            bf16_residual: self.bf16_residual || other.bf16_residual,
        }
    }
}

/// Activations [rows × cols] in any number of forms; the buffers of a form that is not wanted are empty.
pub struct Activations {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// From one group to the next of what belongs to groups: `rows` and a few more, an odd number of cache lines, so that the groups of a row spread
    /// over all sets of the cache.
    pub(crate) stride: usize,
    /// [rows × cols]
    pub(crate) f32: Buffer<f32>,
    pub(crate) i8: Codes<i8>,
    pub(crate) i8_uniform: UniformCodes,
    pub(crate) i16: Codes<i16>,
    pub(crate) bf16: Bf16,
}

/// Quantized activations. What belongs to groups is stored group by group, so that a kernel finds the values of
/// neighbouring rows side by side.
pub(crate) struct Codes<C> {
    /// [rows × cols]
    pub(crate) codes: Buffer<C>,
    /// [cols / 32 × stride]
    pub(crate) scales: Buffer<f32>,
    /// [cols / 16 × stride]: sum of the codes of each half group.
    pub(crate) half_sums: Buffer<f32>,
    /// [cols / 32 × stride]: sum of the codes of each group.
    pub(crate) sums: Buffer<f32>,
}

impl<C: Plain> Codes<C> {
    fn new(arena: &Arc<Arena>, rows: usize, cols: usize, stride: usize) -> Self {
        let groups = cols / GROUP * stride;
        Self {
            codes: Buffer::of_arena(arena, rows * cols),
            scales: Buffer::of_arena(arena, groups),
            half_sums: Buffer::of_arena(arena, 2 * groups),
            sums: Buffer::of_arena(arena, groups),
        }
    }

    /// A code for each value; a scale, two half sums and a sum for each group.
    fn bytes_of_row(cols: usize) -> usize {
        size_of::<C>() * cols + cols.div_ceil(GROUP) * 4 * size_of::<f32>()
    }
}

/// 8-bit codes for `isa::vnni`: rows kept off a distance of whole pages, and of each group only what it needs.
///
/// A row is cut into parts of [`CHUNK`] values. A part's groups are followed by one more, whose values are the means of the groups, for the
/// mins of weights: a mean is a 32nd of a group's sum, and no larger than its values are.
pub(crate) struct UniformCodes {
    /// [rows × row_stride]: of each part the codes of its values, then those of its means; see [`Self::place`].
    pub(crate) codes: Buffer<i8>,
    /// From one row to the next in `codes`: an odd number of cache lines, as in [`Bf16`].
    pub(crate) row_stride: usize,
    /// [groups × `Activations::stride`], see [`Self::group`].
    pub(crate) scales: Buffer<f32>,
    /// [groups × `Activations::stride`]: −128 times the sum of the codes, added to the bits of
    /// [`MAGIC`](crate::rounding::MAGIC) (see `isa::vnni`).
    pub(crate) biases: Buffer<i32>,
}

impl UniformCodes {
    fn new(arena: &Arc<Arena>, rows: usize, cols: usize, stride: usize) -> Self {
        let (row_stride, groups) = (Self::row_stride(cols), Self::groups(cols) * stride);
        Self {
            codes: Buffer::of_arena(arena, if cols > 0 { rows * row_stride } else { 0 }),
            row_stride,
            scales: Buffer::of_arena(arena, groups),
            biases: Buffer::of_arena(arena, groups),
        }
    }

    fn row_stride(cols: usize) -> usize {
        ((cols + cols.div_ceil(CHUNK) * MEANS).div_ceil(CACHE_LINE) | 1) * CACHE_LINE
    }

    /// Groups of a row, those of means among them.
    fn groups(cols: usize) -> usize {
        cols / GROUP + cols.div_ceil(CHUNK)
    }

    /// Where value `k` is among the codes of its row.
    pub(crate) fn place(k: usize) -> usize {
        k + k / CHUNK * MEANS
    }

    /// The number of the group of value `k`.
    pub(crate) fn group(k: usize) -> usize {
        k / GROUP + k / CHUNK
    }

    /// A scale and a bias for each group, besides the codes.
    fn bytes_of_row(cols: usize) -> usize {
        Self::row_stride(cols) + Self::groups(cols) * (size_of::<f32>() + size_of::<i32>())
    }
}

/// Activations as bits of bfloat16.
pub(crate) struct Bf16 {
    /// [rows × row_stride]; zeros from `cols` on.
    pub(crate) values: Buffer<u16>,
    /// The same for what `values` rounded away.
    pub(crate) residual: Buffer<u16>,
    /// From one row to the next: an odd number of cache lines, so that the rows of a tile spread over all sets of the cache.
    pub(crate) row_stride: usize,
}

impl Bf16 {
    /// Values in a cache line.
    const PER_LINE: usize = CACHE_LINE / size_of::<u16>();

    fn new(arena: &Arc<Arena>, rows: usize, cols: usize, form: Form) -> Self {
        let row_stride = (cols.div_ceil(Self::PER_LINE) | 1) * Self::PER_LINE;
        let buffer = |wanted: bool| {
            let len = rows.checked_mul(row_stride).expect("a matrix fits the address space");
            let mut buffer = Buffer::of_arena(arena, if wanted { len } else { 0 });
            buffer.chunks_exact_mut(row_stride).for_each(|row: &mut [u16]| row[cols..].fill(0));
            buffer
        };
        Self { values: buffer(form.bf16), residual: buffer(form.bf16_residual), row_stride }
    }

    /// Of values or of what they rounded away.
    fn bytes_of_row(cols: usize) -> usize {
        size_of::<u16>() * (cols + 2 * Self::PER_LINE)
    }
}

impl Activations {
    /// Room for [rows × cols] in `form`, unset but for the zeros at the end of rows.
    ///
    /// # Panics
    /// When there are codes of rows that are not whole groups, or more values than the address space holds.
    pub(crate) fn new(arena: &Arc<Arena>, rows: usize, cols: usize, form: Form) -> Self {
        let stride = (rows.div_ceil(ROWS_PER_LINE) | 1) * ROWS_PER_LINE;
        let fits = stride.checked_mul(cols).is_some();
        assert!(fits, "a matrix fits the address space");
        assert!(
            !(form.i8 || form.i8_uniform || form.i16) || cols.is_multiple_of(GROUP),
            "quantized weights have rows of whole groups"
        );
        let cols_of = |wanted: bool| if wanted { cols } else { 0 };
        Self {
            rows,
            cols,
            stride,
            f32: Buffer::of_arena(arena, rows * cols_of(form.f32)),
            i8: Codes::new(arena, rows, cols_of(form.i8), stride),
            i8_uniform: UniformCodes::new(arena, rows, cols_of(form.i8_uniform), stride),
            i16: Codes::new(arena, rows, cols_of(form.i16), stride),
            bf16: Bf16::new(arena, rows, cols, form),
        }
    }

    /// The forms that it is wanted in.
    pub(crate) fn form(&self) -> Form {
        Form {
            f32: !self.f32.is_empty(),
            i8: !self.i8.codes.is_empty(),
            i8_uniform: !self.i8_uniform.codes.is_empty(),
            i16: !self.i16.codes.is_empty(),
            bf16: !self.bf16.values.is_empty(),
            bf16_residual: !self.bf16.residual.is_empty(),
        }
    }
}
