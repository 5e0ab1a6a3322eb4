//! Products of weights by a tier's kernels: how a panel is made, and what is multiplied by it.

use crate::cpu::activations::{Activations, Form};
use crate::cpu::output::Output;
use crate::cpu::panel::{CHUNK, Panel, TILE, TileRows};
use std::ops::Range;

/// Activation rows that meet a tile before the next ones do, unless a kernel wants more: their sums stay in the L1 cache.
/// Whole register tiles of every tier (4, 6, 8 or 16 rows).
pub(crate) const ROWS_PER_BLOCK: usize = 48;

/// A product of a tier with a panel of its own.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    /// The form of its activations.
    pub(crate) form: Form,
    /// Tiles of weights that it takes at a time, at most.
    pub(crate) tiles: usize,
    /// Rows of activations that should meet a tile before the next ones do; whole register tiles.
    pub(crate) rows: usize,
    /// Whether it adds to outputs whose rows do not lie end to end.
    pub(crate) any_stride: bool,
    pub(super) run: &'static dyn Multiply,
}

/// What a [`Kernel`] does; its implementations hold the proof that the CPU has their instructions.
pub(crate) trait Multiply: Send + Sync {
    /// See [`Kernel::unpack`].
    fn unpack(&self, panel: &mut Panel, tile: TileRows, first: usize, len: usize);

    /// See [`Kernel::gemm`].
    ///
    /// # Safety
    /// The shapes are those that [`Kernel::gemm`] checks.
    unsafe fn gemm(&self, panel: &Panel, activations: &Activations, rows: Range<usize>, output: Output);
}

impl Kernel {
    /// One that takes a tile at a time and adds to rows end to end.
    pub(super) fn of_one_tile(form: Form, run: &'static dyn Multiply) -> Self {
        Self { form, tiles: 1, rows: ROWS_PER_BLOCK, any_stride: false, run }
    }

    /// Unpacks values `first..first + len` of a tile of weight rows, or several, into the layout of this kernel.
    pub(crate) fn unpack(&self, panel: &mut Panel, tile: TileRows, first: usize, len: usize) {
        self.run.unpack(panel, tile, first, len);
    }

    /// `output = activations · panel`, or `+=`, over the panel's part of K, for rows `rows` of the activations, and for as many
    /// columns as there are tiles in the panel, which [`Kernel::unpack`] made.
    ///
    /// # Panics
    /// When activations, panel and output do not fit together, or the activations have not this kernel's form.
    pub(crate) fn gemm(&self, panel: &Panel, activations: &Activations, rows: Range<usize>, output: Output) {
        let Activations { f32, i8, i8_uniform, i16, bf16, .. } = activations;
        let values = activations.rows * activations.cols;
        assert!(!self.form.f32 || f32.len() == values);
        assert!(!self.form.i8 || i8.codes.len() == values);
        assert!(!self.form.i8_uniform || i8_uniform.codes.len() == activations.rows * i8_uniform.row_stride);
        assert!(!self.form.i16 || i16.codes.len() == values);
        assert!(!self.form.bf16 || bf16.values.len() == activations.rows * bf16.row_stride);
        assert!(!self.form.bf16_residual || bf16.residual.len() == activations.rows * bf16.row_stride);
        assert!(panel.len.is_multiple_of(panel.group) && panel.len <= CHUNK);
        assert!(panel.first + panel.len <= activations.cols && rows.end <= activations.rows);
        assert!(output.rows == rows.len() && (1..=self.tiles).any(|tiles| output.columns == tiles * TILE));
        // SAFETY: the shapes were just checked.
        unsafe { self.run.gemm(panel, activations, rows, output) }
    }
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
/// `interleave(token, &mut Panel, len)` and `gemm(token, &Panel, &Activations, Range<usize>, &mut [f32])`; `$form` is the form of
/// its activations. Of formats with planes, `planes(token, &mut Panel, TileRows, first, len)` makes all of a panel, if there is one.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! kernel {
    ($visibility:vis fn $name:ident, $token:ty, $form:ident, #[$attribute:meta], $interleave:path, $gemm:path
     $(, $($planes:ident)::+)?) => {
        $visibility fn $name<B: crate::formats::Block>(token: $token) -> crate::cpu::isa::kernel::Kernel {
            use crate::cpu::activations::{Activations, Form};
            use crate::cpu::isa::kernel::{Kernel, Multiply};
            use crate::cpu::output::Output;
            use crate::cpu::panel::{Panel, TileRows};
            use std::marker::PhantomData;
            use std::ops::Range;

            struct Of<B>($token, PhantomData<fn() -> B>);

            impl<B: crate::formats::Block> Multiply for Of<B> {
                fn unpack(&self, panel: &mut Panel, tile: TileRows, first: usize, len: usize) {
                    /// # Safety
                    /// The CPU has the instructions that it is compiled for.
                    #[$attribute]
                    unsafe fn compiled<B: crate::formats::Block>(
                        token: $token,
                        panel: &mut Panel,
                        tile: TileRows,
                        first: usize,
                        len: usize,
                    ) {
                        $(
                            if B::PLANES.is_some() {
                                return $($planes)::+::<B>(token, panel, tile, first, len);
                            }
                        )?
                        panel.unpack_rows::<B>(tile, 0, first, len);
                        panel.scales_by_group();
                        $interleave(token, panel, len)
                    }
                    // SAFETY: the token is the proof of the instructions.
                    unsafe { compiled::<B>(self.0, panel, tile, first, len) }
                }

                unsafe fn gemm(&self, panel: &Panel, activations: &Activations, rows: Range<usize>, output: Output) {
                    // SAFETY: the token is the proof of the instructions; the caller's shapes.
                    unsafe { $gemm(self.0, panel, activations, rows, output.tile()) }
                }
            }

            let form = {
                let mut form = Form::NONE;
                form.$form = true;
                form
            };
            Kernel::of_one_tile(form, crate::cpu::isa::token::keep(Of::<B>(token, PhantomData)))
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use kernel;
