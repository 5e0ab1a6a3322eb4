//! Products in tile registers: eight of 16 rows × 64 bytes, four of them for sums.

use super::token::Amx;
use std::arch::asm;

/// Rows of a tile register.
pub(super) const ROWS: usize = 16;
/// Values of K that a tile register holds.
pub(super) const STEP: usize = 32;
/// Values of a full tile register.
pub(super) const SQUARE: usize = ROWS * STEP;
/// Columns of two tile registers of sums, side by side.
pub(super) const COLUMNS: usize = 32;

/// A product `c = x · wᵀ` of bfloat16, or `c += x · wᵀ`.
///
/// The sum of a row runs over its own values in their order, in a block of any size at any place.
pub(super) struct Product {
    pub(super) rows: usize,
    /// A multiple of [`COLUMNS`].
    pub(super) columns: usize,
    /// Values of K, in units of [`STEP`].
    pub(super) steps: usize,
    /// For each [`COLUMNS`] columns, for each step, two tiles of 16 pairs of values × 16 columns.
    pub(super) w: *const u16,
    /// Values from [`COLUMNS`] columns to the next.
    pub(super) w_stride: usize,
    /// [rows × steps · STEP]
    pub(super) x: *const u16,
    /// Values from row to row.
    pub(super) x_stride: usize,
    /// [rows × columns]
    pub(super) c: *mut f32,
    /// Floats from row to row.
    pub(super) c_stride: usize,
    /// To what c holds; otherwise c is only written.
    pub(super) add: bool,
}

impl Product {
    /// Computes the product.
    ///
    /// # Safety
    /// The matrices are as described.
    pub(super) unsafe fn run(&self, tiles: &mut Tiles) {
        let whole = self.rows - self.rows % (2 * ROWS);
        // SAFETY: the registers are configured for the rows of each block, which exist, as do its columns.
        unsafe {
            if whole > 0 {
                tiles.configure(2 * ROWS);
            }
            for column in (0..self.columns).step_by(COLUMNS) {
                for row in (0..whole).step_by(2 * ROWS) {
                    self.two_by_two(row, column);
                }
            }
            let left = self.rows - whole;
            if left > 0 {
                tiles.configure(left);
            }
            for column in (0..self.columns).step_by(COLUMNS) {
                match left {
                    0 => (),
                    1..=ROWS => self.one_by_two(whole, column),
                    _ => self.two_by_two(whole, column),
                }
            }
        }
    }

    /// Weights, activations and sums of a block, and the bytes from row to row of the latter two.
    ///
    /// # Safety
    /// The row and the column exist.
    unsafe fn block(&self, row: usize, column: usize) -> (*const u16, *const u16, usize, *mut f32, usize) {
        let Self { w, w_stride, x, x_stride, c, c_stride, .. } = *self;
        // SAFETY: the caller's promise.
        unsafe {
            (
                w.add(column / COLUMNS * w_stride),
                x.add(row * x_stride),
                2 * x_stride,
                c.add(row * c_stride + column),
                4 * c_stride,
            )
        }
    }

