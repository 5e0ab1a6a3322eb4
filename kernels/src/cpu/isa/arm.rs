//! What the ARM64 tiers share: the layout of a panel, and the block of a product.
//!
//! A panel is eight streams, one after the other, of four weight rows each: a vector of 32-bit sums belongs to four columns
//! of the output, and a block reads two streams from one end to the other. In a stream, units of values of the four rows lie
//! side by side: `[len / unit][4][unit]`, where a unit is what one lane takes at a time ([`Unit`]).
//!
//! Activations stay as they are, by row: instructions that take one lane of a vector for all lanes ("by element") make
//! broadcasts unnecessary, for codes as for their scales.
//!
//! The products differ ([`Dot`]), what follows does not, and no operation rounds where another tier's does not. So the vectors
//! of all ARM64 tiers are equal to the bit.

use super::kernel::row_blocks;
use crate::cpu::activations::{Activations, Codes};
use crate::cpu::panel::{CHUNK, Panel, TILE};
use crate::cpu::simd::Code;
use std::arch::aarch64::*;
use std::ops::Range;

/// Columns of a stream.
pub(super) const LANES: usize = 4;

/// Sums of a group: R rows × two streams.
pub(super) type Accumulators<const R: usize> = [[int32x4_t; 2]; R];

/// A product of small integers. As with `Simd`, a value is the proof that the CPU has its instructions.
pub(super) trait Dot: Copy {
    /// Activation codes.
    type A: Code;
    /// Weight codes of a panel.
    type W;
    /// Rows of a block, at most.
    const ROWS: usize;

    /// Those of the activations that it multiplies.
    fn codes(activations: &Activations) -> &Codes<Self::A>;

    /// The sums of a group of G values, or what [`Dot::scaled`] takes for them.
    ///
    /// # Safety
    /// `w` are two streams, `a` is the first of R rows, from one to the next so many codes; all from the group's first value on.
    unsafe fn accumulate<const R: usize, const G: usize>(
        self,
        w: [*const Self::W; 2],
        a: *const Self::A,
        stride: usize,
    ) -> Accumulators<R>;

    /// What makes `scaled` of a scale, once for many sums.
    #[inline(always)]
    fn offset(self, scale: float32x4_t) -> float32x4_t {
        scale
    }
    /// scale · sum.
    #[inline(always)]
    fn scaled(self, sum: int32x4_t, scale: float32x4_t, _offset: float32x4_t) -> float32x4_t {
        // SAFETY: every ARM64 CPU has these.
        unsafe { vmulq_f32(vcvtq_f32_s32(sum), scale) }
    }
}

/// How the values of four rows lie in a stream.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    /// 16 bits, widened.
    Int16,
    /// So many bytes.
    Four,
    Eight,
    Sixteen,
}

/// Rearranges `panel.rows` into `panel.codes`.
#[inline(always)]
pub(super) fn interleave(panel: &mut Panel, len: usize, unit: Unit) {
    let rows: &[i8; TILE * CHUNK] = panel.rows.first_chunk().expect("a panel has room for a tile");
    let size = if matches!(unit, Unit::Int16) { 2 } else { 1 };
    assert!(len <= CHUNK && len.is_multiple_of(16) && panel.codes.len() >= TILE * CHUNK * size);
    let codes: *mut i8 = panel.codes.as_mut_ptr().cast();
    for row in (0..TILE).step_by(LANES) {
        for k in (0..len).step_by(16) {
            // SAFETY: 16 codes from k < len <= CHUNK of four rows; as many places, of `size` bytes, of their stream.
            unsafe {
                let from = |i: usize| vld1q_s8(rows.as_ptr().add((row + i) * CHUNK + k));
                let four = [from(0), from(1), from(2), from(3)];
                let to = codes.add((row * CHUNK + LANES * k) * size);
                match unit {
                    Unit::Int16 => {
                        let [a, b, c, d] = four.map(|x| vmovl_s8(vget_low_s8(x)));
                        vst4q_s16(to.cast(), int16x8x4_t(a, b, c, d));
                        let [a, b, c, d] = four.map(|x| vmovl_high_s8(x));
                        vst4q_s16(to.cast::<i16>().add(8 * LANES), int16x8x4_t(a, b, c, d));
                    }
                    Unit::Four => {
                        let [a, b, c, d] = four.map(|x| vreinterpretq_s32_s8(x));
                        vst4q_s32(to.cast(), int32x4x4_t(a, b, c, d));
                    }
                    Unit::Eight => {
                        let [a, b, c, d] = four.map(|x| vreinterpretq_s64_s8(x));
                        vst4q_s64(to.cast(), int64x2x4_t(a, b, c, d));
                    }
                    Unit::Sixteen => (0..LANES).for_each(|i| vst1q_s8(to.add(16 * i), four[i])),
                }
            }
        }
    }
}

/// `c[row][n] += activations · panel`; see `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[inline(always)]
pub(super) unsafe fn gemm<D: Dot>(d: D, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe {
        match (panel.group == 32, panel.has_min) {
            (true, false) => gemm_of::<D, 32, false>(d, panel, activations, rows, c),
            (true, true) => gemm_of::<D, 32, true>(d, panel, activations, rows, c),
            (false, false) => gemm_of::<D, 16, false>(d, panel, activations, rows, c),
            (false, true) => gemm_of::<D, 16, true>(d, panel, activations, rows, c),
        }
    }
}

