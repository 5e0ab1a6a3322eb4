//! AVX2 and FMA: 256-bit vectors, Haswell (2013) and newer, Zen and newer.
//!
//! The integer product is `vpmaddwd` on 16-bit codes. `vpmaddubsw` does twice the work per instruction but saturates at
//! 16 bits when both codes use 8 (255 · 127 · 2 > 32767), so it fits 4-bit weights only; 16-bit activations moreover
//! cost no accuracy.
//!
//! Panel layout: two halves of 16 weight rows; in each, for every pair of values, the pairs of the 16 rows side by side:
//! `[half][len / 2][16][2]` of i16. A product then adds straight into the lane of its row. Sums of a group are exact:
//! 32 · 128 · 32767 < 2^27.

use crate::cpu::simd::Simd;
use std::arch::x86_64::*;

/// Proof of AVX2, FMA and F16C: made only inside the functions of `TIER`.
#[derive(Clone, Copy)]
struct Avx2;

fn detect() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

// Every method is inlined into a function of `TIER`, whose table exists for the caller only after `detect`.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type F = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        unsafe { _mm256_storeu_ps(p, x) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2_int(self, n: Self::F) -> Self::F {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: Self::F) {
        unsafe {
            let x = _mm256_cvtps_epi32(x);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(words, words));
        }
    }
    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, x: Self::F) {
        unsafe {
            let x = _mm256_cvtps_epi32(x);
            _mm_storeu_si128(p.cast(), _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x)));
        }
    }
}

/// Weight rows per half of a panel.
const HALF: usize = 16;

/// Offset of a half in the codes of a panel, in i16.
const fn half_offset(half: usize) -> usize {
    half * HALF * CHUNK
}

/// Rearranges `panel.rows` into `panel.codes`: transposes 8 rows × 8 pairs at a time.
#[target_feature(enable = "avx2,fma,f16c")]
fn interleave(panel: &mut Panel, len: usize) {
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

/// Transposes 8 × 8 words of 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn transpose(r: [__m256i; 8]) -> [__m256i; 8] {
    let two = |i: usize| (_mm256_unpacklo_epi32(r[i], r[i + 1]), _mm256_unpackhi_epi32(r[i], r[i + 1]));
    let ((a0, a1), (b0, b1), (c0, c1), (d0, d1)) = (two(0), two(2), two(4), two(6));
    let four = |a, b| (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let ((x0, x1), (x2, x3), (y0, y1), (y2, y3)) = (four(a0, b0), four(a1, b1), four(c0, d0), four(c1, d1));
    let low = |x, y| _mm256_permute2x128_si256::<0x20>(x, y);
    let high = |x, y| _mm256_permute2x128_si256::<0x31>(x, y);
    [low(x0, y0), low(x1, y1), low(x2, y2), low(x3, y3), high(x0, y0), high(x1, y1), high(x2, y2), high(x3, y3)]
}

/// `c[row][n] += activations · panel`; see `Isa::gemm`.
///
/// # Safety
/// The shapes are those that `Isa::gemm` checks.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn gemm(panel: &Panel, acts: &Acts, first: usize, len: usize, c: &mut [f32]) {
    let groups = len / panel.group;
    // SAFETY: the caller's shapes.
    unsafe {
        match (panel.group, panel.has_min) {
            (32, false) => gemm_of::<32, false>(panel, acts, first, groups, c),
            (32, true) => gemm_of::<32, true>(panel, acts, first, groups, c),
            (16, false) => gemm_of::<16, false>(panel, acts, first, groups, c),
            (16, true) => gemm_of::<16, true>(panel, acts, first, groups, c),
            (group, _) => unreachable!("groups of {group}"),
        }
    }
}

/// # Safety
/// As [`gemm`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn gemm_of<const G: usize, const MIN: bool>(
    panel: &Panel,
    acts: &Acts,
    first: usize,
    groups: usize,
    c: &mut [f32],
) {
    let mut row = 0;
    while row < acts.rows {
        let left = (acts.rows - row).min(4);
        for half in 0..2 {
            // SAFETY: rows row..row + left of acts and c, one half of the panel.
            unsafe {
                match left {
                    4 => block::<4, G, MIN>(panel, half, acts, row, first, groups, c),
                    3 => block::<3, G, MIN>(panel, half, acts, row, first, groups, c),
                    2 => block::<2, G, MIN>(panel, half, acts, row, first, groups, c),
                    _ => block::<1, G, MIN>(panel, half, acts, row, first, groups, c),
                }
            }
        }
        row += left;
    }
}

/// R rows × 16 columns. Sums of a group live in 2R registers; the floats they end in stay in `c`, in the L1 cache.
///
/// # Safety
/// Rows `row..row + R` exist; the shapes are those that `Isa::gemm` checks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block<const R: usize, const G: usize, const MIN: bool>(
    panel: &Panel,
    half: usize,
    acts: &Acts,
    row: usize,
    first: usize,
    groups: usize,
    c: &mut [f32],
) {
    // SAFETY: offsets of existing rows, of the `groups` groups from value `first` on, and of one half of the panel.
    unsafe {
        let mut w = panel.codes.as_i16().as_ptr().add(half_offset(half));
        let column = half * HALF;
        let c = c.as_mut_ptr().add(row * TILE + column);
        let a = acts.codes.as_i16().as_ptr().add(row * acts.cols + first);
        let at32 = |r: usize, g: usize| ((row + r) * acts.cols + first + g * G) / 32;
        let at16 = |r: usize, g: usize| ((row + r) * acts.cols + first + g * G) / 16;
        for g in 0..groups {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            for pair in 0..G / 2 {
                let w0 = _mm256_load_si256(w.cast());
                let w1 = _mm256_load_si256(w.add(16).cast());
                w = w.add(32);
                for r in 0..R {
                    let x = a.add(r * acts.cols + g * G + 2 * pair).cast::<i32>().read_unaligned();
                    let x = _mm256_set1_epi32(x);
                    acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(x, w0));
                    acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(x, w1));
                }
            }
            for v in 0..2 {
                let n = g * TILE + column + 8 * v;
                let scale = _mm256_loadu_ps(panel.scales.as_ptr().add(n));
                let min = if MIN { _mm256_loadu_ps(panel.mins.as_ptr().add(n)) } else { _mm256_setzero_ps() };
                for r in 0..R {
                    let mut value = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[r][v]), scale);
                    if MIN {
                        let sums = if G == 32 {
                            acts.sums.as_ptr().add(at32(r, g))
                        } else {
                            acts.half_sums.as_ptr().add(at16(r, g))
                        };
                        value = _mm256_fmadd_ps(min, _mm256_set1_ps(*sums), value);
                    }
                    let act_scale = _mm256_set1_ps(*acts.scales.as_ptr().add(at32(r, g)));
                    let c = c.add(r * TILE + 8 * v);
                    _mm256_storeu_ps(c, _mm256_fmadd_ps(value, act_scale, _mm256_loadu_ps(c)));
                }
            }
        }
    }
}

use crate::cpu::panel::CHUNK;
super::tier!(
    "avx2",
    detect,
    Avx2,
    #[target_feature(enable = "avx2,fma,f16c")],
    Some(super::integer!(Avx2, i16, #[target_feature(enable = "avx2,fma,f16c")], interleave, gemm))
);
