//! `i8mm`: `smmla`, the product of 2 × 8 by 8 × 2 signed bytes an instruction, twice the work of `sdot`. Cortex-A710, X2,
//! Neoverse V1 and N2 and newer, Apple since the M2.
//!
//! A vector of sums is a square: two rows of activations by two rows of weights. Everything that meets it has to be in that
//! form. Weights are: units of eight bytes (see [`arm`](super::arm)) make a vector of two rows. Pairs of rows of activations
//! are made, once for the 32 columns of a panel ([`Rows`]); so are their scales and sums, each twice. Scales and mins of two
//! columns, each twice, are made with the panel ([`Columns`]). The output takes that form while a block works on it.
//!
//! Then everything is as in [`dotprod`](super::dotprod), down to the bits, with half the products.

use super::arm::{self, LANES, Unit, hide};
use super::dotprod::{self, DotProd};
use super::kernel::{Kernel, kernel};
use super::tier::{Kernels, tier};
use super::token::Token;
use crate::backend::Precision;
use crate::buffer::{Buffer, Plain};
use crate::cpu::activations::Activations;
use crate::cpu::panel::{CHUNK, GROUPS, Panel, TILE};
use crate::formats::{Format, with_block};
use crate::rounding::MAGIC;
use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Proof of `i8mm` and `dotprod`.
#[derive(Clone, Copy)]
pub(crate) struct I8mm(DotProd);

impl Token for I8mm {
    const NAME: &'static str = "i8mm";

    fn detect() -> Option<Self> {
        if std::arch::is_aarch64_feature_detected!("i8mm") { DotProd::detect().map(Self) } else { None }
    }
}

/// Pairs of rows of a block, and of columns.
const PAIRS: usize = 4;

/// `$acc += $rows · $w`, two rows by two; all vectors.
macro_rules! smmla {
    ($acc:expr, $rows:expr, $w:expr) => {
        asm!(
            "smmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) $acc, in(vreg) $rows, in(vreg) $w,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
}

/// What two weight rows have for a group, each lane twice: `[s0, s1, s0, s1]`.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Columns {
    scale: [f32; 4],
    /// −MAGIC · scale.
    offset: [f32; 4],
    min: [f32; 4],
}

// SAFETY: twelve plain numbers, which fill it.
unsafe impl Plain for Columns {}

/// Those of a panel: [TILE / 8][GROUPS][PAIRS].
struct PanelColumns(Buffer<Columns>);

impl Default for PanelColumns {
    fn default() -> Self {
        Self(Buffer::zeroed(TILE / 2 * GROUPS))
    }
}

/// A block's activations.
#[repr(C, align(16))]
struct Rows {
    /// [len / 8][pairs][2][8]
    codes: [i8; 2 * PAIRS * CHUNK],
    /// [groups][pairs], `[a0, a0, a1, a1]`.
    scales: [[f32; 4]; GROUPS * PAIRS],
    sums: [[f32; 4]; GROUPS * PAIRS],
}

#[target_feature(enable = "neon,dotprod,i8mm")]
fn interleave(_: I8mm, panel: &mut Panel, len: usize) {
    arm::interleave(panel, len, Unit::Eight);
    let Panel { scales, mins, group, own, .. } = panel;
    let PanelColumns(columns) = own.get_or_make();
    let groups = len / *group;
    for column in (0..TILE).step_by(2) {
        for g in 0..groups {
            let at = (column / (2 * PAIRS) * GROUPS + g) * PAIRS + column / 2 % PAIRS;
            let n = g * TILE + column;
            let twice = |x: &[f32]| [x[n], x[n + 1], x[n], x[n + 1]];
            let scale = twice(scales);
            columns[at] = Columns { scale, offset: scale.map(|x| -MAGIC * x), min: twice(mins) };
        }
    }
}

/// Makes pairs of rows `row..row + size`, at most 8; the last of an odd number is paired with itself.
///
/// # Safety
/// The rows exist; the shapes are those that `Kernel::gemm` checks; `to` is writable.
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn prepare(to: *mut Rows, panel: &Panel, activations: &Activations, row: usize, size: usize) {
    let pairs = size.div_ceil(2);
    let sums = if panel.group == 32 { &activations.i8.sums } else { &activations.i8.half_sums };
    for p in 0..pairs {
        let both = [row + 2 * p, row + (2 * p + 1).min(size - 1)];
        // SAFETY: whole vectors of codes of existing rows, since a panel holds whole groups, of 16 at least; places of pairs
        // up to PAIRS and groups up to GROUPS.
        unsafe {
            let from = both.map(|row| activations.i8.codes.as_ptr().add(row * activations.cols + panel.first));
            let codes: *mut i8 = (&raw mut (*to).codes).cast();
            for k in (0..panel.len).step_by(16) {
                let a = vreinterpretq_s64_s8(vld1q_s8(from[0].add(k)));
                let b = vreinterpretq_s64_s8(vld1q_s8(from[1].add(k)));
                let to = codes.add((k / 8 * pairs + p) * 16);
                vst1q_s8(to, vreinterpretq_s8_s64(vzip1q_s64(a, b)));
                vst1q_s8(to.add(pairs * 16), vreinterpretq_s8_s64(vzip2q_s64(a, b)));
            }
            for g in 0..panel.len / panel.group {
                let value = panel.first + g * panel.group;
                let [a, b] = both.map(|row| activations.i8.scales[value / 32 * activations.stride + row]);
                (&raw mut (*to).scales[g * pairs + p]).write([a, a, b, b]);
                let [a, b] = both.map(|row| sums[value / panel.group * activations.stride + row]);
                (&raw mut (*to).sums[g * pairs + p]).write([a, a, b, b]);
            }
        }
    }
}

/// `c[row][n] += activations · panel`; see `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn gemm(_: I8mm, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe {
        match (panel.group == 32, panel.has_min) {
            (true, false) => gemm_of::<32, false>(panel, activations, rows, c),
            (true, true) => gemm_of::<32, true>(panel, activations, rows, c),
            (false, false) => gemm_of::<16, false>(panel, activations, rows, c),
            (false, true) => gemm_of::<16, true>(panel, activations, rows, c),
        }
    }
}