    /// Up to 32 rows × 32 columns: four tiles of sums.
    ///
    /// # Safety
    /// The tile registers are configured for the rows of the block, which exist, and there are steps.
    unsafe fn two_by_two(&self, row: usize, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (w, x, x_stride, c, c_stride) = self.block(row, column);
            asm!(
                "test {add:e}, {add:e}",
                "jz 3f",
                "tileloadd tmm0, [{c0} + {cs}*1]",
                "tileloadd tmm1, [{c0} + {cs}*1 + 64]",
                "tileloadd tmm2, [{c1} + {cs}*1]",
                "tileloadd tmm3, [{c1} + {cs}*1 + 64]",
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{w} + {ws}*1]",
                "tileloadd tmm4, [{x0} + {xs}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {ws}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{x1} + {xs}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {x0}, 64",
                "add {x1}, 64",
                "add {w}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c0} + {cs}*1], tmm0",
                "tilestored [{c0} + {cs}*1 + 64], tmm1",
                "tilestored [{c1} + {cs}*1], tmm2",
                "tilestored [{c1} + {cs}*1 + 64], tmm3",
                w = inout(reg) w => _, ws = in(reg) 64usize,
                x0 = inout(reg) x => _, x1 = inout(reg) x.byte_add(ROWS * x_stride) => _, xs = in(reg) x_stride,
                c0 = in(reg) c, c1 = in(reg) c.byte_add(ROWS * c_stride), cs = in(reg) c_stride,
                steps = inout(reg) self.steps => _, add = in(reg) u32::from(self.add),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        }
    }

    /// Up to 16 rows × 32 columns: two tiles of sums.
    ///
    /// # Safety
    /// As [`Self::two_by_two`].
    unsafe fn one_by_two(&self, row: usize, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (w, x, x_stride, c, c_stride) = self.block(row, column);
            asm!(
                "test {add:e}, {add:e}",
                "jz 3f",
                "tileloadd tmm0, [{c} + {cs}*1]",
                "tileloadd tmm1, [{c} + {cs}*1 + 64]",
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm6, [{w} + {ws}*1]",
                "tileloadd tmm4, [{x} + {xs}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {ws}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {x}, 64",
                "add {w}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {cs}*1], tmm0",
                "tilestored [{c} + {cs}*1 + 64], tmm1",
                w = inout(reg) w => _, ws = in(reg) 64usize,
                x = inout(reg) x => _, xs = in(reg) x_stride,
                c = in(reg) c, cs = in(reg) c_stride,
                steps = inout(reg) self.steps => _, add = in(reg) u32::from(self.add),
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        }
    }
}

/// The tile registers of this thread, from their first configuration until this is dropped.
pub(super) struct Tiles {
    /// Rows of the blocks that they are configured for; 0: not configured.
    rows: usize,
    /// What they were configured for before.
    before: Config,
}

/// What `ldtilecfg` reads: palette 1, and rows and bytes per row of each tile register.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// Not configured; the token is the proof that there are any.
    pub(super) fn new(_: Amx) -> Self {
        let mut before = Config { palette: 0, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        // SAFETY: writes 64 bytes; AMX by the token.
        unsafe { asm!("sttilecfg [{}]", in(reg) &mut before, options(nostack, preserves_flags)) };
        Self { rows: 0, before }
    }

    /// For blocks of `rows` rows of activations, up to 32: sums in registers 0 ..= 3, two for each 16 rows, activations in 4
    /// and 5, weights in 6 and 7.
    fn configure(&mut self, rows: usize) {
        if self.rows == rows {
            return;
        }
        self.rows = rows;
        let (upper, lower) = (rows.min(ROWS) as u8, rows.saturating_sub(ROWS) as u8);
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, 16, 16]);
        for (bytes, rows) in config.row_bytes.iter_mut().zip(config.rows) {
            *bytes = if rows > 0 { 64 } else { 0 };
        }
        // SAFETY: reads 64 bytes of a valid configuration; nothing lives in tile registers between blocks; AMX by the
        // token that `new` took.
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) &config,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags, readonly),
            )
        }
    }
}

impl Drop for Tiles {
    /// Leaves no tile state behind, which the operating system would have to save with the thread, or the configuration of
    /// other code on this thread that may count on it.
    fn drop(&mut self) {
        // SAFETY: nothing of ours lives in tile registers between blocks; a configuration that was in force is valid; AMX by the
        // token that `new` took.
        unsafe {
            if self.before.palette == 0 {
                asm!(
                    "tilerelease",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, preserves_flags, nomem),
                )
            } else {
                asm!(
                    "ldtilecfg [{}]", in(reg) &self.before,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, preserves_flags, readonly),
                )
            }
        }
    }
}
