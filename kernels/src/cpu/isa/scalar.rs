//! Plain Rust, for any CPU, and what the other tiers are tested against.
//!
//! Everything is f32: quantized weights are dequantized into the panel of floats, activations are not quantized. That
//! is what compilers vectorize for any CPU. (Integer sums they reorder into strided loads, ten times slower.)

use super::tier::{Kernels, tier};
use super::token::Token;
use crate::cpu::simd::Simd;
use crate::rounding::MAGIC;

const LANES: usize = 8;

/// Needs nothing that a CPU may lack.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Token for Scalar {
    const NAME: &'static str = "scalar";

    fn detect() -> Option<Self> {
        Some(Self)
    }
}

#[inline(always)]
fn map(a: [f32; LANES], f: impl Fn(f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Scalar {
    type F = [f32; LANES];
    const LANES: usize = LANES;
    const ROWS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: readable for LANES by the caller's promise.
        unsafe { p.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        // SAFETY: writable for LANES by the caller's promise.
        unsafe { p.cast::<Self::F>().write_unaligned(x) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Not `mul_add`: without the instruction that is a call into the C library.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        map(a, |x| (x + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn shift_to_exponent(self, a: Self::F) -> Self::F {
        map(a, |a| f32::from_bits(a.to_bits() << 23))
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if m > x { m } else { x })
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: Self::F) {
        // SAFETY: writable for LANES by the caller's promise.
        unsafe { p.cast::<[i8; LANES]>().write_unaligned(x.map(|x| x as i8)) }
    }
    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, x: Self::F) {
        // SAFETY: writable for LANES by the caller's promise.
        unsafe { p.cast::<[i16; LANES]>().write_unaligned(x.map(|x| x as i16)) }
    }
}

impl Kernels for Scalar {}

tier!(Scalar, |token| token, #[inline]);
