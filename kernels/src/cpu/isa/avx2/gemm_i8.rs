//! 8-bit codes and `vpmaddubsw`: for weights of at most six bits.
//!
//! `vpmaddubsw` adds two products of an unsigned and a signed byte into 16 bits, with saturation. Weights, made unsigned
//! by subtracting the format's lowest code, are at most 15, 31 or 63; activations at most 127. So 8, 4 or 2 results can
//! be summed in 16 bits before they must be widened: 8 · 2 · 15 · 127, 4 · 2 · 31 · 127 and 2 · 2 · 63 · 127 are all
//! below 32768. What was subtracted comes back as a min, lowest · scale, times the sum of the activation codes.
//!
//! Panel layout: two halves of 16 weight rows; in each, for every four values, the fours of the 16 rows side by side:
//! `[half][len / 4][16][4]` bytes.

use super::vectors::{Avx2, hide, pin, transpose};
use crate::cpu::activations::Activations;
use crate::cpu::panel::{CHUNK, Panel, TILE, TileRows, planes};
use crate::cpu::simd::unroll;
use crate::formats::Block;
use std::arch::x86_64::*;
use std::ops::Range;

/// Largest unsigned code.
pub(super) const MAX_CODE: i32 = 63;
/// Weight rows per half of a panel.
const HALF: usize = 16;

/// Offset of a half in the codes of a panel.
const fn half_offset(half: usize) -> usize {
    half * HALF * CHUNK
}

/// Unsigned codes need a min, which a format of signed ones has not.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn give_mins(panel: &mut Panel, len: usize) {
    if !panel.has_min {
        let lowest = f32::from(panel.range.0);
        let used = len / panel.group * TILE;
        let pairs = panel.mins[..used].iter_mut().zip(&panel.scales[..used]);
        pairs.for_each(|(min, scale)| *min = scale * lowest);
    }
}

/// Values `first..first + len` of a tile of a format with planes as a panel, straight from the file.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn interleave_planes<B: Block>(s: Avx2, panel: &mut Panel, tile: TileRows, first: usize, len: usize) {
    panel.unpack_scales::<_, B>(s, tile, 0, first, len);
    give_mins(panel, len);
    let codes = &mut panel.codes;
    assert!(len <= CHUNK && codes.len() >= TILE * CHUNK);
    let codes = codes.as_mut_ptr();
    let store = |k: usize, row: usize, fours| {
        let at = half_offset(row / HALF) + row % HALF * 4 + k / 4 * HALF * 4;
        // SAFETY: fours of eight rows of the half that holds them, k < len <= CHUNK.
        unsafe { _mm256_storeu_si256(codes.add(at).cast(), fours) }
    };
    planes::fours::<_, B, _>(s, tile, 0, (first, len), |_, _| (), |(), fours| fours, store);
}

