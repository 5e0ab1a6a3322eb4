//! AVX-VNNI: 256-bit vectors, Alder Lake (2021) and newer, Zen 5. Float operations are those of AVX2, products those of
//! [`vnni`](super::vnni).

use super::avx2::{self, Avx2};
use super::vnni::{self, Bytes, Vnni, Words};
use crate::backend::Precision;
use crate::cpu::simd::DotWords;
use std::arch::x86_64::*;

/// Proof of AVX-VNNI, AVX2, FMA and F16C: made only inside the functions of `TIER`.
#[derive(Clone, Copy)]
struct AvxVnni;

fn detect() -> bool {
    is_x86_feature_detected!("avxvnni") && avx2::detect()
}

// Every method is inlined into a function of `TIER`, whose table exists for the caller only after `detect`.
#[allow(clippy::undocumented_unsafe_blocks)]
impl DotWords for AvxVnni {
    type S = Avx2;
    type I = __m256i;

    #[inline(always)]
    fn simd(self) -> Avx2 {
        Avx2
    }
    #[inline(always)]
    fn splat(self, x: i32) -> Self::I {
        unsafe { _mm256_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const i32) -> Self::I {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    fn dot(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_dpwssd_avx_epi32(acc, a, b) }
    }
    #[inline(always)]
    fn to_float(self, x: Self::I) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(x) }
    }
}

// As above.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Vnni for AvxVnni {
    #[inline(always)]
    unsafe fn load_widened(self, p: *const i8) -> Self::I {
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8, x: Self::I) {
        unsafe { _mm256_storeu_si256(p.cast(), x) }
    }
    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_xor_si256(a, b) }
    }
    #[inline(always)]
    fn transpose(self, square: &mut [Self::I]) {
        let square: &mut [__m256i; 8] = square.try_into().expect("a square");
        *square = unsafe { avx2::transpose(*square) };
    }
}

super::vnni::kernels!(AvxVnni, bytes256, #[target_feature(enable = "avxvnni,avx2,fma,f16c")]);

super::tier!("avxvnni", detect, Avx2, #[target_feature(enable = "avxvnni,avx2,fma,f16c")], |format, precision| {
    let quantized = if precision == Precision::Standard { &BYTES } else { &WORDS };
    (!format.is_float()).then_some(quantized)
}, super::word_attention!(AvxVnni, #[target_feature(enable = "avxvnni,avx2,fma,f16c")]));
