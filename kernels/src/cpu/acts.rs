//! The input of a matrix product: rows of activations in the forms that the weights at that place consume.

use super::isa::Isa;
use super::ops::quantize::GROUP;
use super::simd::Code;
use crate::buffer::{Arena, Buffer, CACHE_LINE, FLOATS_PER_LINE, Parts};
use crate::formats::LARGEST_SCALE;
use crate::rounding::MAGIC;
use std::sync::Arc;

/// Which forms of its input a set of weights consumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Plain f32.
    pub floats: bool,
    /// 8-bit codes with a scale per group.
    pub bytes: bool,
    /// The same, for weights that have neither mins nor smaller groups.
    pub uniform: bool,
    /// 16-bit codes with a scale per group.
    pub words: bool,
    /// bfloat16.
    pub halves: bool,
    /// What rounding to bfloat16 takes away, as bfloat16 too; comes with `halves`.
    pub rests: bool,
}

impl Form {
    /// None at all.
    pub(crate) const NONE: Self =
        Self { floats: false, bytes: false, uniform: false, words: false, halves: false, rests: false };

    pub(crate) const ALL: Self =
        Self { floats: true, bytes: true, uniform: true, words: true, halves: true, rests: true };

    /// Whether `other` has all of these forms.
    pub(crate) fn is_part_of(self, other: Self) -> bool {
        self | other == other
    }

    /// What a row of `cols` activations takes in these forms.
    pub(crate) fn bytes_of_row(self, cols: usize) -> usize {
        let groups = cols.div_ceil(GROUP);
        // See `Codes`: a code, then scales, two half sums and a sum of each group; see `Uniform`.
        let (byte, word) = (cols + groups * 4 * 4, 2 * cols + groups * 4 * 4);
        let uniform = uniform_stride(cols) + cols / GROUP * 4 * 2;
        let half = 2 * (cols + 2 * HALVES_PER_LINE);
        let forms = [(self.floats, 4 * cols), (self.bytes, byte), (self.uniform, uniform), (self.words, word)];
        let halves = [(self.halves, half), (self.rests, half)];
        forms.into_iter().chain(halves).map(|(wanted, bytes)| if wanted { bytes } else { 0 }).sum()
    }
}

impl std::ops::BitOr for Form {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self {
            floats: self.floats || other.floats,
            bytes: self.bytes || other.bytes,
            uniform: self.uniform || other.uniform,
            words: self.words || other.words,
            halves: self.halves || other.halves,
            rests: self.rests || other.rests,
        }
    }
}

/// Activations [rows × cols] in any number of forms; the buffers of a form that is not wanted are empty.
pub struct Acts {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// `rows` rounded up to [`ROWS_PER_LINE`]: from one group to the next in [`Codes`].
    pub(crate) stride: usize,
    /// [rows × cols]
    pub(crate) floats: Buffer<f32>,
    pub(crate) bytes: Codes<i8>,
    pub(crate) uniform: Uniform,
    pub(crate) words: Codes<i16>,
    /// [rows × half_stride], bits of bfloat16; zeros from `cols` on.
    pub(crate) halves: Buffer<u16>,
    /// The same for what `halves` rounded away.
    pub(crate) rests: Buffer<u16>,
    /// From one row to the next in `halves` and `rests`: an odd number of cache lines, so that the rows of a tile spread
    /// over all sets of the cache.
    pub(crate) half_stride: usize,
}

// Such sums are scaled as they are: a finite scale times one must be finite. Scales are those of a block, or what requantizing
// makes of the block's values, (128 scales + a min) / 127.
const _: () = assert!(2.0 * LARGEST_SCALE * (MAGIC + 4_194_304.0) < f32::MAX);

/// Values of bfloat16 in a cache line.
const HALVES_PER_LINE: usize = CACHE_LINE / 2;

/// Rows whose values of a group share a cache line. A task that sets whole lines of rows keeps other threads off them.
pub(crate) const ROWS_PER_LINE: usize = FLOATS_PER_LINE;

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

/// 8-bit codes for `isa::vnni`: rows kept off a distance of whole pages, and of each group only what it needs.
pub(crate) struct Uniform {
    /// [rows × stride]
    pub(crate) codes: Buffer<i8>,
    /// From one row to the next in `codes`: an odd number of cache lines, as `half_stride`.
    pub(crate) stride: usize,
    /// [groups × `Acts::stride`]
    pub(crate) scales: Buffer<f32>,
    /// [groups × `Acts::stride`]: −128 times the sum of the codes, added to the bits of [`MAGIC`] (see `isa::vnni`).
    pub(crate) biases: Buffer<i32>,
}

