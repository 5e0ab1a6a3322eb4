//! NEON, which every ARM64 CPU has: Cortex-A53 and A72 (Raspberry Pi 3 and 4), and whatever has neither `dotprod` nor `i8mm`.
//!
//! 8-bit products widen to 16 bits (`smull`, `smlal`), eight at a time. A sum of them there is exact as long as the largest
//! code times the number of products is at most 256 (256 · 127 < 2^15): two products of 8-bit weights, 8 of codes up to 32,
//! 16 of codes up to 16. So few of the additions that gather a group have to be 32 bits wide.
//!
//! Panel: units of 16 bytes (see [`arm`]). A vector of products belongs to one row of weights; four are gathered into a
//! vector of sums.

use super::arm::{self, Accumulators, Dot, LANES, Unit};
use super::kernel::{Kernel, kernel};
use super::tier::{Kernels, tier};
use super::token::Token;
use crate::backend::Precision;
use crate::cpu::activations::{Activations, Codes};
use crate::cpu::panel::Panel;
use crate::cpu::simd::{Simd, instructions};
use crate::formats::{Format, with_block};
use std::arch::aarch64::*;
use std::ops::Range;

/// Proof of NEON, which no ARM64 CPU lacks.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Token for Neon {
    const NAME: &'static str = "neon";

    fn detect() -> Option<Self> {
        Some(Self(()))
    }
}

impl Simd for Neon {
    type F = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 8;

    instructions! {
        fn splat(self, x: f32) -> Self::F { vdupq_n_f32(x) }
        fn add(self, a: Self::F, b: Self::F) -> Self::F { vaddq_f32(a, b) }
        fn sub(self, a: Self::F, b: Self::F) -> Self::F { vsubq_f32(a, b) }
        fn mul(self, a: Self::F, b: Self::F) -> Self::F { vmulq_f32(a, b) }
        fn div(self, a: Self::F, b: Self::F) -> Self::F { vdivq_f32(a, b) }
        fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F { vfmaq_f32(c, a, b) }
        fn max(self, a: Self::F, b: Self::F) -> Self::F { vmaxq_f32(a, b) }
        fn min(self, a: Self::F, b: Self::F) -> Self::F { vminq_f32(a, b) }
        fn abs(self, a: Self::F) -> Self::F { vabsq_f32(a) }
        fn round(self, a: Self::F) -> Self::F { vrndnq_f32(a) }
        fn shift_to_exponent(self, a: Self::F) -> Self::F { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vreinterpretq_s32_f32(a))) }
        fn sum(self, a: Self::F) -> f32 { vaddvq_f32(a) }
        fn max_lane(self, a: Self::F) -> f32 { vmaxvq_f32(a) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { vld1q_f32(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { vst1q_f32(p, x) }
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe {
            let words = vqmovn_s32(vcvtq_s32_f32(x));
            let bytes = vqmovn_s16(vcombine_s16(words, words));
            vst1_lane_s32::<0>(p.cast(), vreinterpret_s32_s8(bytes));
        }
    }

    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { vst1_s16(p, vqmovn_s32(vcvtq_s32_f32(x))) }
    }
}

/// 8-bit products of weights whose codes are at most `MOST`, which is 16, 32 or 128.
#[derive(Clone, Copy)]
struct I8<const MOST: usize>;

impl<const MOST: usize> Dot for I8<MOST> {
    type A = i8;
    type W = i8;
    // Of more rows the compiler makes a loop, and sums that go through memory.
    const ROWS: usize = 2;

    #[inline(always)]
    fn codes(activations: &Activations) -> &Codes<i8> {
        &activations.i8
    }

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const G: usize>(
        self,
        w: [*const i8; 2],
        a: *const i8,
        stride: usize,
    ) -> Accumulators<R> {
        // SAFETY: the caller's promise; every ARM64 CPU has these.
        unsafe {
            let mut out = [[vdupq_n_s32(0); 2]; R];
            for r in 0..R {
                let x = a.add(r * stride);
                out[r] = [four::<MOST, G>(w[0], x), four::<MOST, G>(w[1], x)];
            }
            out
        }
    }
}

/// Sums of products of a group of G values with those of four rows of weights.
///
/// # Safety
/// `w` is a stream and `x` a row, from the group's first value on.
#[inline(always)]
unsafe fn four<const MOST: usize, const G: usize>(w: *const i8, x: *const i8) -> int32x4_t {
    // SAFETY: the caller's promise; every ARM64 CPU has these.
    unsafe {
        let next = if G == 32 { 16 } else { 0 };
        if MOST > 32 {
            macro_rules! row {
                ($i:literal) => {{
                    let w = w.add(16 * $i);
                    let sums = vpaddlq_s16(sixteen(w, x));
                    if G == 32 { vpadalq_s16(sums, sixteen(w.add(LANES * next), x.add(next))) } else { sums }
                }};
            }
            vpaddq_s32(vpaddq_s32(row!(0), row!(1)), vpaddq_s32(row!(2), row!(3)))
        } else {
            macro_rules! row {
                ($i:literal) => {{
                    let w = w.add(16 * $i);
                    let mut sums = sixteen(w, x);
                    if G == 32 {
                        let (w, x) = (w.add(LANES * next), x.add(next));
                        sums = vmlal_s8(sums, vld1_s8(w), vld1_s8(x));
                        sums = vmlal_s8(sums, vld1_s8(w.add(8)), vld1_s8(x.add(8)));
                    }
                    sums
                }};
            }
            // G / 8 products a lane; G / 4 after this.
            let (a, b) = (vpaddq_s16(row!(0), row!(1)), vpaddq_s16(row!(2), row!(3)));
            if G / 2 * MOST <= 256 { vpaddlq_s16(vpaddq_s16(a, b)) } else { vpaddq_s32(vpaddlq_s16(a), vpaddlq_s16(b)) }
        }
    }
}

