//! Floats to bfloat16 and back, in the squares that tile registers take.

use super::tiles::{ROWS, SQUARE, STEP};
use std::arch::x86_64::*;

/// Values of bfloat16 [rows × 32] of floats with `stride` from row to row; rows that are lacking are zeros.
///
/// # Safety
/// `rows` rows can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) unsafe fn load_square(from: *const f32, stride: usize, rows: usize) -> [__m512i; ROWS] {
    let mut square = [_mm512_setzero_si512(); ROWS];
    for (row, to) in square.iter_mut().enumerate().take(rows) {
        // SAFETY: the caller's promise.
        *to = unsafe {
            let from = from.add(row * stride);
            round(_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(STEP / 2)))
        };
    }
    square
}

/// 32 floats to bfloat16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) fn round(a: __m512, b: __m512) -> __m512i {
    // SAFETY: vectors of the same bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) }
}

/// 32 values of bfloat16 to floats.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) fn widen(x: __m512i) -> (__m512, __m512) {
    let widen = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)));
    (widen(_mm512_castsi512_si256(x)), widen(_mm512_extracti64x4_epi64::<1>(x)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) fn store(to: &mut [u16; SQUARE], vectors: [__m512i; ROWS]) {
    to.as_chunks_mut::<STEP>().0.iter_mut().zip(vectors).for_each(|(to, pairs)| store_pairs(to, pairs));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) fn store_pairs(to: &mut [u16; STEP], pairs: __m512i) {
    // SAFETY: 64 bytes.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs) }
}