/// See [`Uniform::stride`].
fn uniform_stride(cols: usize) -> usize {
    (cols.div_ceil(CACHE_LINE) | 1) * CACHE_LINE
}

impl<C: Code> Codes<C> {
    /// Any values.
    fn new(arena: &Arc<Arena>, rows: usize, cols: usize, stride: usize) -> Self {
        let groups = cols / GROUP * stride;
        Self {
            codes: Buffer::of_arena(arena, rows * cols),
            scales: Buffer::of_arena(arena, groups),
            half_sums: Buffer::of_arena(arena, 2 * groups),
            sums: Buffer::of_arena(arena, groups),
        }
    }

    fn parts(&mut self) -> CodeParts<'_, C> {
        CodeParts {
            codes: Parts::new(&mut self.codes),
            scales: Parts::new(&mut self.scales),
            half_sums: Parts::new(&mut self.half_sums),
            sums: Parts::new(&mut self.sums),
        }
    }
}

impl Acts {
    /// Any values, but for the zeros at the end of rows.
    pub(crate) fn new(arena: &Arc<Arena>, rows: usize, cols: usize, form: Form) -> Self {
        let stride = rows.next_multiple_of(ROWS_PER_LINE);
        let fits = stride.checked_mul(cols).is_some();
        assert!(fits, "a matrix fits the address space");
        assert!(
            !(form.bytes || form.uniform || form.words) || cols.is_multiple_of(GROUP),
            "quantized weights have rows of whole groups"
        );
        let cols_of = |wanted: bool| if wanted { cols } else { 0 };
        let half_stride = (cols.div_ceil(HALVES_PER_LINE) | 1) * HALVES_PER_LINE;
        let halves = |wanted: bool| {
            let len = rows.checked_mul(half_stride).expect("a matrix fits the address space");
            let mut buffer = Buffer::of_arena(arena, if wanted { len } else { 0 });
            buffer.chunks_exact_mut(half_stride).for_each(|row: &mut [u16]| row[cols..].fill(0));
            buffer
        };
        let uniform_stride = uniform_stride(cols_of(form.uniform));
        let uniform_groups = cols_of(form.uniform) / GROUP * stride;
        Self {
            rows,
            cols,
            stride,
            floats: Buffer::of_arena(arena, rows * cols_of(form.floats)),
            bytes: Codes::new(arena, rows, cols_of(form.bytes), stride),
            uniform: Uniform {
                codes: Buffer::of_arena(arena, if form.uniform { rows * uniform_stride } else { 0 }),
                stride: uniform_stride,
                scales: Buffer::of_arena(arena, uniform_groups),
                biases: Buffer::of_arena(arena, uniform_groups),
            },
            words: Codes::new(arena, rows, cols_of(form.words), stride),
            halves: halves(form.halves),
            rests: halves(form.rests),
            half_stride,
        }
    }

    /// The forms that it is wanted in.
    pub(crate) fn form(&self) -> Form {
        Form {
            floats: !self.floats.is_empty(),
            bytes: !self.bytes.codes.is_empty(),
            uniform: !self.uniform.codes.is_empty(),
            words: !self.words.codes.is_empty(),
            halves: !self.halves.is_empty(),
            rests: !self.rests.is_empty(),
        }
    }

    pub(crate) fn parts<'a>(&'a mut self, isa: &'a Isa) -> ActParts<'a> {
        ActParts {
            isa,
            stride: self.stride,
            cols: self.cols,
            floats: Parts::new(&mut self.floats),
            bytes: self.bytes.parts(),
            uniform: UniformParts {
                codes: Parts::new(&mut self.uniform.codes),
                stride: self.uniform.stride,
                scales: Parts::new(&mut self.uniform.scales),
                biases: Parts::new(&mut self.uniform.biases),
            },
            words: self.words.parts(),
            halves: Parts::new(&mut self.halves),
            rests: Parts::new(&mut self.rests),
            half_stride: self.half_stride,
        }
    }
}

