//! What all products of 256-bit vectors need: the proof of the instructions, and vectors of floats and integers.

use crate::cpu::isa::token::Token;
use crate::cpu::simd::{DotI16, Int, IntLanes, Simd, instructions};
use std::arch::asm;
use std::arch::x86_64::*;

/// Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Token for Avx2 {
    const NAME: &'static str = "avx2";

    fn detect() -> Option<Self> {
        let found =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }
}

impl Simd for Avx2 {
    type F = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;

    instructions! {
        fn splat(self, x: f32) -> Self::F { _mm256_set1_ps(x) }
        fn add(self, a: Self::F, b: Self::F) -> Self::F { _mm256_add_ps(a, b) }
        fn sub(self, a: Self::F, b: Self::F) -> Self::F { _mm256_sub_ps(a, b) }
        fn mul(self, a: Self::F, b: Self::F) -> Self::F { _mm256_mul_ps(a, b) }
        fn div(self, a: Self::F, b: Self::F) -> Self::F { _mm256_div_ps(a, b) }
        fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F { _mm256_fmadd_ps(a, b, c) }
        fn max(self, a: Self::F, b: Self::F) -> Self::F { _mm256_max_ps(a, b) }
        fn min(self, a: Self::F, b: Self::F) -> Self::F { _mm256_min_ps(a, b) }
        fn abs(self, a: Self::F) -> Self::F { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
        fn round(self, a: Self::F) -> Self::F { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        fn shift_to_exponent(self, a: Self::F) -> Self::F { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(a))) }
        fn sum(self, a: Self::F) -> f32 {
            let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
        fn max_lane(self, a: Self::F) -> f32 {
            let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm256_storeu_ps(p, x) }
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe {
            let x = _mm256_cvtps_epi32(x);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(words, words));
        }
    }

    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe {
            let x = _mm256_cvtps_epi32(x);
            _mm_storeu_si128(p.cast(), _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x)));
        }
    }
}

impl IntLanes for Avx2 {
    type I = __m256i;
    type Square = [__m256i; 8];

    instructions! {
        fn splat_int(self, x: i32) -> Self::I { _mm256_set1_epi32(x) }
        fn xor(self, a: Self::I, b: Self::I) -> Self::I { _mm256_xor_si256(a, b) }
        fn and(self, a: Self::I, b: Self::I) -> Self::I { _mm256_and_si256(a, b) }
        fn or(self, a: Self::I, b: Self::I) -> Self::I { _mm256_or_si256(a, b) }
        fn add_i8(self, a: Self::I, b: Self::I) -> Self::I { _mm256_add_epi8(a, b) }
        fn add_i16(self, a: Self::I, b: Self::I) -> Self::I { _mm256_add_epi16(a, b) }
        fn mul_i16(self, a: Self::I, b: Self::I) -> Self::I { _mm256_mullo_epi16(a, b) }
        fn shift_right(self, a: Self::I, bits: u32) -> Self::I { _mm256_srl_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
        fn shift_left(self, a: Self::I, bits: u32) -> Self::I { _mm256_sll_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
        fn upper_bytes(self, a: Self::I) -> Self::I { _mm256_srli_epi16::<8>(a) }
        fn to_float(self, x: Self::I) -> Self::F { _mm256_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn transpose(self, square: &mut [Self::I]) {
        let square: &mut [__m256i; 8] = square.try_into().expect("a square");
        // SAFETY: `self` is the proof of the instructions.
        *square = unsafe { transpose(*square) };
    }

    #[inline(always)]
    unsafe fn load_int(self, p: *const i32) -> Self::I {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm256_loadu_si256(p.cast()) }
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
            // In either half h: row i + 4 · h.
            let halves =
                [0, 1, 2, 3].map(|i| _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load(i)), load(i + 4)));
            let [a, b, c, d] = halves;
            let (ab0, ab1) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd0, cd1) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab0, cd0),
                _mm256_unpackhi_epi64(ab0, cd0),
                _mm256_unpacklo_epi64(ab1, cd1),
                _mm256_unpackhi_epi64(ab1, cd1),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_i8_as_i16(self, p: *const i8) -> Self::I {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn store_int(self, p: *mut i32, x: Self::I) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm256_storeu_si256(p.cast(), x) }
    }
}

impl DotI16 for Avx2 {
    type S = Self;

    instructions! {
        fn dot(self, acc: Int<Self>, a: Int<Self>, b: Int<Self>) -> Int<Self> { pin(_mm256_add_epi32(acc, _mm256_madd_epi16(a, b))) }
    }

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }
}

/// Transposes 8 × 8 words of 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::isa) fn transpose(r: [__m256i; 8]) -> [__m256i; 8] {
    let two = |i: usize| (_mm256_unpacklo_epi32(r[i], r[i + 1]), _mm256_unpackhi_epi32(r[i], r[i + 1]));
    let ((a0, a1), (b0, b1), (c0, c1), (d0, d1)) = (two(0), two(2), two(4), two(6));
    let four = |a, b| (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let ((x0, x1), (x2, x3), (y0, y1), (y2, y3)) = (four(a0, b0), four(a1, b1), four(c0, d0), four(c1, d1));
    let low = |x, y| _mm256_permute2x128_si256::<0x20>(x, y);
    let high = |x, y| _mm256_permute2x128_si256::<0x31>(x, y);
    [low(x0, y0), low(x1, y1), low(x2, y2), low(x3, y3), high(x0, y0), high(x1, y1), high(x2, y2), high(x3, y3)]
}

/// Keeps a running sum in its register. Without it the compiler unrolls the loop, adds products to each other before it
/// adds them to the sums, and spills most of both: a fifth slower.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pin(mut x: __m256i) -> __m256i {
    // SAFETY: an empty instruction sequence.
    unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

/// The same pointer, of which the compiler does not know that.
#[inline(always)]
pub(super) fn hide(mut p: *mut f32) -> *mut f32 {
    // SAFETY: an empty instruction sequence.
    #[allow(clippy::pointers_in_nomem_asm_block, reason = "it touches no memory")]
    unsafe {
        asm!("/* {0} */", inout(reg) p, options(pure, nomem, nostack, preserves_flags))
    };
    p
}
