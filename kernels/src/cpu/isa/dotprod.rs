//! `dotprod`: `sdot`, 16 products of signed bytes an instruction. Cortex-A76 (Raspberry Pi 5) and newer, Apple since 2019.
//!
//! Both operands are signed, so weights need no bias. As with `vnni`, sums start at the bits of [`MAGIC`] and end as the bits
//! of the float MAGIC + n, which saves the conversion. The intrinsic is unstable, hence `asm!`.
//!
//! Panel: units of four bytes (see [`arm`](super::arm)).

use super::arm::{self, Accumulators, Dot, LANES, Unit};
use super::kernel::{Kernel, kernel};
use super::neon::Neon;
use super::tier::{Kernels, tier};
use super::token::Token;
use crate::backend::Precision;
use crate::cpu::activations::{Activations, Codes};
use crate::cpu::panel::Panel;
use crate::formats::{Format, with_block};
use crate::rounding::MAGIC;
use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

/// Proof of `dotprod`.
#[derive(Clone, Copy)]
pub(crate) struct DotProd(Neon);

impl Token for DotProd {
    const NAME: &'static str = "dotprod";

    fn detect() -> Option<Self> {
        if std::arch::is_aarch64_feature_detected!("dotprod") { Neon::detect().map(Self) } else { None }
    }
}

impl DotProd {
    /// The vectors of floats.
    pub(super) fn neon(self) -> Neon {
        self.0
    }
}

/// `$acc += $w · $x[$lane]`, four bytes a lane; `$lane` a literal.
macro_rules! sdot {
    ($acc:expr, $w:expr, $x:expr, $lane:literal) => {
        asm!(
            concat!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[", $lane, "]"),
            inout(vreg) $acc, in(vreg) $w, in(vreg) $x,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
}

/// 8-bit activations; holds the proof of `sdot`.
#[derive(Clone, Copy)]
struct I8 {
    _proof: DotProd,
}

impl Dot for I8 {
    type A = i8;
    type W = i8;
    const ROWS: usize = 8;

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
        // SAFETY: the caller's promise; `self` holds the proof of `sdot`.
        unsafe {
            let mut acc = [[vdupq_n_s32(MAGIC.to_bits() as i32); 2]; R];
            // Written out, as a loop of so many instructions stays one.
            macro_rules! sixteen {
                ($k:expr) => {
                    let mut x = [vdupq_n_s8(0); R];
                    for r in 0..R {
                        x[r] = vld1q_s8(a.add(r * stride + $k));
                    }
                    four!(x, $k, 0);
                    four!(x, $k, 1);
                    four!(x, $k, 2);
                    four!(x, $k, 3);
                };
            }
            macro_rules! four {
                ($x:ident, $k:expr, $lane:literal) => {
                    for v in 0..2 {
                        let w = vld1q_s8(w[v].add(LANES * ($k + 4 * $lane)));
                        for r in 0..R {
                            sdot!(acc[r][v], w, $x[r], $lane);
                        }
                    }
                };
            }
            sixteen!(0);
            if G == 32 {
                sixteen!(16);
            }
            acc
        }
    }

    #[inline(always)]
    fn offset(self, scale: float32x4_t) -> float32x4_t {
        // SAFETY: every ARM64 CPU has these.
        unsafe { vmulq_n_f32(scale, -MAGIC) }
    }

    #[inline(always)]
    fn scaled(self, sum: int32x4_t, scale: float32x4_t, offset: float32x4_t) -> float32x4_t {
        // SAFETY: every ARM64 CPU has these. Rounds once: scale · MAGIC is exact (see `vnni`).
        unsafe { vfmaq_f32(offset, vreinterpretq_f32_s32(sum), scale) }
    }
}

/// 16-bit activations, as 256 times a byte and a byte: two `sdot` where `smlal` by element would be four instructions. The sums
/// are exact: 32 · 128 · 32639 < 2^27.
#[derive(Clone, Copy)]
struct I16 {
    _proof: DotProd,
}

impl Dot for I16 {
    type A = i16;
    type W = i8;
    const ROWS: usize = 4;

    #[inline(always)]
    fn codes(activations: &Activations) -> &Codes<i16> {
        &activations.i16
    }

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const G: usize>(
        self,
        w: [*const i8; 2],
        a: *const i16,
        stride: usize,
    ) -> Accumulators<R> {
        // SAFETY: the caller's promise; `self` holds the proof of `sdot`.
        unsafe {
            let mut acc = [[vdupq_n_s32(0); 2]; R];
            let mut high_acc = acc;
            macro_rules! sixteen {
                ($k:expr) => {
                    let (mut low, mut high) = ([vdupq_n_s8(0); R], [vdupq_n_s8(0); R]);
                    for r in 0..R {
                        let a = a.add(r * stride + $k);
                        let x = [vreinterpretq_s8_s16(vld1q_s16(a)), vreinterpretq_s8_s16(vld1q_s16(a.add(8)))];
                        low[r] = vuzp1q_s8(x[0], x[1]);
                        // A low byte that counts as negative took 256 too much.
                        let carry = vreinterpretq_s8_u8(vshrq_n_u8::<7>(vreinterpretq_u8_s8(low[r])));
                        high[r] = vaddq_s8(vuzp2q_s8(x[0], x[1]), carry);
                    }
                    four!(low, high, $k, 0);
                    four!(low, high, $k, 1);
                    four!(low, high, $k, 2);
                    four!(low, high, $k, 3);
                };
            }
            macro_rules! four {
                ($low:ident, $high:ident, $k:expr, $lane:literal) => {
                    for v in 0..2 {
                        let w = vld1q_s8(w[v].add(LANES * ($k + 4 * $lane)));
                        for r in 0..R {
                            sdot!(acc[r][v], w, $low[r], $lane);
                            sdot!(high_acc[r][v], w, $high[r], $lane);
                        }
                    }
                };
            }
            sixteen!(0);
            if G == 32 {
                sixteen!(16);
            }
            for (acc, high) in acc.as_flattened_mut().iter_mut().zip(high_acc.as_flattened()) {
                *acc = vaddq_s32(*acc, vshlq_n_s32::<8>(*high));
            }
            acc
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn interleave(_: DotProd, panel: &mut Panel, len: usize) {
    arm::interleave(panel, len, Unit::Four)
}

/// See `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[target_feature(enable = "neon,dotprod")]
unsafe fn gemm_i8(token: DotProd, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe { arm::gemm(I8 { _proof: token }, panel, activations, rows, c) }
}

/// See `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[target_feature(enable = "neon,dotprod")]
unsafe fn gemm_i16(token: DotProd, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe { arm::gemm(I16 { _proof: token }, panel, activations, rows, c) }
}

kernel!(fn i8_kernel, DotProd, i8, #[target_feature(enable = "neon,dotprod")], interleave, gemm_i8);
kernel!(pub(super) fn i16_kernel, DotProd, i16, #[target_feature(enable = "neon,dotprod")], interleave, gemm_i16);

impl Kernels for DotProd {
    fn kernel(self, format: Format, precision: Precision) -> Option<Kernel> {
        with_block!(format, B => Some(match precision {
            Precision::Standard => i8_kernel::<B>(self),
            Precision::High => i16_kernel::<B>(self),
        }), float => None)
    }
}

tier!(DotProd, |token| token.neon(), #[target_feature(enable = "neon,dotprod")]);