/// # Safety
/// As [`gemm`], for a panel of groups of G, with mins or without.
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn gemm_of<const G: usize, const MIN: bool>(
    panel: &Panel,
    activations: &Activations,
    rows: Range<usize>,
    c: &mut [f32],
) {
    let mut x = MaybeUninit::<Rows>::uninit();
    let mut row = rows.start;
    while row < rows.end {
        // Whole pairs, but for the last.
        let left = rows.end - row;
        let size = left.div_ceil(left.div_ceil(2 * PAIRS)).next_multiple_of(2).min(left);
        let c = c[(row - rows.start) * TILE..].as_mut_ptr();
        // SAFETY: rows row..row + size of activations and c; what was prepared of them; two streams.
        unsafe {
            prepare(x.as_mut_ptr(), panel, activations, row, size);
            for column in (0..TILE).step_by(2 * PAIRS) {
                match size.div_ceil(2) {
                    4 => block::<4, G, MIN>(panel, column, x.as_ptr(), size, c),
                    3 => block::<3, G, MIN>(panel, column, x.as_ptr(), size, c),
                    2 => block::<2, G, MIN>(panel, column, x.as_ptr(), size, c),
                    _ => block::<1, G, MIN>(panel, column, x.as_ptr(), size, c),
                }
            }
        }
        row += size;
    }
}

