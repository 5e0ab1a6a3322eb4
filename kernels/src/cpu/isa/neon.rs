//! NEON, which every ARM64 CPU has: Cortex-A53 and A72 (Raspberry Pi 3 and 4), and whatever has neither `dotprod` nor `i8mm`.
//!
//! 8-bit products widen to 16 bits (`smull`, `smlal`), eight at a time. A sum of them there is exact as long as the largest
//! code times the number of products is at most 256 (256 · 127 < 2^15): two products of 8-bit weights, 8 of codes up to 32,
//! 16 of codes up to 16. So few of the additions that gather a group have to be 32 bits wide.
//!
//! Panel: units of 16 bytes (see [`arm`]). A vector of products belongs to one row of weights; four are gathered into a
//! vector of sums.

use super::arm::{self, Dot, LANES, Sums, Unit};
use crate::backend::Precision;
use crate::cpu::acts::Codes;
use crate::cpu::simd::Simd;
use std::arch::aarch64::*;
use std::ops::Range;

/// Needs nothing that an ARM64 CPU may lack.
#[derive(Clone, Copy)]
pub(super) struct Neon;

// Every ARM64 CPU has these instructions.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Neon {
    type F = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        unsafe { vst1q_f32(p, x) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { vminq_f32(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        unsafe { vabsq_f32(a) }
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        unsafe { vrndnq_f32(a) }
    }
    #[inline(always)]
    fn exp2_int(self, n: Self::F) -> Self::F {
        unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)))) }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        unsafe { vaddvq_f32(a) }
    }
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        unsafe { vmaxvq_f32(a) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: Self::F) {
        unsafe {
            let words = vqmovn_s32(vcvtq_s32_f32(x));
            let bytes = vqmovn_s16(vcombine_s16(words, words));
            vst1_lane_s32::<0>(p.cast(), vreinterpret_s32_s8(bytes));
        }
    }
    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, x: Self::F) {
        unsafe { vst1_s16(p, vqmovn_s32(vcvtq_s32_f32(x))) }
    }
}

/// 8-bit products of weights whose codes are at most `MOST`, which is 16, 32 or 128.
#[derive(Clone, Copy)]
struct Bytes<const MOST: usize>;

impl<const MOST: usize> Dot for Bytes<MOST> {
    type A = i8;
    type W = i8;
    const ROWS: usize = 4;

    #[inline(always)]
    fn codes(acts: &Acts) -> &Codes<i8> {
        &acts.bytes
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const G: usize>(self, w: [*const i8; 2], a: *const i8, stride: usize) -> Sums<R> {
        // SAFETY: the caller's promise; every ARM64 CPU has these.
        unsafe {
            let mut out = [[vdupq_n_s32(0); 2]; R];
            for v in 0..2 {
                for r in 0..R {
                    let x = a.add(r * stride);
                    let mut sums = [vdupq_n_s32(0); LANES];
                    let mut narrow = [vdupq_n_s16(0); LANES];
                    for i in 0..LANES {
                        let w = w[v].add(16 * i);
                        narrow[i] = sixteen(w, x);
                        let (w, x) = (w.add(16 * LANES), x.add(16));
                        if MOST > 32 {
                            sums[i] = vpaddlq_s16(narrow[i]);
                            if G == 32 {
                                sums[i] = vpadalq_s16(sums[i], sixteen(w, x));
                            }
                        } else if G == 32 {
                            narrow[i] = vmlal_s8(narrow[i], vld1_s8(w), vld1_s8(x));
                            narrow[i] = vmlal_s8(narrow[i], vld1_s8(w.add(8)), vld1_s8(x.add(8)));
                        }
                    }
                    out[r][v] = if MOST > 32 {
                        vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3]))
                    } else {
                        // G / 8 products a lane; G / 4 after this.
                        let [a, b] = [vpaddq_s16(narrow[0], narrow[1]), vpaddq_s16(narrow[2], narrow[3])];
                        if G / 2 * MOST <= 256 {
                            vpaddlq_s16(vpaddq_s16(a, b))
                        } else {
                            vpaddq_s32(vpaddlq_s16(a), vpaddlq_s16(b))
                        }
                    };
                }
            }
            out
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
struct Words;

impl Dot for Words {
    type A = i16;
    type W = i16;
    const ROWS: usize = 8;

