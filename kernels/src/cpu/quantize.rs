//! How rows of activations get the forms that they are wanted in, by the functions of a tier.

use super::activations::{Activations, Bf16, Codes, GROUP, MEANS, ROWS_PER_LINE, UniformCodes};
use super::isa::Tier;
use super::ops::quantize::{MeanCodes, Means};
use super::panel::CHUNK;
use crate::buffer::{Parts, Plain};
use crate::rounding::MAGIC;
use std::ops::Range;

/// [`Activations`] that the tasks of one loop fill row by row.
pub(crate) struct ActivationParts<'a> {
    tier: &'a dyn Tier,
    stride: usize,
    cols: usize,
    f32: Parts<'a, f32>,
    i8: CodeParts<'a, i8>,
    i8_uniform: UniformParts<'a>,
    i16: CodeParts<'a, i16>,
    bf16: Bf16Parts<'a>,
}

struct CodeParts<'a, C> {
    codes: Parts<'a, C>,
    scales: Parts<'a, f32>,
    half_sums: Parts<'a, f32>,
    sums: Parts<'a, f32>,
}

struct UniformParts<'a> {
    codes: Parts<'a, i8>,
    row_stride: usize,
    scales: Parts<'a, f32>,
    biases: Parts<'a, i32>,
}

struct Bf16Parts<'a> {
    values: Parts<'a, u16>,
    residual: Parts<'a, u16>,
    row_stride: usize,
}

/// Room for what a row's groups have in common, before it is spread over the groups.
#[derive(Default)]
pub(crate) struct RowGroups {
    scales: Vec<f32>,
    half_sums: Vec<f32>,
}

impl<'a> ActivationParts<'a> {
    /// Those of `of`, which `tier` will fill.
    pub(crate) fn new(of: &'a mut Activations, tier: &'a dyn Tier) -> Self {
        let Activations { stride, cols, f32, i8, i8_uniform, i16, bf16, .. } = of;
        let UniformCodes { codes, row_stride, scales, biases } = i8_uniform;
        let uniform = UniformParts {
            codes: Parts::new(codes),
            row_stride: *row_stride,
            scales: Parts::new(scales),
            biases: Parts::new(biases),
        };
        let Bf16 { values, residual, row_stride } = bf16;
        let bf16 = Bf16Parts { values: Parts::new(values), residual: Parts::new(residual), row_stride: *row_stride };
        Self {
            tier,
            stride: *stride,
            cols: *cols,
            f32: Parts::new(f32),
            i8: CodeParts::new(i8),
            i8_uniform: uniform,
            i16: CodeParts::new(i16),
            bf16,
        }
    }

    /// Sets columns `first..` of row `row` to `x` in every wanted form; whole groups, if codes are wanted. [`Self::finish`] is to follow.
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
            if !self.f32.is_empty() {
                self.f32.part(range.clone()).copy_from_slice(x);
            }
            if !self.i8.codes.is_empty() {
                groups.resize(x.len());
                let codes = self.i8.codes.part(range.clone());
                self.tier.quantize_i8(x, codes, &mut groups.scales, &mut groups.half_sums);
                self.i8.spread(row, group, self.stride, groups);
            }
            if !self.i8_uniform.codes.is_empty() {
                groups.resize(x.len());
                let mut left = x;
                while !left.is_empty() {
                    let k = first + x.len() - left.len();
                    let (x, after) = left.split_at(left.len().min(CHUNK - k % CHUNK));
                    left = after;
                    let start = row * self.i8_uniform.row_stride + UniformCodes::place(k);
                    let codes = self.i8_uniform.codes.part(start..start + x.len());
                    let count = x.len() / GROUP;
                    let (scales, sums) = (&mut groups.scales[..count], &mut groups.half_sums[..count]);
                    self.tier.quantize_i8_uniform(x, codes, scales, sums);
                    for (g, (scale, sum)) in (UniformCodes::group(k)..).zip(scales.iter().zip(sums)) {
                        self.i8_uniform.scales.set(g * self.stride + row, *scale);
                        self.i8_uniform.biases.set(g * self.stride + row, bias(*sum as i32));
                    }
                }
            }
            if !self.i16.codes.is_empty() {
                groups.resize(x.len());
                self.tier.quantize_i16(x, self.i16.codes.part(range), &mut groups.scales, &mut groups.half_sums);
                self.i16.spread(row, group, self.stride, groups);
            }
            if !self.bf16.values.is_empty() {
                let start = row * self.bf16.row_stride + first;
                let range = start..start + x.len();
                let residual = if self.bf16.residual.is_empty() { 0..0 } else { range.clone() };
                self.tier.round_bf16(x, self.bf16.values.part(range), self.bf16.residual.part(residual));
            }
        }
    }

    /// Sets what depends on many columns of `rows`, of which all columns are set: some of those from a multiple of [`ROWS_PER_LINE`] on to
    /// the next.
    ///
    /// # Safety
    /// No other task sets anything of these rows.
    pub(crate) unsafe fn finish(&self, rows: Range<usize>) {
        assert!(rows.start.is_multiple_of(ROWS_PER_LINE) && rows.len() <= ROWS_PER_LINE);
        let UniformParts { codes, row_stride, scales, biases } = &self.i8_uniform;
        if codes.is_empty() {
            return;
        }
        for first in (0..self.cols).step_by(CHUNK) {
            let len = (self.cols - first).min(CHUNK);
            let groups = UniformCodes::group(first)..UniformCodes::group(first) + len / GROUP;
            let line =
                |group: usize| group * self.stride + rows.start..group * self.stride + rows.start + ROWS_PER_LINE;
            // SAFETY: all of these rows are this task's own, and those after the last, whose values do not matter.
            unsafe {
                let mut means = Means::default();
                for (means, group) in means.iter_mut().zip(groups.clone()) {
                    let values = scales.part(line(group)).iter().zip(&*biases.part(line(group)));
                    means.iter_mut().zip(values).for_each(|(to, (scale, bias))| *to = scale * mean(*bias));
                }
                let mut quantized = MeanCodes::default();
                self.tier.quantize_means(&means, &mut quantized);
                for (row, of_row) in rows.clone().zip(&quantized.codes) {
                    let start = row * row_stride + UniformCodes::place(first) + len;
                    codes.part(start..start + MEANS).copy_from_slice(of_row);
                }
                scales.part(line(groups.end)).copy_from_slice(&quantized.scales);
                let sums = biases.part(line(groups.end)).iter_mut().zip(quantized.sums);
                sums.for_each(|(to, sum)| *to = bias(sum));
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

/// Where integer sums start that have 128 · activations to lose.
fn bias(sum: i32) -> i32 {
    MAGIC.to_bits() as i32 - 128 * sum
}

/// The mean of a group's codes, from its bias. Exact: a sum is at most 32 · 127.
fn mean(bias: i32) -> f32 {
    (MAGIC.to_bits() as i32).wrapping_sub(bias) as f32 * (1.0 / (128 * GROUP) as f32)
}

impl<'a, C: Plain> CodeParts<'a, C> {
    fn new(of: &'a mut Codes<C>) -> Self {
        Self {
            codes: Parts::new(&mut of.codes),
            scales: Parts::new(&mut of.scales),
            half_sums: Parts::new(&mut of.half_sums),
            sums: Parts::new(&mut of.sums),
        }
    }

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