/// Sixteen products, two to a lane.
///
/// # Safety
/// 16 codes can be read from either pointer.
#[inline(always)]
unsafe fn sixteen(w: *const i8, x: *const i8) -> int16x8_t {
    // SAFETY: the caller's promise; every ARM64 CPU has these. Halves of vectors are loads of their own, as the compiler
    // takes them out of whole ones by an instruction more.
    unsafe { vmlal_s8(vmull_s8(vld1_s8(w), vld1_s8(x)), vld1_s8(w.add(8)), vld1_s8(x.add(8))) }
}

/// 16-bit activations, `smlal` and `smlal2` by element. Sums of a group are exact: 32 · 128 · 32639 < 2^27.
#[derive(Clone, Copy)]
struct I16;

impl Dot for I16 {
    type A = i16;
    type W = i16;
    // With 8 there are too few registers of those that `smlal` takes by element.
    const ROWS: usize = 6;

    #[inline(always)]
    fn codes(activations: &Activations) -> &Codes<i16> {
        &activations.i16
    }

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const G: usize>(
        self,
        w: [*const i16; 2],
        a: *const i16,
        stride: usize,
    ) -> Accumulators<R> {
        // SAFETY: the caller's promise; every ARM64 CPU has these.
        unsafe {
            let mut acc = [[vdupq_n_s32(0); 2]; R];
            // Two values of four rows in a vector. Written out, as a loop of so many instructions stays one.
            macro_rules! pair {
                ($x:ident, $k:expr, $even:literal, $odd:literal) => {
                    let w0 = vld1q_s16(w[0].add(LANES * ($k + $even)));
                    let w1 = vld1q_s16(w[1].add(LANES * ($k + $even)));
                    for r in 0..R {
                        acc[r][0] = vmlal_laneq_s16::<$even>(acc[r][0], vget_low_s16(w0), $x[r]);
                        acc[r][1] = vmlal_laneq_s16::<$even>(acc[r][1], vget_low_s16(w1), $x[r]);
                        acc[r][0] = vmlal_high_laneq_s16::<$odd>(acc[r][0], w0, $x[r]);
                        acc[r][1] = vmlal_high_laneq_s16::<$odd>(acc[r][1], w1, $x[r]);
                    }
                };
            }
            macro_rules! eight {
                ($k:expr) => {
                    let mut x = [vdupq_n_s16(0); R];
                    for r in 0..R {
                        x[r] = vld1q_s16(a.add(r * stride + $k));
                    }
                    pair!(x, $k, 0, 1);
                    pair!(x, $k, 2, 3);
                    pair!(x, $k, 4, 5);
                    pair!(x, $k, 6, 7);
                };
            }
            eight!(0);
            eight!(8);
            if G == 32 {
                eight!(16);
                eight!(24);
            }
            acc
        }
    }
}

#[target_feature(enable = "neon")]
fn interleave_i8(_: Neon, panel: &mut Panel, len: usize) {
    arm::interleave(panel, len, Unit::Sixteen)
}

#[target_feature(enable = "neon")]
fn interleave_i16(_: Neon, panel: &mut Panel, len: usize) {
    arm::interleave(panel, len, Unit::Int16)
}

/// See `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[target_feature(enable = "neon")]
unsafe fn gemm_i8(_: Neon, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
    let most = panel.range.0.unsigned_abs().max(panel.range.1.unsigned_abs());
    // SAFETY: the caller's shapes.
    unsafe {
        match most {
            ..=16 => arm::gemm(I8::<16>, panel, activations, rows, c),
            17..=32 => arm::gemm(I8::<32>, panel, activations, rows, c),
            _ => arm::gemm(I8::<128>, panel, activations, rows, c),
        }
    }
}

/// See `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[target_feature(enable = "neon")]
unsafe fn gemm_i16(_: Neon, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe { arm::gemm(I16, panel, activations, rows, c) }
}

kernel!(fn i8_kernel, Neon, i8, #[target_feature(enable = "neon")], interleave_i8, gemm_i8);
kernel!(fn i16_kernel, Neon, i16, #[target_feature(enable = "neon")], interleave_i16, gemm_i16);

impl Kernels for Neon {
    fn kernel(self, format: Format, precision: Precision) -> Option<Kernel> {
        with_block!(format, B => Some(match precision {
            Precision::Standard => i8_kernel::<B>(self),
            Precision::High => i16_kernel::<B>(self),
        }), float => None)
    }
}

tier!(Neon, |token| token, #[target_feature(enable = "neon")]);
