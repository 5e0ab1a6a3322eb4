//! 16-bit codes and `vpmaddwd`: for weights of eight bits, and where activations should be so fine that their error
//! vanishes.
//!
//! Panel layout: two halves of 16 weight rows; in each, for every pair of values, the pairs of the 16 rows side by side:
//! `[half][len / 2][16][2]` of i16. A product then adds straight into the lane of its row. Sums of a group are exact:
//! 32 · 128 · 32767 < 2^27.

use super::vectors::{Avx2, hide, pin, transpose};
use crate::cpu::activations::Activations;
use crate::cpu::panel::{CHUNK, Panel, TILE};
use crate::cpu::simd::unroll;
use std::arch::x86_64::*;
use std::ops::Range;

/// Weight rows per half of a panel.
const HALF: usize = 16;

/// Offset of a half in the codes of a panel, in i16.
const fn half_offset(half: usize) -> usize {
    half * HALF * CHUNK
}

/// Rearranges `panel.rows` into `panel.codes`: transposes 8 rows × 8 pairs at a time.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn interleave(_: Avx2, panel: &mut Panel, len: usize) {
    let rows: &[i8; TILE * CHUNK] = panel.rows.first_chunk().expect("a panel has room for a tile");
    assert!(len <= CHUNK && len.is_multiple_of(16) && panel.codes.len() == 2 * TILE * CHUNK);
    let codes = panel.codes.as_i16_mut().as_mut_ptr();
    for row in (0..TILE).step_by(8) {
        let base = half_offset(row / HALF) + row % HALF * 2;
        for k in (0..len).step_by(16) {
            // SAFETY: 16 codes from k < len <= CHUNK of rows row..row + 8; pairs k / 2.. of the half that holds them.
            unsafe {
                let load =
                    |i: usize| _mm256_cvtepi8_epi16(_mm_loadu_si128(rows.as_ptr().add((row + i) * CHUNK + k).cast()));
                let pairs = transpose([load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)]);
                for (i, pair) in pairs.into_iter().enumerate() {
                    _mm256_storeu_si256(codes.add(base + (k / 2 + i) * HALF * 2).cast(), pair);
                }
            }
        }
    }
}

/// `c[row][n] += activations · panel`; see `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn gemm(_: Avx2, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
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
/// As [`gemm`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn gemm_of<const G: usize, const MIN: bool>(
    panel: &Panel,
    activations: &Activations,
    rows: Range<usize>,
    c: &mut [f32],
) {
    let mut row = rows.start;
    while row < rows.end {
        let c = c[(row - rows.start) * TILE..].as_mut_ptr();
        let left = (rows.end - row).min(4);
        for half in 0..2 {
            // SAFETY: rows row..row + left of activations and c, one half of the panel.
            unsafe {
                match left {
                    4 => block::<4, G, MIN>(panel, half, activations, row, c),
                    3 => block::<3, G, MIN>(panel, half, activations, row, c),
                    2 => block::<2, G, MIN>(panel, half, activations, row, c),
                    _ => block::<1, G, MIN>(panel, half, activations, row, c),
                }
            }
        }
        row += left;
    }
}

/// R rows × 16 columns. Sums of a group live in 2R registers; the floats they end in stay in `c`, in the L1 cache.
///
/// # Safety
/// Rows `row..row + R` exist; the shapes are those that `Kernel::gemm` checks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block<const R: usize, const G: usize, const MIN: bool>(
    panel: &Panel,
    half: usize,
    activations: &Activations,
    row: usize,
    c: *mut f32,
) {
    let (first, groups) = (panel.first, panel.len / G);
    // SAFETY: offsets of existing rows, of the panel's groups, and of one half of the panel.
    unsafe {
        let column = half * HALF;
        let mut w = panel.codes.as_i16().as_ptr().add(half_offset(half));
        let mut scale = panel.scales.as_ptr().add(column);
        let mut min = panel.mins.as_ptr().add(column);
        let mut c = c.add(column);
        let mut a = activations.i16.codes.as_ptr().add(row * activations.cols + first);
        let sums = if G == 32 { activations.i16.sums.as_ptr() } else { activations.i16.half_sums.as_ptr() };
        let mut act_sums = sums.add(first / G * activations.stride + row);
        let mut act_scales = activations.i16.scales.as_ptr().add(first / 32 * activations.stride + row);
        for g in 0..groups {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            unroll!(G / 2, pair => {
                let w0 = _mm256_load_si256(w.add(32 * pair).cast());
                let w1 = _mm256_load_si256(w.add(32 * pair + 16).cast());
                for r in 0..R {
                    let x = _mm256_set1_epi32(a.add(r * activations.cols + 2 * pair).cast::<i32>().read_unaligned());
                    acc[r][0] = pin(_mm256_add_epi32(acc[r][0], _mm256_madd_epi16(x, w0)));
                    acc[r][1] = pin(_mm256_add_epi32(acc[r][1], _mm256_madd_epi16(x, w1)));
                }
            });
            // What the compiler cannot follow it cannot keep in registers, which are all taken.
            c = hide(c);
            for r in 0..R {
                let act_scale = _mm256_set1_ps(*act_scales.add(r));
                let act_sum = if MIN { _mm256_set1_ps(*act_sums.add(r)) } else { _mm256_setzero_ps() };
                for v in 0..2 {
                    let mut value = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[r][v]), _mm256_load_ps(scale.add(8 * v)));
                    if MIN {
                        value = _mm256_fmadd_ps(_mm256_load_ps(min.add(8 * v)), act_sum, value);
                    }
                    let c = c.add(r * TILE + 8 * v);
                    _mm256_store_ps(c, _mm256_fmadd_ps(value, act_scale, _mm256_load_ps(c)));
                }
            }
            w = w.add(HALF * G);
            scale = scale.add(TILE);
            min = min.add(TILE);
            a = a.add(G);
            act_sums = act_sums.add(activations.stride);
            if G == 32 || g % 2 == 1 {
                act_scales = act_scales.add(activations.stride);
            }
        }
    }
}
