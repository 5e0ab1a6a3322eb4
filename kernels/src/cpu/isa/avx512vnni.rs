//! AVX-512 with VNNI: 512-bit vectors, Ice Lake, Zen 4 and newer.
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to each 32-bit lane, without saturation. Weights are
//! its unsigned operand, activations the signed one. Weights with a min have unsigned codes (0 ..= 31) already. Signed
//! codes get 128 added; the surplus, 128 · Σ activation codes, is what `Codes::biases` holds with its sign turned: an
//! accumulator starts from there instead of from zero, at no cost.
//!
//! Panel layout: for every four values, the fours of the 32 rows side by side: `[len / 4][32][4]` bytes.
//! Sums of a group: 32 · 255 · 127 < 2^21.

use crate::cpu::simd::Simd;
use std::arch::x86_64::*;

/// Proof of AVX-512 F, BW, DQ, VL and VNNI: made only inside the functions of `TIER`.
#[derive(Clone, Copy)]
struct Avx512;

fn detect() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
}

// Every method is inlined into a function of `TIER`, whose table exists for the caller only after `detect`.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type F = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2_int(self, n: Self::F) -> Self::F {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: Self::F) {
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x))) }
    }
    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, x: Self::F) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x))) }
    }
}

/// Rearranges `panel.rows` into `panel.codes`: transposes 16 rows × 16 fours at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn interleave(panel: &mut Panel, len: usize) {
    let rows: &[i8; TILE * CHUNK] = panel.rows.first_chunk().expect("a panel has room for a tile");
    assert!(len <= CHUNK && panel.codes.len() >= TILE * CHUNK);
    let codes = panel.codes.as_mut_ptr();
    let offset = _mm512_set1_epi8(if panel.has_min { 0 } else { -128 });
    for row in (0..TILE).step_by(16) {
        for k in (0..len).step_by(64) {
            // SAFETY: 64 codes from k <= CHUNK - 64 of rows row..row + 16 (past `len` they are left over from an
            // earlier panel and never used); fours k / 4.. of those rows, below TILE * CHUNK.
            unsafe {
                let fours = transpose(std::array::from_fn(|i| {
                    let codes = _mm512_loadu_si512(rows.as_ptr().add((row + i) * CHUNK + k).cast());
                    _mm512_xor_si512(codes, offset)
                }));
                for (i, four) in fours.into_iter().enumerate() {
                    _mm512_storeu_si512(codes.add(((k / 4 + i) * TILE + row) * 4).cast(), four);
                }
            }
        }
    }
}

/// Transposes 16 × 16 words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    // In each 128-bit quarter: rows 4i..4i + 4 of column j (and j + 4, 8, 12 in the other quarters).
    let mut fours = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        let (a, b, c, d) = (r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
        let (ab0, ab1) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd0, cd1) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        fours[4 * i] = _mm512_unpacklo_epi64(ab0, cd0);
        fours[4 * i + 1] = _mm512_unpackhi_epi64(ab0, cd0);
        fours[4 * i + 2] = _mm512_unpacklo_epi64(ab1, cd1);
        fours[4 * i + 3] = _mm512_unpackhi_epi64(ab1, cd1);
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

/// `c[row][n] += activations · panel`; see `Integer::gemm`.
///
/// # Safety
/// The shapes are those that `Integer::gemm` checks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn gemm_of<const G: usize, const MIN: bool>(
    panel: &Panel,
    acts: &Acts,
    first: usize,
    groups: usize,
    c: &mut [f32],
) {
    let mut row = 0;
    while row < acts.rows {
        let left = (acts.rows - row).min(6);
        // SAFETY: rows row..row + left of acts and c.
        unsafe {
            match left {
                6 => block::<6, G, MIN>(panel, acts, row, first, groups, c),
                5 => block::<5, G, MIN>(panel, acts, row, first, groups, c),
                4 => block::<4, G, MIN>(panel, acts, row, first, groups, c),
                3 => block::<3, G, MIN>(panel, acts, row, first, groups, c),
                2 => block::<2, G, MIN>(panel, acts, row, first, groups, c),
                _ => block::<1, G, MIN>(panel, acts, row, first, groups, c),
            }
        }
        row += left;
    }
}

/// R rows × 32 columns: 2R integer and 2R float accumulators in registers.
///
/// # Safety
/// Rows `row..row + R` exist; the shapes are those that `Integer::gemm` checks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn block<const R: usize, const G: usize, const MIN: bool>(
    panel: &Panel,
    acts: &Acts,
    row: usize,
    first: usize,
    groups: usize,
    c: &mut [f32],
) {
    // SAFETY: offsets of existing rows, of the `groups` groups from value `first` on, and inside the panel.
    unsafe {
        let mut w = panel.codes.as_ptr();
        let c = c.as_mut_ptr().add(row * TILE);
        let a = acts.bytes.codes.as_ptr().add(row * acts.cols + first);
        let (sums, biases) = if G == 32 {
            (acts.bytes.sums.as_ptr(), acts.bytes.biases.as_ptr())
        } else {
            (acts.bytes.half_sums.as_ptr(), acts.bytes.half_biases.as_ptr())
        };
        let (sums, biases) = (sums.add(first / G * acts.stride + row), biases.add(first / G * acts.stride + row));
        let scales = acts.bytes.scales.as_ptr().add(first / 32 * acts.stride + row);

        let mut out = [[_mm512_setzero_ps(); 2]; R];
        for r in 0..R {
            for v in 0..2 {
                out[r][v] = _mm512_loadu_ps(c.add(r * TILE + 16 * v));
            }
        }
        for g in 0..groups {
            let mut acc = [[_mm512_setzero_si512(); 2]; R];
            if !MIN {
                for r in 0..R {
                    acc[r] = [_mm512_set1_epi32(*biases.add(g * acts.stride + r)); 2];
                }
            }
            for four in 0..G / 4 {
                let w0 = _mm512_load_si512(w.cast());
                let w1 = _mm512_load_si512(w.add(64).cast());
                w = w.add(128);
                for r in 0..R {
                    let x = a.add(r * acts.cols + g * G + 4 * four).cast::<i32>().read_unaligned();
                    let x = _mm512_set1_epi32(x);
                    acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], w0, x);
                    acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], w1, x);
                }
            }
            for v in 0..2 {
                let n = g * TILE + 16 * v;
                let scale = _mm512_loadu_ps(panel.scales.as_ptr().add(n));
                let min = if MIN { _mm512_loadu_ps(panel.mins.as_ptr().add(n)) } else { _mm512_setzero_ps() };
                for r in 0..R {
                    let mut value = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r][v]), scale);
                    if MIN {
                        value = _mm512_fmadd_ps(min, _mm512_set1_ps(*sums.add(g * acts.stride + r)), value);
                    }
                    let act_scale = _mm512_set1_ps(*scales.add(g * G / 32 * acts.stride + r));
                    out[r][v] = _mm512_fmadd_ps(value, act_scale, out[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..2 {
                _mm512_storeu_ps(c.add(r * TILE + 16 * v), out[r][v]);
            }
        }
    }
}

use crate::cpu::panel::CHUNK;
static INTEGER: super::Integer = super::integer!(
    bytes,
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")],
    interleave,
    gemm
);

super::tier!(
    "avx512vnni",
    detect,
    Avx512,
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")],
    |_| Some(&INTEGER)
);