    #[inline(always)]
    fn codes(acts: &Acts) -> &Codes<i16> {
        &acts.words
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const G: usize>(self, w: [*const i16; 2], a: *const i16, stride: usize) -> Sums<R> {
        // SAFETY: the caller's promise; every ARM64 CPU has these.
        unsafe {
            let mut acc = [[vdupq_n_s32(0); 2]; R];
            for k in (0..G).step_by(8) {
                let mut x = [vdupq_n_s16(0); R];
                for r in 0..R {
                    x[r] = vld1q_s16(a.add(r * stride + k));
                }
                // Two values of four rows in a vector.
                macro_rules! pair {
                    ($even:literal, $odd:literal) => {
                        for v in 0..2 {
                            let w = vld1q_s16(w[v].add(LANES * (k + $even)));
                            for r in 0..R {
                                acc[r][v] = vmlal_laneq_s16::<$even>(acc[r][v], vget_low_s16(w), x[r]);
                                acc[r][v] = vmlal_high_laneq_s16::<$odd>(acc[r][v], w, x[r]);
                            }
                        }
                    };
                }
                pair!(0, 1);
                pair!(2, 3);
                pair!(4, 5);
                pair!(6, 7);
            }
            acc
        }
    }
}

#[target_feature(enable = "neon")]
fn interleave_bytes(panel: &mut Panel, len: usize) {
    arm::interleave(panel, len, Unit::Sixteen)
}

#[target_feature(enable = "neon")]
fn interleave_words(panel: &mut Panel, len: usize) {
    arm::interleave(panel, len, Unit::Word)
}

#[target_feature(enable = "neon")]
unsafe fn gemm_bytes(panel: &Panel, acts: &Acts, rows: Range<usize>, c: &mut [f32]) {
    let most = panel.range.0.unsigned_abs().max(panel.range.1.unsigned_abs());
    // SAFETY: the caller's shapes.
    unsafe {
        match (panel.group, panel.has_min, most) {
            (32, false, ..=16) => arm::gemm_of::<_, 32, false>(Bytes::<16>, panel, acts, rows, c),
            (32, true, ..=16) => arm::gemm_of::<_, 32, true>(Bytes::<16>, panel, acts, rows, c),
            (32, true, ..=32) => arm::gemm_of::<_, 32, true>(Bytes::<32>, panel, acts, rows, c),
            (16, false, ..=32) => arm::gemm_of::<_, 16, false>(Bytes::<32>, panel, acts, rows, c),
            (16, true, ..=32) => arm::gemm_of::<_, 16, true>(Bytes::<32>, panel, acts, rows, c),
            (32, false, ..=128) => arm::gemm_of::<_, 32, false>(Bytes::<128>, panel, acts, rows, c),
            (group, _, most) => unreachable!("codes up to {most} in groups of {group}"),
        }
    }
}

#[target_feature(enable = "neon")]
unsafe fn gemm_words(panel: &Panel, acts: &Acts, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe { arm::gemm(Words, panel, acts, rows, c) }
}

static BYTES: super::Kernel = super::kernel!(bytes, #[target_feature(enable = "neon")], interleave_bytes, gemm_bytes);
static WORDS: super::Kernel = super::kernel!(words, #[target_feature(enable = "neon")], interleave_words, gemm_words);

super::tier!("neon", || true, Neon, #[target_feature(enable = "neon")], |format, precision| {
    let quantized = if precision == Precision::Standard { &BYTES } else { &WORDS };
    (!format.is_float()).then_some(quantized)
});
