//! Products of quantized weights by a tier's own kernels: how a panel is made, and where the products go.

use crate::cpu::acts::{Acts, Form};
use crate::cpu::panel::{CHUNK, Panel, TILE, TileRows};
use std::marker::PhantomData;
use std::ops::Range;

/// A product of a tier with a panel of its own.
pub(crate) struct Kernel {
    /// The form of its activations.
    pub(crate) form: Form,
    /// Tiles of weights that it takes at a time, at most.
    pub(crate) tiles: usize,
    /// Rows of activations that should meet a tile before the next ones do; whole register tiles.
    pub(crate) rows: usize,
    /// Whether it adds to sums that do not lie end to end.
    pub(crate) any_stride: bool,
    pub(super) unpack: unsafe fn(&mut Panel, TileRows, usize, usize),
    pub(super) gemm: unsafe fn(&Panel, &Acts, Range<usize>, Sums),
}

/// Where the sums of a product go [rows × columns]: whole tiles of columns, from row to row `stride` floats.
pub(crate) struct Sums<'a> {
    pub(super) start: *mut f32,
    rows: usize,
    pub(super) columns: usize,
    pub(super) stride: usize,
    /// To what is there; otherwise that is not read.
    pub(super) add: bool,
    borrowed: PhantomData<&'a mut [f32]>,
}

impl<'a> Sums<'a> {
    /// The first `columns` of each of `rows` rows that fill `c`.
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

    /// Sets them to zero, unless they are added to already: from here on they are.
    pub(super) fn begin(&mut self) {
        if !std::mem::replace(&mut self.add, true) {
            for row in 0..self.rows {
                // SAFETY: the columns of an existing row.
                unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns).fill(0.0) }
            }
        }
    }

    /// Those of one tile, end to end, to be added to.
    pub(super) fn tile(mut self) -> &'a mut [f32] {
        self.begin();
        assert!(self.stride == TILE && self.columns == TILE);
        // SAFETY: rows of as many floats as they are apart are one slice; exclusive by what `of` borrows and `at` is promised.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.rows * TILE) }
    }
}

impl Kernel {
    /// Unpacks values `first..first + len` of a tile of weight rows, or several, into the layout of this kernel.
    pub(crate) fn unpack(&self, panel: &mut Panel, tile: TileRows, first: usize, len: usize) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.unpack)(panel, tile, first, len) }
    }

    /// `sums = activations · panel`, or `+=`, over the panel's part of K, for rows `rows` of `acts`, and for as many columns as
    /// there are tiles in the panel, which [`Kernel::unpack`] made.
    pub(crate) fn gemm(&self, panel: &Panel, acts: &Acts, rows: Range<usize>, sums: Sums) {
        let (values, halves) = (acts.rows * acts.cols, acts.rows * acts.half_stride);
        assert!(!self.form.bytes || acts.bytes.codes.len() == values);
        assert!(!self.form.words || acts.words.codes.len() == values);
        assert!(!self.form.uniform || acts.uniform.codes.len() == acts.rows * acts.uniform.stride);
        assert!(!self.form.halves || acts.halves.len() == halves);
        assert!(!self.form.rests || acts.rests.len() == halves);
        assert!(panel.len.is_multiple_of(panel.group));
        check(panel, acts, &rows);
        assert!(sums.rows == rows.len() && (1..=self.tiles).any(|tiles| sums.columns == tiles * TILE));
        // SAFETY: a table is handed out only after detection of its instructions; the shapes were just checked.
        unsafe { (self.gemm)(panel, acts, rows, sums) }
    }
}

/// What every product of a panel relies on.
pub(super) fn check(panel: &Panel, acts: &Acts, rows: &Range<usize>) {
    assert!(panel.first + panel.len <= acts.cols && panel.len <= CHUNK && rows.end <= acts.rows);
}

/// Cuts rows into as few blocks of at most `most` as there can be, of sizes as equal as they can be: 7 rows as 4 and 3, not as
/// 6 and 1. Gives the first row and the number of rows of each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(super) fn row_blocks(rows: Range<usize>, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut row = rows.start;
    std::iter::from_fn(move || {
        let left = rows.end - row;
        let size = left.div_ceil(left.div_ceil(most).max(1));
        row += size;
        (size > 0).then_some((row - size, size))
    })
}

/// Defines `$name`, which gives the [`Kernel`] for a format of integer codes, from a tier's own panel functions
/// `interleave(&mut Panel, len)` and `gemm(&Panel, &Acts, Range<usize>, &mut [f32])`; `$form` is the form of its activations,
/// `bytes` or `words`.
macro_rules! kernel {
    ($visibility:vis fn $name:ident, $form:ident, #[$attribute:meta], $interleave:path, $gemm:path) => {
        $visibility fn $name<B: crate::formats::Block>() -> &'static crate::cpu::isa::Kernel {
            #[$attribute]
            unsafe fn unpack<B: crate::formats::Block>(
                panel: &mut Panel,
                tile: crate::cpu::panel::TileRows,
                first: usize,
                len: usize,
            ) {
                panel.unpack_rows::<B>(tile, 0, first, len);
                panel.scales_by_group();
                $interleave(panel, len)
            }

            #[$attribute]
            unsafe fn gemm(
                panel: &Panel,
                acts: &crate::cpu::acts::Acts,
                rows: std::ops::Range<usize>,
                sums: crate::cpu::isa::Sums,
            ) {
                // SAFETY: the caller's shapes.
                unsafe { $gemm(panel, acts, rows, sums.tile()) }
            }

            const FORM: crate::cpu::acts::Form = {
                let mut form = crate::cpu::acts::Form::NONE;
                form.$form = true;
                form
            };
            const {
                &crate::cpu::isa::Kernel {
                    form: FORM,
                    tiles: 1,
                    rows: crate::cpu::weight::ROWS_PER_BLOCK,
                    any_stride: false,
                    unpack: unpack::<B>,
                    gemm,
                }
            }
        }
    };
}
pub(super) use kernel;