/// [`Acts`] that the tasks of one loop fill row by row.
pub(crate) struct ActParts<'a> {
    isa: &'a Isa,
    stride: usize,
    cols: usize,
    floats: Parts<'a, f32>,
    bytes: CodeParts<'a, i8>,
    uniform: UniformParts<'a>,
    words: CodeParts<'a, i16>,
    halves: Parts<'a, u16>,
    rests: Parts<'a, u16>,
    half_stride: usize,
}

struct CodeParts<'a, C> {
    codes: Parts<'a, C>,
    scales: Parts<'a, f32>,
    half_sums: Parts<'a, f32>,
    sums: Parts<'a, f32>,
}

struct UniformParts<'a> {
    codes: Parts<'a, i8>,
    stride: usize,
    scales: Parts<'a, f32>,
    biases: Parts<'a, i32>,
}

/// Room for what a row's groups have in common, before it is spread over the groups.
#[derive(Default)]
pub(crate) struct RowGroups {
    scales: Vec<f32>,
    half_sums: Vec<f32>,
}

impl ActParts<'_> {
    /// Sets columns `first..` of row `row` to `x` in every wanted form; whole groups, if codes are wanted.
    ///
    /// # Safety
    /// No other task sets any of them.
    pub(crate) unsafe fn set(&self, row: usize, first: usize, x: &[f32], groups: &mut RowGroups) {
        assert!(first + x.len() <= self.cols);
        let start = row * self.cols + first;
        let range = start..start + x.len();
        let group = first / GROUP;
        // SAFETY: this range, and its groups, are this task's own.
        unsafe {
            if !self.floats.is_empty() {
                self.floats.part(range.clone()).copy_from_slice(x);
            }
            if !self.bytes.codes.is_empty() {
                groups.resize(x.len());
                self.isa.quantize_bytes(
                    x,
                    self.bytes.codes.part(range.clone()),
                    &mut groups.scales,
                    &mut groups.half_sums,
                );
                self.bytes.spread(row, group, self.stride, groups);
            }
            if !self.uniform.codes.is_empty() {
                groups.resize(x.len());
                let start = row * self.uniform.stride + first;
                let codes = self.uniform.codes.part(start..start + x.len());
                let count = x.len() / GROUP;
                let (scales, sums) = (&mut groups.scales[..count], &mut groups.half_sums[..count]);
                self.isa.quantize_uniform(x, codes, scales, sums);
                for (g, (scale, sum)) in (first / GROUP..).zip(scales.iter().zip(sums)) {
                    self.uniform.scales.set(g * self.stride + row, *scale);
                    self.uniform.biases.set(g * self.stride + row, bias(*sum));
                }
            }
            if !self.words.codes.is_empty() {
                groups.resize(x.len());
                self.isa.quantize_words(x, self.words.codes.part(range), &mut groups.scales, &mut groups.half_sums);
                self.words.spread(row, group, self.stride, groups);
            }
            if !self.halves.is_empty() {
                let start = row * self.half_stride + first;
                let range = start..start + x.len();
                let rests = if self.rests.is_empty() { 0..0 } else { range.clone() };
                self.isa.round_halves(x, self.halves.part(range), self.rests.part(rests));
            }
        }
    }
}

impl RowGroups {
    fn resize(&mut self, cols: usize) {
        self.scales.resize(cols / GROUP, 0.0);
        self.half_sums.resize(cols / 16, 0.0);
    }
}

/// Where integer sums start that have 128 · activations to lose. Exact: at most 128 · 32 · 127 < 2^24.
fn bias(sum: f32) -> i32 {
    MAGIC.to_bits() as i32 - 128 * sum as i32
}

impl<C> CodeParts<'_, C> {
    /// Stores what the groups of a row, from the `first` on, have in common.
    ///
    /// # Safety
    /// No other task sets the same groups of the row.
    unsafe fn spread(&self, row: usize, first: usize, stride: usize, groups: &RowGroups) {
        for (g, (scale, halves)) in (first..).zip(groups.scales.iter().zip(groups.half_sums.chunks_exact(2))) {
            let sum = halves[0] + halves[1];
            // SAFETY: places of `row` in each group, which are this task's own.
            unsafe {
                self.scales.set(g * stride + row, *scale);
                self.sums.set(g * stride + row, sum);
                self.half_sums.set(2 * g * stride + row, halves[0]);
                self.half_sums.set((2 * g + 1) * stride + row, halves[1]);
            }
        }
    }
}
