//! AVX-512 with VNNI: 512-bit vectors, Ice Lake, Zen 4 and newer.
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to each 32-bit lane, without saturation. Weights are
//! its unsigned operand, activations the signed one. Weights with a min have unsigned codes (0 ..= 31) already. Signed
//! codes get 128 added; the surplus, 128 · Σ activation codes, is what `Codes::biases` holds with its sign turned: an
//! accumulator starts from there instead of from zero, at no cost.
//!
//! High precision takes `vpdpwssd` instead, two 16-bit products to a lane at half the speed, without any of that.
//!
//! Panel layout: for every lane of values, the lanes of the 32 rows side by side: `[len / 4][32][4]` bytes or
//! `[len / 2][32][2]` words. Sums of a group are exact: 32 · 255 · 127 < 2^21, 32 · 128 · 32767 < 2^27.

use crate::backend::Precision;
use crate::cpu::acts::Codes;
use crate::cpu::panel::CHUNK;
use crate::cpu::simd::Simd;
use std::arch::x86_64::*;
use std::ops::Range;

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

/// A dot product of small integers, in each 32-bit lane.
trait Dot {
    /// Values per lane.
    const PER_LANE: usize;
    /// The codes of `acts`, and where sums start if not from zero.
    fn codes(acts: &Acts) -> *const i32;
    fn groups(acts: &Acts, group: usize) -> Groups;
    /// `acc + weights · activations`. SAFETY contract: the CPU has the tier's instructions.
    unsafe fn dot(acc: __m512i, weights: __m512i, activations: __m512i) -> __m512i;
}

/// What activations have for each group: [groups × stride].
struct Groups {
    scales: *const f32,
    sums: *const f32,
    /// Where sums of signed codes start; null: from zero.
    biases: *const i32,
}

fn groups_of<C>(codes: &Codes<C>, group: usize) -> Groups {
    let (sums, biases) =
        if group == 32 { (&codes.sums, &codes.biases) } else { (&codes.half_sums, &codes.half_biases) };
    let biases = if biases.is_empty() { std::ptr::null() } else { biases.as_ptr() };
    Groups { scales: codes.scales.as_ptr(), sums: sums.as_ptr(), biases }
}

/// 8-bit activations, `vpdpbusd`.
struct Bytes;

impl Dot for Bytes {
    const PER_LANE: usize = 4;
    #[inline(always)]
    fn codes(acts: &Acts) -> *const i32 {
        acts.bytes.codes.as_ptr().cast()
    }
    #[inline(always)]
    fn groups(acts: &Acts, group: usize) -> Groups {
        groups_of(&acts.bytes, group)
    }
    #[inline(always)]
    unsafe fn dot(acc: __m512i, weights: __m512i, activations: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_dpbusd_epi32(acc, weights, activations) }
    }
}

/// 16-bit activations, `vpdpwssd`.
struct Words;

impl Dot for Words {
    const PER_LANE: usize = 2;
    #[inline(always)]
    fn codes(acts: &Acts) -> *const i32 {
        acts.words.codes.as_ptr().cast()
    }
    #[inline(always)]
    fn groups(acts: &Acts, group: usize) -> Groups {
        groups_of(&acts.words, group)
    }
    #[inline(always)]
    unsafe fn dot(acc: __m512i, weights: __m512i, activations: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_dpwssd_epi32(acc, weights, activations) }
    }
}

/// Rearranges `panel.rows` into `panel.codes`, four bytes a lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn interleave_bytes(panel: &mut Panel, len: usize) {
    let offset = _mm512_set1_epi8(if panel.has_min { 0 } else { -128 });
    // SAFETY: 64 codes of a row are readable, by the promise of `interleave`.
    interleave::<Bytes>(panel, len, |p| unsafe { _mm512_xor_si512(_mm512_loadu_si512(p.cast()), offset) });
}

/// Rearranges `panel.rows` into `panel.codes`, two 16-bit words a lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn interleave_words(panel: &mut Panel, len: usize) {
    // SAFETY: 32 codes of a row are readable, by the promise of `interleave`.
    interleave::<Words>(panel, len, |p| unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(p.cast())) });
}