/// # Safety
/// As [`gemm`], for a panel of groups of G, with mins or without.
#[inline(always)]
unsafe fn gemm_of<D: Dot, const G: usize, const MIN: bool>(
    d: D,
    panel: &Panel,
    activations: &Activations,
    rows: Range<usize>,
    c: &mut [f32],
) {
    for (row, size) in row_blocks(rows.clone(), D::ROWS) {
        let c = c[(row - rows.start) * TILE..].as_mut_ptr();
        for column in (0..TILE).step_by(2 * LANES) {
            // SAFETY: rows row..row + size of activations and c, two streams.
            unsafe {
                match size {
                    8 => block::<D, 8, G, MIN>(d, panel, column, activations, row, c),
                    7 => block::<D, 7, G, MIN>(d, panel, column, activations, row, c),
                    6 => block::<D, 6, G, MIN>(d, panel, column, activations, row, c),
                    5 => block::<D, 5, G, MIN>(d, panel, column, activations, row, c),
                    4 => block::<D, 4, G, MIN>(d, panel, column, activations, row, c),
                    3 => block::<D, 3, G, MIN>(d, panel, column, activations, row, c),
                    2 => block::<D, 2, G, MIN>(d, panel, column, activations, row, c),
                    _ => block::<D, 1, G, MIN>(d, panel, column, activations, row, c),
                }
            }
        }
    }
}

/// R rows × two streams. Sums of a group live in registers, the floats in which they end in the L1 cache.
///
/// # Safety
/// Rows `row..row + R` and columns `column..column + 8` exist; the rest as [`gemm_of`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn block<D: Dot, const R: usize, const G: usize, const MIN: bool>(
    d: D,
    panel: &Panel,
    column: usize,
    activations: &Activations,
    row: usize,
    c: *mut f32,
) {
    if R > D::ROWS {
        return;
    }
    let Panel { first, len, .. } = *panel;
    // SAFETY: offsets of existing rows, of the panel's groups, and of two of its streams.
    unsafe {
        let codes = D::codes(activations);
        let w: *const D::W = panel.codes.as_ptr().cast();
        let mut w = [w.add(column * CHUNK), w.add((column + LANES) * CHUNK)];
        let mut a = codes.codes.as_ptr().add(row * activations.cols + first);
        let sums = if G == 32 { codes.sums.as_ptr() } else { codes.half_sums.as_ptr() };
        let mut act_sums = sums.add(first / G * activations.stride + row);
        let mut act_scales = codes.scales.as_ptr().add(first / 32 * activations.stride + row);
        let mut scales = panel.scales.as_ptr().add(column);
        let mut mins = panel.mins.as_ptr().add(column);
        let mut c = c.add(column);
        for g in 0..len / G {
            let acc = d.accumulate::<R, G>(w, a, activations.cols);
            let (act_scale, act_sum) = (load_rows::<R>(act_scales), load_rows::<R>(act_sums));
            // What the compiler cannot follow it cannot keep in registers, which are all taken.
            c = hide(c);
            for v in 0..2 {
                let scale = vld1q_f32(scales.add(LANES * v));
                let offset = d.offset(scale);
                let min = if MIN { vld1q_f32(mins.add(LANES * v)) } else { scale };
                for r in 0..R {
                    let mut value = d.scaled(acc[r][v], scale, offset);
                    if MIN {
                        value = fma_lane(value, min, act_sum[r / 4], r % 4);
                    }
                    let c = c.add(r * TILE + LANES * v);
                    vst1q_f32(c, fma_lane(vld1q_f32(c), value, act_scale[r / 4], r % 4));
                }
            }
            w = w.map(|w| w.add(LANES * G));
            a = a.add(G);
            scales = scales.add(TILE);
            mins = mins.add(TILE);
            act_sums = act_sums.add(activations.stride);
            if G == 32 || g % 2 == 1 {
                act_scales = act_scales.add(activations.stride);
            }
        }
    }
}

/// Floats of R rows, at most 8, that lie side by side.
///
/// # Safety
/// There are that many.
#[inline(always)]
pub(super) unsafe fn load_rows<const R: usize>(p: *const f32) -> [float32x4_t; 2] {
    // SAFETY: R floats; whole vectors where there are four.
    unsafe {
        let mut out = [vdupq_n_f32(0.0); 2];
        for i in 0..R.div_ceil(4) {
            let p = p.add(4 * i);
            out[i] = match R - 4 * i {
                1 => vld1q_lane_f32::<0>(p, out[i]),
                2 => vcombine_f32(vld1_f32(p), vdup_n_f32(0.0)),
                3 => vcombine_f32(vld1_f32(p), vld1_lane_f32::<0>(p.add(2), vdup_n_f32(0.0))),
                _ => vld1q_f32(p),
            };
        }
        out
    }
}

/// `acc + a · b[lane]`, fused.
#[inline(always)]
fn fma_lane(acc: float32x4_t, a: float32x4_t, b: float32x4_t, lane: usize) -> float32x4_t {
    // SAFETY: every ARM64 CPU has these.
    unsafe {
        match lane {
            0 => vfmaq_laneq_f32::<0>(acc, a, b),
            1 => vfmaq_laneq_f32::<1>(acc, a, b),
            2 => vfmaq_laneq_f32::<2>(acc, a, b),
            _ => vfmaq_laneq_f32::<3>(acc, a, b),
        }
    }
}

/// The same pointer, of which the compiler does not know that.
#[inline(always)]
pub(super) fn hide(mut p: *mut f32) -> *mut f32 {
    // SAFETY: an empty instruction sequence.
    #[allow(clippy::pointers_in_nomem_asm_block, reason = "it touches no memory")]
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) p, options(pure, nomem, nostack, preserves_flags))
    };
    p
}
