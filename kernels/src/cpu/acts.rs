//! The input of a matrix product: rows of activations in the forms that the weights at that place consume.

use super::isa::Isa;
use super::ops::quantize::GROUP;
use crate::buffer::{Buffer, Parts};
use std::ops::Range;

/// Which forms of its input a set of weights consumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Plain f32, for float weights.
    pub floats: bool,
    /// Integer codes with a scale per group, for quantized weights.
    pub codes: bool,
}

impl std::ops::BitOr for Form {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self { floats: self.floats || other.floats, codes: self.codes || other.codes }
    }
}

/// Activations [rows × cols]; each buffer is empty when its form is not wanted.
pub struct Acts {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// [rows × cols]
    pub(crate) floats: Buffer<f32>,
    /// [rows × cols] codes of `Integer::code_bytes` bytes each.
    pub(crate) codes: Buffer<u8>,
    /// [rows × cols / 32]
    pub(crate) scales: Buffer<f32>,
    /// [rows × cols / 16]: sum of the codes of each half group.
    pub(crate) half_sums: Buffer<f32>,
    /// [rows × cols / 32]: sum of the codes of each group.
    pub(crate) sums: Buffer<f32>,
    /// −128 times `half_sums` and `sums`, as integers; only for one-byte codes (see `isa::avx512vnni`).
    pub(crate) half_biases: Buffer<i32>,
    pub(crate) biases: Buffer<i32>,
}

impl Acts {
    pub(crate) fn new(isa: &Isa, rows: usize, cols: usize, form: Form) -> Self {
        let len = rows.checked_mul(cols).expect("a matrix fits the address space");
        let floats = if form.floats { len } else { 0 };
        let codes = if form.codes { len } else { 0 };
        let code_bytes = isa.integer.as_ref().map_or(0, |integer| integer.code_bytes);
        let biases = if code_bytes == 1 { codes } else { 0 };
        assert!(!form.codes || cols.is_multiple_of(GROUP), "quantized weights have rows of whole groups");
        Self {
            rows,
            cols,
            floats: Buffer::zeroed(floats),
            codes: Buffer::zeroed(codes * code_bytes),
            scales: Buffer::zeroed(codes / GROUP),
            half_sums: Buffer::zeroed(codes / 16),
            sums: Buffer::zeroed(codes / GROUP),
            half_biases: Buffer::zeroed(biases / 16),
            biases: Buffer::zeroed(biases / GROUP),
        }
    }

    pub(crate) fn parts<'a>(&'a mut self, isa: &'a Isa) -> ActParts<'a> {
        ActParts {
            isa,
            cols: self.cols,
            floats: Parts::new(&mut self.floats),
            codes: Parts::new(&mut self.codes),
            scales: Parts::new(&mut self.scales),
            half_sums: Parts::new(&mut self.half_sums),
            sums: Parts::new(&mut self.sums),
            half_biases: Parts::new(&mut self.half_biases),
            biases: Parts::new(&mut self.biases),
        }
    }
}

/// [`Acts`] that the tasks of one loop fill row by row.
pub(crate) struct ActParts<'a> {
    isa: &'a Isa,
    cols: usize,
    floats: Parts<'a, f32>,
    codes: Parts<'a, u8>,
    scales: Parts<'a, f32>,
    half_sums: Parts<'a, f32>,
    sums: Parts<'a, f32>,
    half_biases: Parts<'a, i32>,
    biases: Parts<'a, i32>,
}

impl ActParts<'_> {
    /// Sets row `row` to `x` in every wanted form.
    ///
    /// # Safety
    /// No other task sets the same row.
    pub(crate) unsafe fn set_row(&self, row: usize, x: &[f32]) {
        assert_eq!(x.len(), self.cols);
        let range = |per_value: usize| -> Range<usize> {
            let len = self.cols / per_value;
            row * len..(row + 1) * len
        };
        // SAFETY: these ranges belong to `row`, which is this task's own.
        unsafe {
            if !self.floats.is_empty() {
                self.floats.part(range(1)).copy_from_slice(x);
            }
            let Some(integer) = self.isa.integer.as_ref().filter(|_| !self.codes.is_empty()) else {
                return;
            };
            let bytes = self.cols * integer.code_bytes;
            let codes = self.codes.part(row * bytes..(row + 1) * bytes);
            let half_sums = self.half_sums.part(range(16));
            let sums = self.sums.part(range(GROUP));
            integer.quantize(x, codes, self.scales.part(range(GROUP)), half_sums);
            for (sum, halves) in sums.iter_mut().zip(half_sums.chunks_exact(2)) {
                *sum = halves[0] + halves[1];
            }
            if !self.biases.is_empty() {
                // Exact: at most 128 · 32 · 127 < 2^24.
                let negate = |to: &mut [i32], from: &[f32]| {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = -128 * *from as i32);
                };
                negate(self.half_biases.part(range(16)), half_sums);
                negate(self.biases.part(range(GROUP)), sums);
            }
        }
    }
}