/// Rearranges `panel.rows` into `panel.codes`: transposes 8 rows × 8 fours at a time; gives every group a min.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn interleave(_: Avx2, panel: &mut Panel, len: usize) {
    let lowest = panel.range.0;
    give_mins(panel, len);
    let rows: &[i8; TILE * CHUNK] = panel.rows.first_chunk().expect("a panel has room for a tile");
    assert!(len <= CHUNK && len.is_multiple_of(32) && panel.codes.len() >= TILE * CHUNK);
    let codes = panel.codes.as_mut_ptr();
    let lowest = _mm256_set1_epi8(lowest);
    for row in (0..TILE).step_by(8) {
        let base = half_offset(row / HALF) + row % HALF * 4;
        for k in (0..len).step_by(32) {
            // SAFETY: 32 codes from k < len <= CHUNK of rows row..row + 8; fours k / 4.. of the half that holds them.
            unsafe {
                let load = |i: usize| {
                    let codes = _mm256_loadu_si256(rows.as_ptr().add((row + i) * CHUNK + k).cast());
                    _mm256_sub_epi8(codes, lowest)
                };
                let fours = transpose([load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)]);
                for (i, four) in fours.into_iter().enumerate() {
                    _mm256_storeu_si256(codes.add(base + (k / 4 + i) * HALF * 4).cast(), four);
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
        // Up to MAX_CODE.
        match (panel.group == 32, i32::from(panel.range.1) - i32::from(panel.range.0)) {
            (true, ..=15) => gemm_of::<32, 8>(panel, activations, rows, c),
            (true, ..=31) => gemm_of::<32, 4>(panel, activations, rows, c),
            (true, _) => gemm_of::<32, 2>(panel, activations, rows, c),
            (false, ..=31) => gemm_of::<16, 4>(panel, activations, rows, c),
            (false, _) => gemm_of::<16, 2>(panel, activations, rows, c),
        }
    }
}

/// # Safety
/// As [`gemm`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn gemm_of<const G: usize, const D: usize>(
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
            panel.ahead.ask(2 * (rows.end - row).div_ceil(4) - half); // of as many blocks as are left
            // SAFETY: rows row..row + left of activations and c, one half of the panel.
            unsafe {
                match left {
                    4 => block::<4, G, D>(panel, half, activations, row, c),
                    3 => block::<3, G, D>(panel, half, activations, row, c),
                    2 => block::<2, G, D>(panel, half, activations, row, c),
                    _ => block::<1, G, D>(panel, half, activations, row, c),
                }
            }
        }
        row += left;
    }
}

/// R rows × 16 columns, D products to a 16-bit sum. The floats in which they end stay in `c`, in the L1 cache.
///
/// # Safety
/// Rows `row..row + R` exist; the shapes are those that `Kernel::gemm` checks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block<const R: usize, const G: usize, const D: usize>(
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
        let mut w = panel.codes.as_ptr().add(half_offset(half));
        let mut scale = panel.scales.as_ptr().add(column);
        let mut min = panel.mins.as_ptr().add(column);
        let mut c = c.add(column);
        let mut a = activations.i8.codes.as_ptr().add(row * activations.cols + first);
        let sums = if G == 32 { activations.i8.sums.as_ptr() } else { activations.i8.half_sums.as_ptr() };
        let mut act_sums = sums.add(first / G * activations.stride + row);
        let mut act_scales = activations.i8.scales.as_ptr().add(first / 32 * activations.stride + row);
        let ones = _mm256_set1_epi16(1);
        for g in 0..groups {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            for part in 0..G / 4 / D {
                let mut narrow = [[_mm256_setzero_si256(); 2]; R];
                unroll!(D, i => {
                    let four = part * D + i;
                    let w0 = _mm256_load_si256(w.add(64 * four).cast());
                    let w1 = _mm256_load_si256(w.add(64 * four + 32).cast());
                    for r in 0..R {
                        let x = _mm256_set1_epi32(a.add(r * activations.cols + 4 * four).cast::<i32>().read_unaligned());
                        narrow[r][0] = pin(_mm256_add_epi16(narrow[r][0], _mm256_maddubs_epi16(w0, x)));
                        narrow[r][1] = pin(_mm256_add_epi16(narrow[r][1], _mm256_maddubs_epi16(w1, x)));
                    }
                });
                for r in 0..R {
                    for v in 0..2 {
                        acc[r][v] = _mm256_add_epi32(acc[r][v], _mm256_madd_epi16(narrow[r][v], ones));
                    }
                }
            }
            // What the compiler cannot follow it cannot keep in registers, which are all taken.
            c = hide(c);
            for r in 0..R {
                let act_scale = _mm256_set1_ps(*act_scales.add(r));
                let act_sum = _mm256_set1_ps(*act_sums.add(r));
                for v in 0..2 {
                    let value = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[r][v]), _mm256_load_ps(scale.add(8 * v)));
                    let value = _mm256_fmadd_ps(_mm256_load_ps(min.add(8 * v)), act_sum, value);
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
