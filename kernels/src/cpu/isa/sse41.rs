//! SSE4.1: 128-bit vectors, Penryn (2008) and newer; the Atoms, Celerons and Pentiums that have no AVX.
//!
//! The two integer products are those of [`avx2`](super::avx2), half as wide: `pmaddubsw` for weights of at most six bits,
//! `pmaddwd` for eight bits and high precision. Instructions overwrite an operand here, so each product costs a copy besides.
//!
//! Panel layout: eight streams of four weight rows; in a stream, what a lane takes of the four rows side by side:
//! `[8][len / 4][4][4]` bytes, or `[8][len / 2][4][2]` 16-bit integers. A block reads two streams.

use super::kernel::{Kernel, kernel, row_blocks};
use super::tier::{Kernels, tier};
use super::token::Token;
use crate::backend::Precision;
use crate::cpu::activations::{Activations, Codes};
use crate::cpu::panel::{CHUNK, Panel, TILE};
use crate::cpu::simd::{Simd, instructions};
use crate::formats::{Block, Format, with_block};
use std::arch::x86_64::*;
use std::ops::Range;

/// Proof of SSE4.1 and SSSE3.
#[derive(Clone, Copy)]
pub(crate) struct Sse41(());

impl Token for Sse41 {
    const NAME: &'static str = "sse41";

    fn detect() -> Option<Self> {
        (is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")).then_some(Self(()))
    }
}

impl Simd for Sse41 {
    type F = __m128;
    const LANES: usize = 4;
    const ROWS: usize = 4;

