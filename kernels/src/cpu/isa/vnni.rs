//! Products by `vpdpbusd` and `vpdpwssd`, for vectors of either width: AVX-VNNI (256 bits) and AVX-512 VNNI (512 bits).
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to each 32-bit lane, without saturation. Weights are
//! its unsigned operand, activations the signed one. Weights with a min have unsigned codes (0 ..= 31) already. Signed
//! codes get 128 added; the surplus, 128 · Σ activation codes, is what `Codes::biases` holds with its sign turned: an
//! accumulator starts from there, at no cost.
//!
//! Multipliers, of integers and floats alike, limit the speed: besides the products of a group, each of its sums costs a
//! float instruction or two to scale it and one to add it. A conversion would be one more. So sums of bytes start at the
//! bits of [`MAGIC`] and end as the bits of the float MAGIC + n. The fused `scale · (MAGIC + n) − scale · MAGIC` rounds
//! but once, to `scale · n`: its second product is exact, as scales have at most 22 significant bits (see `Block`).
//!
//! High precision takes `vpdpwssd` instead, two 16-bit products to a lane at half the speed, without any of that.
//!
//! Panel layout: for every lane of values, the lanes of the 32 rows side by side: `[len / 4][32][4]` bytes or
//! `[len / 2][32][2]` words. Sums of a group are exact: 32 · 255 · 127 < 2^21, 32 · 128 · 32767 < 2^27.

use crate::cpu::acts::{Acts, Codes, MAGIC};
use crate::cpu::panel::{CHUNK, Panel, TILE};
use crate::cpu::simd::Simd;
use std::ops::Range;

/// Vectors of 32-bit lanes of one instruction set. As with [`Simd`], a value is the proof that the CPU has it.
#[allow(clippy::missing_safety_doc)]
pub(super) trait Vnni: Copy {
    /// Its vectors of floats, with as many lanes.
    type S: Simd;
    /// Its vectors of integers.
    type I: Copy;

    fn simd(self) -> Self::S;
    fn splat(self, x: i32) -> Self::I;
    /// SAFETY contract: `p` is readable for 4 · LANES bytes.
    unsafe fn load(self, p: *const u8) -> Self::I;
    /// Bytes widened to words. SAFETY contract: `p` is readable for 2 · LANES bytes.
    unsafe fn load_widened(self, p: *const i8) -> Self::I;
    /// SAFETY contract: `p` is writable for 4 · LANES bytes.
    unsafe fn store(self, p: *mut u8, x: Self::I);
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// `acc + weights · activations`, four unsigned bytes by signed bytes a lane.
    fn dot_bytes(self, acc: Self::I, weights: Self::I, activations: Self::I) -> Self::I;
    /// `acc + weights · activations`, two words a lane.
    fn dot_words(self, acc: Self::I, weights: Self::I, activations: Self::I) -> Self::I;
    /// The nearest floats.
    fn to_float(self, x: Self::I) -> <Self::S as Simd>::F;
    /// The floats of the same bits.
    fn as_float(self, x: Self::I) -> <Self::S as Simd>::F;
    /// Transposes LANES vectors.
    fn transpose(self, square: &mut [Self::I]);
}

/// What a product does with small integers of one size.
pub(super) trait Dot {
    /// Values per lane.
    const PER_LANE: usize;
    fn codes(acts: &Acts) -> *const i32;
    fn groups(acts: &Acts, group: usize) -> Groups;
    /// Codes of a row, before they are transposed. SAFETY contract: `p` is readable for LANES · PER_LANE codes.
    unsafe fn load<V: Vnni>(v: V, p: *const i8, has_min: bool) -> V::I;
    fn dot<V: Vnni>(v: V, acc: V::I, weights: V::I, activations: V::I) -> V::I;
    /// Where the sum of a group starts that stands at `at` in `groups`. SAFETY contract: one does.
    unsafe fn start<V: Vnni>(v: V, groups: &Groups, at: usize, has_min: bool) -> V::I;
    /// What makes `scaled` of a scale, once for many sums.
    fn offset<V: Vnni>(v: V, scale: F<V>) -> F<V>;
    /// scale · sum.
    fn scaled<V: Vnni>(v: V, sum: V::I, scale: F<V>, offset: F<V>) -> F<V>;
}

type F<V> = <<V as Vnni>::S as Simd>::F;

/// What activations have for each group: [groups × stride].
pub(super) struct Groups {
    scales: *const f32,
    sums: *const f32,
    /// Empty for words.
    biases: *const i32,
}

#[inline(always)]
fn groups_of<C>(codes: &Codes<C>, group: usize) -> Groups {
    let (sums, biases) =
        if group == 32 { (&codes.sums, &codes.biases) } else { (&codes.half_sums, &codes.half_biases) };
    Groups { scales: codes.scales.as_ptr(), sums: sums.as_ptr(), biases: biases.as_ptr() }
}