/// Transposes 16 rows × 16 lanes at a time; `load` makes lanes of the 16 · PER_LANE codes to which it is given a pointer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn interleave<D: Dot>(panel: &mut Panel, len: usize, load: impl Fn(*const i8) -> __m512i) {
    let rows: &[i8; TILE * CHUNK] = panel.rows.first_chunk().expect("a panel has room for a tile");
    assert!(len <= CHUNK && panel.codes.len() >= TILE * CHUNK * 4 / D::PER_LANE);
    let codes = panel.codes.as_mut_ptr();
    for row in (0..TILE).step_by(16) {
        for k in (0..len).step_by(16 * D::PER_LANE) {
            // SAFETY: codes from k on of rows row..row + 16, as CHUNK is a multiple of 64 (past `len` they are left over
            // from an earlier panel and never used); lanes k / PER_LANE.. of those rows, inside of codes.
            unsafe {
                let lanes = transpose(std::array::from_fn(|i| load(rows.as_ptr().add((row + i) * CHUNK + k))));
                for (i, lane) in lanes.into_iter().enumerate() {
                    _mm512_storeu_si512(codes.add(((k / D::PER_LANE + i) * TILE + row) * 4).cast(), lane);
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
unsafe fn gemm<D: Dot>(panel: &Panel, acts: &Acts, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe {
        match (panel.group, panel.has_min) {
            (32, false) => gemm_of::<D, 32, false>(panel, acts, rows, c),
            (32, true) => gemm_of::<D, 32, true>(panel, acts, rows, c),
            (16, false) => gemm_of::<D, 16, false>(panel, acts, rows, c),
            (16, true) => gemm_of::<D, 16, true>(panel, acts, rows, c),
            (group, _) => unreachable!("groups of {group}"),
        }
    }
}

/// # Safety
/// As [`gemm`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn gemm_of<D: Dot, const G: usize, const MIN: bool>(
    panel: &Panel,
    acts: &Acts,
    rows: Range<usize>,
    c: &mut [f32],
) {
    let mut row = rows.start;
    while row < rows.end {
        let c = c[(row - rows.start) * TILE..].as_mut_ptr();
        let left = (rows.end - row).min(6);
        // SAFETY: rows row..row + left of acts and c.
        unsafe {
            match left {
                6 => block::<D, 6, G, MIN>(panel, acts, row, c),
                5 => block::<D, 5, G, MIN>(panel, acts, row, c),
                4 => block::<D, 4, G, MIN>(panel, acts, row, c),
                3 => block::<D, 3, G, MIN>(panel, acts, row, c),
                2 => block::<D, 2, G, MIN>(panel, acts, row, c),
                _ => block::<D, 1, G, MIN>(panel, acts, row, c),
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
unsafe fn block<D: Dot, const R: usize, const G: usize, const MIN: bool>(
    panel: &Panel,
    acts: &Acts,
    row: usize,
    c: *mut f32,
) {
    let (first, groups) = (panel.first, panel.len / G);
    // SAFETY: offsets of existing rows, of the panel's groups, and inside the panel.
    unsafe {
        let mut w = panel.codes.as_ptr();
        let per_row = acts.cols / D::PER_LANE;
        let a = D::codes(acts).add(row * per_row + first / D::PER_LANE);
        let Groups { scales, sums, biases } = D::groups(acts, G);
        let scales = scales.add(first / 32 * acts.stride + row);
        let offset = first / G * acts.stride + row;
        let sums = sums.add(offset);

        let mut out = [[_mm512_setzero_ps(); 2]; R];
        for r in 0..R {
            for v in 0..2 {
                out[r][v] = _mm512_loadu_ps(c.add(r * TILE + 16 * v));
            }
        }
        for g in 0..groups {
            let mut acc = [[_mm512_setzero_si512(); 2]; R];
            if !MIN && D::PER_LANE == 4 {
                for r in 0..R {
                    acc[r] = [_mm512_set1_epi32(*biases.add(offset + g * acts.stride + r)); 2];
                }
            }
            for lane in 0..G / D::PER_LANE {
                let w0 = _mm512_load_si512(w.cast());
                let w1 = _mm512_load_si512(w.add(64).cast());
                w = w.add(128);
                for r in 0..R {
                    let x = _mm512_set1_epi32(*a.add(r * per_row + g * G / D::PER_LANE + lane));
                    acc[r][0] = D::dot(acc[r][0], w0, x);
                    acc[r][1] = D::dot(acc[r][1], w1, x);
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

/// Standard precision.
static BYTES: super::Integer = super::integer!(bytes, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")], interleave_bytes, gemm::<Bytes>);
/// High precision.
static WORDS: super::Integer = super::integer!(words, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")], interleave_words, gemm::<Words>);

super::tier!("avx512vnni", detect, Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")], |_, precision| {
    Some(if precision == Precision::Standard { &BYTES } else { &WORDS })
});