    instructions! {
        fn splat(self, x: f32) -> Self::F { _mm_set1_ps(x) }
        fn add(self, a: Self::F, b: Self::F) -> Self::F { _mm_add_ps(a, b) }
        fn sub(self, a: Self::F, b: Self::F) -> Self::F { _mm_sub_ps(a, b) }
        fn mul(self, a: Self::F, b: Self::F) -> Self::F { _mm_mul_ps(a, b) }
        fn div(self, a: Self::F, b: Self::F) -> Self::F { _mm_div_ps(a, b) }
        fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F { _mm_add_ps(_mm_mul_ps(a, b), c) }
        fn max(self, a: Self::F, b: Self::F) -> Self::F { _mm_max_ps(a, b) }
        fn min(self, a: Self::F, b: Self::F) -> Self::F { _mm_min_ps(a, b) }
        fn abs(self, a: Self::F) -> Self::F { _mm_andnot_ps(_mm_set1_ps(-0.0), a) }
        fn round(self, a: Self::F) -> Self::F { _mm_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        fn shift_to_exponent(self, a: Self::F) -> Self::F { _mm_castsi128_ps(_mm_slli_epi32::<23>(_mm_castps_si128(a))) }
        fn sum(self, a: Self::F) -> f32 {
            let x = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
        fn max_lane(self, a: Self::F) -> f32 {
            let x = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe { _mm_storeu_ps(p, x) }
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe {
            let x = _mm_cvtps_epi32(x);
            let x = _mm_packs_epi32(x, x);
            p.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(_mm_packs_epi16(x, x)));
        }
    }

    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, x: Self::F) {
        // SAFETY: `self` is the proof of the instructions; the caller's promise.
        unsafe {
            let x = _mm_cvtps_epi32(x);
            _mm_storel_epi64(p.cast(), _mm_packs_epi32(x, x));
        }
    }
}

/// Columns of a stream.
const LANES: usize = 4;
/// Rows of a block, at most.
const ROWS: usize = 4;
/// The largest unsigned code of weights that `pmaddubsw` takes.
const MAX_CODE: i32 = 63;

/// Transposes 4 × 4 words of 32 bits.
#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn transpose([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
    let (ab0, ab1) = (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    let (cd0, cd1) = (_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
    [
        _mm_unpacklo_epi64(ab0, cd0),
        _mm_unpackhi_epi64(ab0, cd0),
        _mm_unpacklo_epi64(ab1, cd1),
        _mm_unpackhi_epi64(ab1, cd1),
    ]
}

/// Takes codes to streams, unsigned: less the lowest of the format, which every group gets back as a min.
#[target_feature(enable = "sse4.1,ssse3")]
fn interleave_i8(_: Sse41, panel: &mut Panel, len: usize) {
    let lowest = panel.range.0;
    if !panel.has_min {
        let used = len / panel.group * TILE;
        let pairs = panel.mins[..used].iter_mut().zip(&panel.scales[..used]);
        pairs.for_each(|(min, scale)| *min = scale * f32::from(lowest));
    }
    let lowest = _mm_set1_epi8(lowest);
    interleave(panel, len, |to, k, codes| {
        let squares = transpose(codes.map(|codes| _mm_sub_epi8(codes, lowest)));
        // SAFETY: fours k / 4.. of a stream, which has room for those of CHUNK values.
        unsafe { (0..4).for_each(|i| _mm_storeu_si128(to.add((k / 4 + i) * 16).cast(), squares[i])) }
    });
}

/// Takes codes to streams as 16-bit integers; every group gets a min, if of zero.
#[target_feature(enable = "sse4.1,ssse3")]
fn interleave_i16(_: Sse41, panel: &mut Panel, len: usize) {
    if !panel.has_min {
        panel.mins.fill(0.0);
    }
    interleave(panel, len, |to, k, codes| {
        let halves = [
            transpose(codes.map(|x| _mm_cvtepi8_epi16(x))),
            transpose(codes.map(|x| _mm_cvtepi8_epi16(_mm_srli_si128::<8>(x)))),
        ];
        // SAFETY: pairs k / 2.. of a stream, which has room for those of CHUNK values.
        unsafe { (0..8).for_each(|i| _mm_storeu_si128(to.add((k / 2 + i) * 16).cast(), halves[i / 4][i % 4])) }
    });
}

/// Calls `store(stream, k, codes)` for 16 codes from value k on of each four rows.
#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn interleave(panel: &mut Panel, len: usize, store: impl Fn(*mut u8, usize, [__m128i; 4])) {
    let rows: &[i8; TILE * CHUNK] = panel.rows.first_chunk().expect("a panel has room for a tile");
    assert!(len <= CHUNK && len.is_multiple_of(16) && panel.codes.len() >= 2 * TILE * CHUNK);
    for row in (0..TILE).step_by(LANES) {
        let to = panel.codes[row * CHUNK * 2..].as_mut_ptr();
        for k in (0..len).step_by(16) {
            // SAFETY: 16 codes from k < len <= CHUNK of four rows.
            let codes =
                unsafe { std::array::from_fn(|i| _mm_loadu_si128(rows.as_ptr().add((row + i) * CHUNK + k).cast())) };
            store(to, k, codes);
        }
    }
}

/// Sums of a group: R rows × two streams.
type Accumulators<const R: usize> = [[__m128i; 2]; R];

/// Sums of products of a group of G values in 8-bit codes, of which D are added in 16 bits.
///
/// # Safety
/// `w` are two streams and `a` is the first of R rows, `stride` codes apart, all from the group's first value on.
#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
unsafe fn accumulate_i8<const R: usize, const G: usize, const D: usize>(
    w: [*const u8; 2],
    a: *const i8,
    stride: usize,
) -> Accumulators<R> {
    let mut acc = [[_mm_setzero_si128(); 2]; R];
    for part in 0..G / 4 / D {
        let mut narrow = [[_mm_setzero_si128(); 2]; R];
        for i in 0..D {
            let four = part * D + i;
            for r in 0..R {
                // SAFETY: the caller's promise.
                unsafe {
                    let x = _mm_set1_epi32(a.add(r * stride + 4 * four).cast::<i32>().read_unaligned());
                    for v in 0..2 {
                        let w = _mm_load_si128(w[v].add(16 * four).cast());
                        narrow[r][v] = _mm_add_epi16(narrow[r][v], _mm_maddubs_epi16(w, x));
                    }
                }
            }
        }
        for r in 0..R {
            for v in 0..2 {
                acc[r][v] = _mm_add_epi32(acc[r][v], _mm_madd_epi16(narrow[r][v], _mm_set1_epi16(1)));
            }
        }
    }
    acc
}

/// Sums of products of a group of G values in 16-bit codes. Exact: 32 · 128 · 32639 < 2^27.
///
/// # Safety
/// As [`accumulate_i8`].
#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
unsafe fn accumulate_i16<const R: usize, const G: usize>(
    w: [*const u8; 2],
    a: *const i16,
    stride: usize,
) -> Accumulators<R> {
    let mut acc = [[_mm_setzero_si128(); 2]; R];
    for pair in 0..G / 2 {
        for r in 0..R {
            // SAFETY: the caller's promise.
            unsafe {
                let x = _mm_set1_epi32(a.add(r * stride + 2 * pair).cast::<i32>().read_unaligned());
                for v in 0..2 {
                    let w = _mm_load_si128(w[v].add(16 * pair).cast());
                    acc[r][v] = _mm_add_epi32(acc[r][v], _mm_madd_epi16(w, x));
                }
            }
        }
    }
    acc
}

/// `c[row][n] += activations · panel`, by what `$accumulate` makes of a block's groups, whose streams take so many bytes a value.
macro_rules! gemm {
    ($name:ident, $codes:ident, $bytes:literal, $accumulate:ident, <$($d:ident)?>) => {
        /// R rows × two streams. The floats in which sums end stay in `c`, in the L1 cache.
        ///
        /// # Safety
        /// Rows `row..row + R` and columns `column..column + 8` exist; the shapes are those that `Kernel::gemm` checks.
        #[inline]
        #[target_feature(enable = "sse4.1,ssse3")]
        unsafe fn $name<const R: usize, const G: usize $(, const $d: usize)?>(
            panel: &Panel,
            column: usize,
            activations: &Activations,
            row: usize,
            c: *mut f32,
        ) {
            let Panel { first, len, .. } = *panel;
            let Codes { codes, scales, sums, half_sums } = &activations.$codes;
            let sums = if G == 32 { sums } else { half_sums };
            // SAFETY: offsets of existing rows, of the panel's groups, and of two of its streams.
            unsafe {
                let w = [column, column + LANES].map(|column| panel.codes.as_ptr().add(column * CHUNK * 2));
                let a = codes.as_ptr().add(row * activations.cols + first);
                for g in 0..len / G {
                    let acc = $accumulate::<R, G $(, $d)?>(
                        w.map(|w| w.add(g * G * LANES * $bytes)),
                        a.add(g * G),
                        activations.cols,
                    );
                    let act_sums = sums.as_ptr().add((first / G + g) * activations.stride + row);
                    let act_scales = scales.as_ptr().add((first + g * G) / 32 * activations.stride + row);
                    for r in 0..R {
                        let (act_scale, act_sum) = (_mm_set1_ps(*act_scales.add(r)), _mm_set1_ps(*act_sums.add(r)));
                        for v in 0..2 {
                            let n = g * TILE + column + LANES * v;
                            let value = _mm_mul_ps(_mm_cvtepi32_ps(acc[r][v]), _mm_load_ps(panel.scales.as_ptr().add(n)));
                            let min = _mm_mul_ps(_mm_load_ps(panel.mins.as_ptr().add(n)), act_sum);
                            let c = c.add(r * TILE + column + LANES * v);
                            _mm_store_ps(c, _mm_add_ps(_mm_load_ps(c), _mm_mul_ps(_mm_add_ps(value, min), act_scale)));
                        }
                    }
                }
            }
        }
    };
}
gemm!(block_i8, i8, 1, accumulate_i8, <D>);
gemm!(block_i16, i16, 2, accumulate_i16, <>);

/// Runs `$block` with its number of rows, and `$more` constants, for all blocks of rows and pairs of streams.
macro_rules! blocks {
    ($block:ident <$($more:literal),*>, $panel:ident, $activations:ident, $rows:ident, $c:ident) => {
        for (row, size) in row_blocks($rows.clone(), ROWS) {
            let c = $c[(row - $rows.start) * TILE..].as_mut_ptr();
            for column in (0..TILE).step_by(2 * LANES) {
                // SAFETY: rows row..row + size of activations and c, two streams.
                unsafe {
                    match size {
                        4 => $block::<4, $($more),*>($panel, column, $activations, row, c),
                        3 => $block::<3, $($more),*>($panel, column, $activations, row, c),
                        2 => $block::<2, $($more),*>($panel, column, $activations, row, c),
                        _ => $block::<1, $($more),*>($panel, column, $activations, row, c),
                    }
                }
            }
        }
    };
}

/// See `Kernel::gemm`. A sum of D products of unsigned codes up to 15, 31 or 63 fits 16 bits, as in `avx2`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[target_feature(enable = "sse4.1,ssse3")]
unsafe fn gemm_i8(_: Sse41, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
    match (panel.group == 32, i32::from(panel.range.1) - i32::from(panel.range.0)) {
        (true, ..=15) => blocks!(block_i8<32, 8>, panel, activations, rows, c),
        (true, ..=31) => blocks!(block_i8<32, 4>, panel, activations, rows, c),
        (true, _) => blocks!(block_i8<32, 2>, panel, activations, rows, c),
        (false, ..=31) => blocks!(block_i8<16, 4>, panel, activations, rows, c),
        (false, _) => blocks!(block_i8<16, 2>, panel, activations, rows, c),
    }
}

/// See `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[target_feature(enable = "sse4.1,ssse3")]
unsafe fn gemm_i16(_: Sse41, panel: &Panel, activations: &Activations, rows: Range<usize>, c: &mut [f32]) {
    if panel.group == 32 {
        blocks!(block_i16<32>, panel, activations, rows, c)
    } else {
        blocks!(block_i16<16>, panel, activations, rows, c)
    }
}

kernel!(fn i8_kernel, Sse41, i8, #[target_feature(enable = "sse4.1,ssse3")], interleave_i8, gemm_i8);
kernel!(fn i16_kernel, Sse41, i16, #[target_feature(enable = "sse4.1,ssse3")], interleave_i16, gemm_i16);

impl Kernels for Sse41 {
    fn kernel(self, format: Format, precision: Precision) -> Option<Kernel> {
        with_block!(
            format,
            B => {
                let narrow = i32::from(B::CODES.1) - i32::from(B::CODES.0) <= MAX_CODE;
                let i8 = narrow && precision == Precision::Standard;
                Some(if i8 { i8_kernel::<B>(self) } else { i16_kernel::<B>(self) })
            },
            float => None,
        )
    }
}

tier!(Sse41, |token| token, #[target_feature(enable = "sse4.1,ssse3")]);