/// 8-bit activations, `vpdpbusd`.
pub(super) struct Bytes;

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
    unsafe fn load<V: Vnni>(v: V, p: *const i8, has_min: bool) -> V::I {
        // SAFETY: the caller's promise.
        let codes = unsafe { v.load(p.cast()) };
        v.xor(codes, v.splat(if has_min { 0 } else { 0x8080_8080u32 as i32 }))
    }
    #[inline(always)]
    fn dot<V: Vnni>(v: V, acc: V::I, weights: V::I, activations: V::I) -> V::I {
        v.dot_bytes(acc, weights, activations)
    }
    #[inline(always)]
    unsafe fn start<V: Vnni>(v: V, groups: &Groups, at: usize, has_min: bool) -> V::I {
        // SAFETY: the caller's promise; bytes have biases.
        v.splat(if has_min { MAGIC.to_bits() as i32 } else { unsafe { *groups.biases.add(at) } })
    }
    #[inline(always)]
    fn offset<V: Vnni>(v: V, scale: F<V>) -> F<V> {
        v.simd().mul(scale, v.simd().splat(-MAGIC))
    }
    #[inline(always)]
    fn scaled<V: Vnni>(v: V, sum: V::I, scale: F<V>, offset: F<V>) -> F<V> {
        v.simd().fma(v.as_float(sum), scale, offset)
    }
}

/// 16-bit activations, `vpdpwssd`.
pub(super) struct Words;

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
    unsafe fn load<V: Vnni>(v: V, p: *const i8, _has_min: bool) -> V::I {
        // SAFETY: the caller's promise.
        unsafe { v.load_widened(p) }
    }
    #[inline(always)]
    fn dot<V: Vnni>(v: V, acc: V::I, weights: V::I, activations: V::I) -> V::I {
        v.dot_words(acc, weights, activations)
    }
    #[inline(always)]
    unsafe fn start<V: Vnni>(v: V, _groups: &Groups, _at: usize, _has_min: bool) -> V::I {
        v.splat(0)
    }
    #[inline(always)]
    fn offset<V: Vnni>(_v: V, scale: F<V>) -> F<V> {
        scale
    }
    #[inline(always)]
    fn scaled<V: Vnni>(v: V, sum: V::I, scale: F<V>, _offset: F<V>) -> F<V> {
        v.simd().mul(v.to_float(sum), scale)
    }
}

/// Rearranges `panel.rows` into `panel.codes`: transposes LANES rows × LANES lanes at a time.
#[inline(always)]
pub(super) fn interleave<V: Vnni, D: Dot>(v: V, panel: &mut Panel, len: usize) {
    let lanes = V::S::LANES;
    let rows: &[i8; TILE * CHUNK] = panel.rows.first_chunk().expect("a panel has room for a tile");
    assert!(len <= CHUNK && panel.codes.len() >= TILE * CHUNK * 4 / D::PER_LANE);
    let codes = panel.codes.as_mut_ptr();
    for row in (0..TILE).step_by(lanes) {
        for k in (0..len).step_by(lanes * D::PER_LANE) {
            // SAFETY: codes from k on of rows row..row + lanes, as CHUNK is a multiple of 64 (past `len` they are left
            // over from an earlier panel and never used); lanes k / PER_LANE.. of those rows, inside of codes.
            unsafe {
                let mut square = [v.splat(0); 16];
                for i in 0..lanes {
                    square[i] = D::load(v, rows.as_ptr().add((row + i) * CHUNK + k), panel.has_min);
                }
                v.transpose(&mut square[..lanes]);
                for i in 0..lanes {
                    v.store(codes.add(((k / D::PER_LANE + i) * TILE + row) * 4), square[i]);
                }
            }
        }
    }
}

/// `c[row][n] += activations · panel`; see `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[inline(always)]
pub(super) unsafe fn gemm<V: Vnni, D: Dot>(v: V, panel: &Panel, acts: &Acts, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe {
        if panel.has_min {
            gemm_of::<V, D, true>(v, panel, acts, rows, c)
        } else {
            gemm_of::<V, D, false>(v, panel, acts, rows, c)
        }
    }
}

/// Rows of a block, at most: with two vectors of columns each, the sums fill 12 of the 16 registers of AVX.
const ROWS: usize = 6;

