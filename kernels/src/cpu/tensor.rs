//! Matrices of f32 whose rows the tasks of a loop write in parts.

use super::output::Output;
use crate::buffer::{Buffer, FLOATS_PER_LINE, Parts, prefetch};
use std::ops::Range;

/// A matrix of f32 [rows × cols], each row `stride` floats after the one before.
pub struct Tensor {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(super) stride: usize,
    pub(super) data: Buffer<f32>,
}

impl Tensor {
    /// In the memory that `buffer` gives for so many floats. Rows are kept off a distance of whole pages: a tile of a product
    /// writes a few columns of every row, and rows a page apart would all fall into the same few sets of the cache.
    pub(super) fn new(rows: usize, cols: usize, buffer: impl FnOnce(usize) -> Buffer<f32>) -> Self {
        let lines = cols.div_ceil(FLOATS_PER_LINE);
        let stride = if lines.is_multiple_of(FLOATS_PER_LINE) { (lines + 1) * FLOATS_PER_LINE } else { cols };
        let len = rows.checked_mul(stride).expect("a matrix fits the address space");
        Self { rows, cols, stride, data: buffer(len) }
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..][..self.cols]
    }

    pub(super) fn parts(&mut self) -> TensorParts<'_> {
        TensorParts { cols: self.cols, stride: self.stride, data: Parts::new(&mut self.data) }
    }
}

/// A [`Tensor`] that the tasks of one loop write, each a part of its own.
pub(super) struct TensorParts<'a> {
    cols: usize,
    stride: usize,
    data: Parts<'a, f32>,
}

impl<'a> TensorParts<'a> {
    /// Columns `columns` of row `row`.
    ///
    /// # Safety
    /// No other task uses any of them at the same time.
    pub(super) unsafe fn part(&self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        assert!(columns.end <= self.cols && columns.start <= columns.end);
        let start = row * self.stride;
        // SAFETY: the caller's promise.
        unsafe { self.data.part(start + columns.start..start + columns.end) }
    }

    /// Columns `columns` of rows `rows`, which exist, for products to be added to.
    ///
    /// # Safety
    /// As [`Self::part`].
    pub(super) unsafe fn of(&self, rows: Range<usize>, columns: Range<usize>, add: bool) -> Output<'a> {
        assert!(!rows.is_empty() && columns.end <= self.cols && columns.start <= columns.end);
        let start = rows.start * self.stride + columns.start;
        let first = self.data.start_of(start..(rows.end - 1) * self.stride + columns.end);
        // SAFETY: all of them are inside the matrix, or `start_of` panics; nobody else's by the caller's promise.
        unsafe { Output::at(first, rows.len(), columns.len(), self.stride, add) }
    }

    /// Brings columns `columns` of row `row` into the cache: parts of rows lie too far apart for the processor to foresee.
    pub(super) fn prefetch(&self, row: usize, columns: Range<usize>) {
        let start = self.data.as_ptr().wrapping_add(row * self.stride + columns.start);
        (0..columns.len()).step_by(FLOATS_PER_LINE).for_each(|i| prefetch(start.wrapping_add(i)));
    }
}
