//! AVX-512 with VNNI: 512-bit vectors, Ice Lake, Zen 4 and newer. The products are those of [`vnni`](super::vnni).

use super::attention::{Attention, i16_attention, in_i16};
use super::kernel::Kernel;
use super::tier::{Kernels, tier};
use super::token::{Token, keep};
use super::vnni::{i8_512, kernels};
use crate::backend::Precision;
use crate::cpu::simd::{DotI16, Int, IntLanes, Simd, instructions};
use crate::formats::{Format, with_block};
use std::arch::x86_64::*;

/// Proof of AVX-512 F, BW, DQ, VL and VNNI, AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Token for Avx512 {
    const NAME: &'static str = "avx512vnni";

    fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }
}

impl Simd for Avx512 {
    type F = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 8;

    instructions! {
        fn splat(self, x: f32) -> Self::F { _mm512_set1_ps(x) }
        fn add(self, a: Self::F, b: Self::F) -> Self::F { _mm512_add_ps(a, b) }
        fn sub(self, a: Self::F, b: Self::F) -> Self::F { _mm512_sub_ps(a, b) }
        fn mul(self, a: Self::F, b: Self::F) -> Self::F { _mm512_mul_ps(a, b) }
        fn div(self, a: Self::F, b: Self::F) -> Self::F { _mm512_div_ps(a, b) }
        fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F { _mm512_fmadd_ps(a, b, c) }
        fn max(self, a: Self::F, b: Self::F) -> Self::F { _mm512_max_ps(a, b) }
        fn min(self, a: Self::F, b: Self::F) -> Self::F { _mm512_min_ps(a, b) }
        fn abs(self, a: Self::F) -> Self::F { _mm512_abs_ps(a) }
        fn round(self, a: Self::F) -> Self::F { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        fn shift_to_exponent(self, a: Self::F) -> Self::F { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(a))) }
        fn sum(self, a: Self::F) -> f32 { _mm512_reduce_add_ps(a) }
        fn max_lane(self, a: Self::F) -> f32 { _mm512_reduce_max_ps(a) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm512_storeu_ps(p, x) }
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x))) }
    }

    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x))) }
    }
}

impl IntLanes for Avx512 {
    type I = __m512i;
    type Square = [__m512i; 16];

    instructions! {
        fn splat_int(self, x: i32) -> Self::I { _mm512_set1_epi32(x) }
        fn xor(self, a: Self::I, b: Self::I) -> Self::I { _mm512_xor_si512(a, b) }
        fn and(self, a: Self::I, b: Self::I) -> Self::I { _mm512_and_si512(a, b) }
        fn or(self, a: Self::I, b: Self::I) -> Self::I { _mm512_or_si512(a, b) }
        fn add_i8(self, a: Self::I, b: Self::I) -> Self::I { _mm512_add_epi8(a, b) }
        fn add_i16(self, a: Self::I, b: Self::I) -> Self::I { _mm512_add_epi16(a, b) }
        fn mul_i16(self, a: Self::I, b: Self::I) -> Self::I { _mm512_mullo_epi16(a, b) }
        fn shift_right(self, a: Self::I, bits: u32) -> Self::I { _mm512_srl_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
        fn shift_left(self, a: Self::I, bits: u32) -> Self::I { _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
        fn upper_bytes(self, a: Self::I) -> Self::I { _mm512_srli_epi16::<8>(a) }
        fn to_float(self, x: Self::I) -> Self::F { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn transpose(self, square: &mut [Self::I]) {
        let square: &mut [__m512i; 16] = square.try_into().expect("a square");
        // SAFETY: `self` is the proof of the instructions.
        *square = unsafe { transpose(*square) };
    }

    #[inline(always)]
    unsafe fn load_int(self, p: *const i32) -> Self::I {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    unsafe fn load_transposed(self, places: &[*const i32; 16]) -> Self::Square {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { transpose(std::array::from_fn(|i| self.load_int(places[i]))) }
    }

    #[inline(always)]
    unsafe fn load_four_transposed(self, places: &[*const i32; 16]) -> [Self::I; 4] {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe {
            let load = |row: usize| _mm_loadu_si128(places[row].cast());
            // In each 128-bit quarter q: row i + 4 · q.
            let quarters = std::array::from_fn(|i| {
                let x = _mm512_castsi128_si512(load(i));
                let x = _mm512_inserti32x4::<1>(x, load(i + 4));
                let x = _mm512_inserti32x4::<2>(x, load(i + 8));
                _mm512_inserti32x4::<3>(x, load(i + 12))
            });
            transpose_fours(quarters)
        }
    }

    #[inline(always)]
    unsafe fn load_i8_as_i16(self, p: *const i8) -> Self::I {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(p.cast())) }
    }

    #[inline(always)]
    unsafe fn store_int(self, p: *mut i32, x: Self::I) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm512_storeu_si512(p.cast(), x) }
    }
}

impl DotI16 for Avx512 {
    type S = Self;

    instructions! {
        fn dot(self, acc: Int<Self>, a: Int<Self>, b: Int<Self>) -> Int<Self> { _mm512_dpwssd_epi32(acc, a, b) }
    }

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }
}

/// Transposes 4 × 4 words of 32 bits in each 128-bit quarter.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn transpose_fours([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab0, ab1) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd0, cd1) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab0, cd0),
        _mm512_unpackhi_epi64(ab0, cd0),
        _mm512_unpacklo_epi64(ab1, cd1),
        _mm512_unpackhi_epi64(ab1, cd1),
    ]
}

/// Transposes 16 × 16 words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
pub(super) fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    // In each 128-bit quarter: rows 4i..4i + 4 of column j (and j + 4, 8, 12 in the other quarters).
    let mut fours = [_mm512_setzero_si512(); 16];
    for (fours, r) in fours.as_chunks_mut().0.iter_mut().zip(r.as_chunks().0) {
        *fours = transpose_fours(*r);
    }
    // Quarter q of `fours[4 * i + j]` holds rows 4i.. of column 4q + j: gather the four i for each column.
    let mut out = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
        let (ab01, ab23) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
        let (cd01, cd23) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
        out[j] = _mm512_shuffle_i32x4::<0x88>(ab01, cd01);
        out[4 + j] = _mm512_shuffle_i32x4::<0xdd>(ab01, cd01);
        out[8 + j] = _mm512_shuffle_i32x4::<0x88>(ab23, cd23);
        out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab23, cd23);
    }
    out
}

kernels!(Avx512, i8_512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]);
i16_attention!(Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]);

impl Kernels for Avx512 {
    fn kernel(self, format: Format, precision: Precision) -> Option<Kernel> {
        with_block!(format, B => Some(kernel_of::<B>(self, precision)), float => None)
    }

    fn coarse_attention(self) -> Option<Attention<u16>> {
        Some(in_i16(keep(self)))
    }
}

tier!(Avx512, |token| token, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]);