/// P pairs of rows × two streams. Sums of a group live in registers, the floats in which they end in the L1 cache.
///
/// # Safety
/// `x` holds P pairs of the `size` rows of `c`, which are 2P or one less; columns `column..column + 8` exist; the rest as
/// [`gemm_of`].
#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn block<const P: usize, const G: usize, const MIN: bool>(
    panel: &Panel,
    column: usize,
    x: *const Rows,
    size: usize,
    c: *mut f32,
) {
    // SAFETY: offsets of existing rows, of the panel's groups, and of two of its streams.
    unsafe {
        let c = c.add(column);
        let mut squares = [[vdupq_n_f32(0.0); PAIRS]; P];
        for p in 0..P {
            let (first, second) = (c.add(2 * p * TILE), c.add((2 * p + 1).min(size - 1) * TILE));
            for v in 0..2 {
                let a = vreinterpretq_f64_f32(vld1q_f32(first.add(LANES * v)));
                let b = vreinterpretq_f64_f32(vld1q_f32(second.add(LANES * v)));
                squares[p][2 * v] = vreinterpretq_f32_f64(vzip1q_f64(a, b));
                squares[p][2 * v + 1] = vreinterpretq_f32_f64(vzip2q_f64(a, b));
            }
        }
        let w: *const i8 = panel.codes.as_ptr().cast();
        let mut w = [w.add(column * CHUNK), w.add((column + LANES) * CHUNK)];
        let PanelColumns(columns) = panel.own.get();
        let mut columns = columns[column / (2 * PAIRS) * GROUPS * PAIRS..].as_ptr();
        let mut codes: *const i8 = (&raw const (*x).codes).cast();
        let mut scales: *const f32 = (&raw const (*x).scales).cast();
        let mut sums: *const f32 = (&raw const (*x).sums).cast();
        let mut at: *mut f32 = squares.as_mut_ptr().cast();
        for _ in 0..panel.len / G {
            let mut acc = [[vdupq_n_s32(MAGIC.to_bits() as i32); PAIRS]; P];
            for _ in 0..G / 8 {
                let mut rows = [vdupq_n_s8(0); P];
                for p in 0..P {
                    rows[p] = vld1q_s8(codes.add(16 * p));
                }
                for j in 0..PAIRS {
                    let w = vld1q_s8(w[j / 2].add(16 * (j % 2)));
                    for p in 0..P {
                        smmla!(acc[p][j], rows[p], w);
                    }
                }
                codes = codes.add(16 * P);
                w = w.map(|w| w.add(8 * LANES));
            }
            // What the compiler cannot follow it cannot keep in registers, which are all taken.
            at = hide(at);
            // Loaded before anything is stored, as for the compiler that might change them.
            let (mut act_scales, mut act_sums) = ([vdupq_n_f32(0.0); P], [vdupq_n_f32(0.0); P]);
            for p in 0..P {
                (act_scales[p], act_sums[p]) = (vld1q_f32(scales.add(4 * p)), vld1q_f32(sums.add(4 * p)));
            }
            for j in 0..PAIRS {
                let of_pair = &*columns.add(j);
                let scale = vld1q_f32(of_pair.scale.as_ptr());
                let offset = vld1q_f32(of_pair.offset.as_ptr());
                let min = if MIN { vld1q_f32(of_pair.min.as_ptr()) } else { scale };
                for p in 0..P {
                    let mut value = vfmaq_f32(offset, vreinterpretq_f32_s32(acc[p][j]), scale);
                    if MIN {
                        value = vfmaq_f32(value, min, act_sums[p]);
                    }
                    let at = at.add((p * PAIRS + j) * 4);
                    vst1q_f32(at, vfmaq_f32(vld1q_f32(at), value, act_scales[p]));
                }
            }
            columns = columns.add(PAIRS);
            (scales, sums) = (scales.add(4 * P), sums.add(4 * P));
        }
        for p in 0..P {
            for v in 0..2 {
                let of_pair = |j: usize| vreinterpretq_f64_f32(vld1q_f32(at.add((p * PAIRS + j) * 4)));
                let (a, b) = (of_pair(2 * v), of_pair(2 * v + 1));
                vst1q_f32(c.add(2 * p * TILE + LANES * v), vreinterpretq_f32_f64(vzip1q_f64(a, b)));
                if 2 * p + 1 < size {
                    vst1q_f32(c.add((2 * p + 1) * TILE + LANES * v), vreinterpretq_f32_f64(vzip2q_f64(a, b)));
                }
            }
        }
    }
}

kernel!(fn i8_kernel, I8mm, i8, #[target_feature(enable = "neon,dotprod,i8mm")], interleave, gemm);

impl Kernels for I8mm {
    fn kernel(self, format: Format, precision: Precision) -> Option<Kernel> {
        with_block!(format, B => Some(match precision {
            Precision::Standard => i8_kernel::<B>(self),
            Precision::High => dotprod::i16_kernel::<B>(self.0),
        }), float => None)
    }
}

tier!(I8mm, |token| token.0.neon(), #[target_feature(enable = "neon,dotprod,i8mm")]);