/// # Safety
/// As [`gemm`].
#[inline(always)]
unsafe fn gemm_of<V: Vnni, D: Dot, const MIN: bool>(
    v: V,
    panel: &Panel,
    acts: &Acts,
    rows: Range<usize>,
    c: &mut [f32],
) {
    let mut row = rows.start;
    while row < rows.end {
        // As few blocks as there can be, of sizes as equal as they can be: 7 rows as 4 and 3, not as 6 and 1.
        let left = rows.end - row;
        let size = left.div_ceil(left.div_ceil(ROWS));
        let c = c[(row - rows.start) * TILE..].as_mut_ptr();
        for column in (0..TILE).step_by(2 * V::S::LANES) {
            // SAFETY: rows row..row + size of acts and c, two vectors of columns.
            unsafe {
                match size {
                    6 => block::<V, D, 6, MIN>(v, panel, column, acts, row, c),
                    5 => block::<V, D, 5, MIN>(v, panel, column, acts, row, c),
                    4 => block::<V, D, 4, MIN>(v, panel, column, acts, row, c),
                    3 => block::<V, D, 3, MIN>(v, panel, column, acts, row, c),
                    2 => block::<V, D, 2, MIN>(v, panel, column, acts, row, c),
                    _ => block::<V, D, 1, MIN>(v, panel, column, acts, row, c),
                }
            }
        }
        row += size;
    }
}

/// R rows × two vectors of columns. Sums of a group live in 2R registers; the floats they end in do too where there are 32
/// registers, and otherwise stay in the L1 cache.
///
/// # Safety
/// Rows `row..row + R` and columns `column..column + 2 · LANES` exist; the rest as [`gemm`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn block<V: Vnni, D: Dot, const R: usize, const MIN: bool>(
    v: V,
    panel: &Panel,
    column: usize,
    acts: &Acts,
    row: usize,
    c: *mut f32,
) {
    let (s, lanes) = (v.simd(), V::S::LANES);
    let Panel { first, len, .. } = *panel;
    // SAFETY: offsets of existing rows, of the panel's values, and inside the panel.
    unsafe {
        let mut w = panel.codes.as_ptr().add(4 * column);
        let c = c.add(column);
        let per_row = acts.cols / D::PER_LANE;
        let a = D::codes(acts).add(row * per_row + first / D::PER_LANE);
        let group = panel.group;
        let of_groups = D::groups(acts, group);
        let scales = of_groups.scales.add(first / 32 * acts.stride + row);
        let offset = first / group * acts.stride + row;
        for g in 0..len / group {
            let at = offset + g * acts.stride;
            let mut acc = [[v.splat(0); 2]; R];
            for r in 0..R {
                acc[r] = [D::start(v, &of_groups, at + r, MIN); 2];
            }
            for lane in 0..group / D::PER_LANE {
                let (w0, w1) = (v.load(w), v.load(w.add(4 * lanes)));
                w = w.add(4 * TILE);
                for r in 0..R {
                    let x = v.splat(*a.add(r * per_row + g * group / D::PER_LANE + lane));
                    acc[r][0] = D::dot(v, acc[r][0], w0, x);
                    acc[r][1] = D::dot(v, acc[r][1], w1, x);
                }
            }
            for half in 0..2 {
                let n = g * TILE + column + half * lanes;
                let scale = s.load(panel.scales.as_ptr().add(n));
                let scale_offset = D::offset(v, scale);
                let min = if MIN { s.load(panel.mins.as_ptr().add(n)) } else { scale };
                for r in 0..R {
                    let mut value = D::scaled(v, acc[r][half], scale, scale_offset);
                    if MIN {
                        value = s.fma(min, s.splat(*of_groups.sums.add(at + r)), value);
                    }
                    let act_scale = s.splat(*scales.add(g * group / 32 * acts.stride + r));
                    let c = c.add(r * TILE + half * lanes);
                    s.store(c, s.fma(value, act_scale, s.load(c)));
                }
            }
        }
    }
}

/// Defines `BYTES`, for standard precision, and `WORDS`, for high precision.
macro_rules! kernels {
    ($vnni:expr, #[$attribute:meta]) => {
static BYTES: super::Kernel = super::kernel!(bytes, #[$attribute], interleave_bytes, gemm_bytes);
static WORDS: super::Kernel = super::kernel!(words, #[$attribute], interleave_words, gemm_words);

        #[$attribute]
        fn interleave_bytes(panel: &mut Panel, len: usize) {
            vnni::interleave::<_, Bytes>($vnni, panel, len)
        }

        #[$attribute]
        fn interleave_words(panel: &mut Panel, len: usize) {
            vnni::interleave::<_, Words>($vnni, panel, len)
        }

        #[$attribute]
        unsafe fn gemm_bytes(panel: &Panel, acts: &Acts, rows: std::ops::Range<usize>, c: &mut [f32]) {
            // SAFETY: the caller's shapes.
            unsafe { vnni::gemm::<_, Bytes>($vnni, panel, acts, rows, c) }
        }

        #[$attribute]
        unsafe fn gemm_words(panel: &Panel, acts: &Acts, rows: std::ops::Range<usize>, c: &mut [f32]) {
            // SAFETY: the caller's shapes.
            unsafe { vnni::gemm::<_, Words>($vnni, panel, acts, rows, c) }
        }
    };
}
pub(super) use kernels;
