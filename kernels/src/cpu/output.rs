//! Where the products of a kernel go.

use super::panel::TILE;
use std::marker::PhantomData;

/// Floats [rows × columns] that a product sets or adds to: whole tiles of columns, from row to row `stride` floats.
pub(crate) struct Output<'a> {
    pub(crate) start: *mut f32,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
    /// To what is there; otherwise that is not read.
    pub(crate) add: bool,
    borrowed: PhantomData<&'a mut [f32]>,
}

impl<'a> Output<'a> {
    /// The first `columns` of each of `rows` rows that fill `c`.
    ///
    /// # Panics
    /// When they do not, or have fewer columns.
    pub(crate) fn of(c: &'a mut [f32], rows: usize, columns: usize, add: bool) -> Self {
        let stride = c.len() / rows.max(1);
        assert!(c.len() == rows * stride && columns <= stride);
        Self { start: c.as_mut_ptr(), rows, columns, stride, add, borrowed: PhantomData }
    }

    /// Rows from `start` on.
    ///
    /// # Safety
    /// All of them can be read and written for `'a`, and nobody else does.
    pub(crate) unsafe fn at(start: *mut f32, rows: usize, columns: usize, stride: usize, add: bool) -> Self {
        Self { start, rows, columns, stride, add, borrowed: PhantomData }
    }

    /// Sets it to zero, unless it is added to already: from here on it is.
    pub(crate) fn begin(&mut self) {
        if !std::mem::replace(&mut self.add, true) {
            for row in 0..self.rows {
                // SAFETY: the columns of an existing row.
                unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns).fill(0.0) }
            }
        }
    }

    /// That of one tile, its rows end to end, to be added to.
    ///
    /// # Panics
    /// When it is not of one tile, or its rows lie apart.
    pub(crate) fn tile(mut self) -> &'a mut [f32] {
        self.begin();
        assert!(self.stride == TILE && self.columns == TILE);
        // SAFETY: rows of as many floats as they are apart are one slice; exclusive by what `of` borrows and `at` is promised.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.rows * TILE) }
    }
}
