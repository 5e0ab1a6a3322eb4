//! Products by `vpdpbusd` and `vpdpwssd`, for vectors of either width: AVX-VNNI (256 bits) and AVX-512 VNNI (512 bits).
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to each 32-bit lane, without saturation. Weights are
//! its unsigned operand: signed codes get 128 added; the surplus, 128 · Σ activation codes, is what `Uniform::biases` holds with
//! its sign turned: a sum starts from there, at no cost.
//!
//! Multipliers, of integers and floats alike, limit the speed: besides the products of a group, each of its sums costs a
//! float instruction to scale it and one to add it, and with a min one more. So all weights become codes with one scale for each
//! 32 values and no min (`Panel::plan_requantization`); those of formats that have it so stay as they are.
//!
//! A conversion would be one instruction more. So sums start at the bits of [`MAGIC`] and end as the bits of the float
//! MAGIC + n, |n| <= 32 · 128 · 127 < 2^22. The fused `scale · (MAGIC + n) − scale · MAGIC` rounds but once, to `scale · n`:
//! its second product is exact, as scales have at most 22 significant bits, and finite, as they are small enough: both by the
//! contract of a `Block`, so no file has to be looked through for it.
//!
//! High precision takes `vpdpwssd` instead, two 16-bit products to a lane at half the speed, in the groups of the formats.
//!
//! Panel layout: for every lane of values, the lanes of the 32 rows side by side: `[len / 4][32][4]` bytes, one tile after
//! the other, or `[len / 2][32][2]` words. Sums of words are exact: 32 · 128 · 32767 < 2^27.

/// Runs `$tile!($operands, [rows])` for as many of six rows as there are.
macro_rules! by_rows {
    ($tile:ident, $operands:ident, $rows:expr, $a:tt $b:tt $c:tt $d:tt $e:tt $f:tt) => {
        match $rows {
            1 => $tile!($operands, [$a]),
            2 => $tile!($operands, [$a $b]),
            3 => $tile!($operands, [$a $b $c]),
            4 => $tile!($operands, [$a $b $c $d]),
            5 => $tile!($operands, [$a $b $c $d $e]),
            _ => $tile!($operands, [$a $b $c $d $e $f]),
        }
    };
}

/// 32 values of K, a group: `$products!(offset in weights, offset in activations, rows)` for each four.
macro_rules! group {
    ($products:ident, $rows:tt) => {
        concat!(
            $products!("0*128", "0", $rows),
            $products!("1*128", "4", $rows),
            $products!("2*128", "8", $rows),
            $products!("3*128", "12", $rows),
            $products!("4*128", "16", $rows),
            $products!("5*128", "20", $rows),
            $products!("6*128", "24", $rows),
            $products!("7*128", "28", $rows),
        )
    };
}

pub(super) mod bytes256;
pub(super) mod bytes512;

use super::{Sums, row_blocks};
use crate::cpu::acts::{Acts, Codes};
use crate::cpu::ops::quantize::GROUP;
use crate::cpu::panel::uniform::{Requantization, UNIFORM_SCALES, twice};
use crate::cpu::panel::{CHUNK, GROUPS, Panel, TILE};
use crate::cpu::simd::{DotWords, IntLanes, Simd};
use std::ops::Range;

/// Of each byte the sign bit: xor with it adds 128 to a signed byte.
const SIGNS: i32 = 0x8080_8080u32 as i32;

/// Rearranges `panel.rows` into part `tile` of `panel.codes`, as unsigned bytes; with `requantize` by way of
/// `panel.requantization`.
#[inline(always)]
pub(super) fn interleave_bytes<S: IntLanes>(s: S, panel: &mut Panel, tile: usize, len: usize, requantize: bool) {
    let Panel { rows, codes, requantization: Requantization { factors, offsets }, group, .. } = panel;
    let group = *group;
    assert!(group * GROUPS >= CHUNK && factors.len() == TILE * GROUPS && offsets.len() == TILE * GROUPS);
    let codes = &mut codes[tile * TILE * CHUNK..][..TILE * CHUNK];
    // SAFETY: `interleave` gives it places where 4 · LANES codes can be read.
    let load = |p| unsafe { s.xor(s.load_int(p), s.splat_int(SIGNS)) };
    interleave::<_, 4>(s, rows, codes, len, load, |k, row, four| {
        if !requantize {
            return four;
        }
        // SAFETY: LANES rows of the group of value k < CHUNK.
        let (factor, offset) = unsafe {
            let at = k / group * TILE + row;
            (s.load_int(factors.as_ptr().add(at)), s.load_int(offsets.as_ptr().add(at)))
        };
        let new = |codes| s.add_words(s.mul_words(codes, factor), offset);
        let (even, odd) = (new(s.and(four, s.splat_int(twice(0xff)))), new(s.upper_bytes(four)));
        s.or(s.upper_bytes(even), s.and(odd, s.splat_int(twice(-256))))
    })
}

/// Rearranges `panel.rows` into `panel.codes`, as words.
#[inline(always)]
pub(super) fn interleave_words<S: IntLanes>(s: S, panel: &mut Panel, len: usize) {
    // SAFETY: `interleave` gives it places where 2 · LANES codes can be read.
    let load = |p: *const i32| unsafe { s.load_widened(p.cast()) };
    interleave::<_, 2>(s, &panel.rows, &mut panel.codes, len, load, |_, _, pair| pair)
}

/// Takes codes of [TILE × CHUNK] bytes to `[len / N][TILE][N]`: transposes LANES rows × LANES lanes of N values at a time.
/// `load` makes a vector of N · LANES codes, `finish(k, row, vector)` what is stored of N values from k on of LANES rows.
#[inline(always)]
fn interleave<S: IntLanes, const N: usize>(
    s: S,
    from: &[i8],
    to: &mut [u8],
    len: usize,
    load: impl Fn(*const i32) -> S::I,
    finish: impl Fn(usize, usize, S::I) -> S::I,
) {
    let lanes = S::LANES;
    assert!(len <= CHUNK && from.len() == TILE * CHUNK && to.len() >= TILE * CHUNK * 4 / N);
    let to = to.as_mut_ptr().cast::<i32>();
    for row in (0..TILE).step_by(lanes) {
        for k in (0..len).step_by(lanes * N) {
            // SAFETY: codes from k on of rows row..row + lanes, as CHUNK is a multiple of 64 (past `len` they are left
            // over from an earlier panel and never used); lanes k / N.. of those rows, inside of `to`.
            unsafe {
                let mut square = [s.splat_int(0); 16];
                for i in 0..lanes {
                    square[i] = load(from.as_ptr().add((row + i) * CHUNK + k).cast());
                }
                s.transpose(&mut square[..lanes]);
                for i in 0..lanes {
                    s.store_int(to.add((k / N + i) * TILE + row), finish(k + i * N, row, square[i]));
                }
            }
        }
    }
}

/// Rows of a register tile, at most: with two vectors of columns each, the sums fill 12 of the 16 registers of AVX.
const ROWS: usize = 6;

/// Tiles of weights at a time, at most: each row of activations comes from the L2 cache once for so many.
pub(super) const TILES: usize = 4;

/// `c += activations · panel` for some rows and two vectors of columns, by `vpdpbusd`.
///
/// Pointers to the first of each, all for one part of a panel: as many steps of 32 values of K as it has.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    steps: usize,
    /// [steps][8][32][4]
    w: *const u8,
    /// [groups][32]
    scales: *const f32,
    /// [rows × a_stride]
    a: *const i8,
    a_stride: usize,
    /// For each group and row, from group to group `stride` bytes: where integer sums start.
    biases: *const i32,
    /// The same for the scales of activations.
    act_scales: *const f32,
    stride: usize,
    /// [rows × c_stride]
    c: *mut f32,
    /// In bytes.
    c_stride: usize,
}

/// See `Kernel::gemm`. `add` is one of `bytes256`, `bytes512`, for so many columns.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks; `add` may be called.
#[inline(always)]
pub(super) unsafe fn gemm_bytes(
    add: unsafe fn(Tile, usize),
    columns: usize,
    panel: &Panel,
    acts: &Acts,
    rows: Range<usize>,
    mut sums: Sums,
) {
    sums.begin();
    let Panel { first, len, .. } = *panel;
    assert!(len.is_multiple_of(32) && first.is_multiple_of(GROUP), "whole steps");
    if len == 0 || rows.is_empty() {
        return;
    }
    let uniform = &acts.uniform;
    for column in (0..sums.columns).step_by(columns) {
        let (tile, within) = (column / TILE, column % TILE);
        let codes = &panel.codes[tile * TILE * CHUNK..][..TILE * CHUNK];
        let scales = &panel.uniform_scales[tile * UNIFORM_SCALES..][..UNIFORM_SCALES];
        let blocks_left = (sums.columns - column) / columns * rows.len().div_ceil(ROWS);
        for (i, (row, size)) in row_blocks(rows.clone(), ROWS).enumerate() {
            panel.ahead.ask(blocks_left - i);
            // SAFETY: offsets of existing rows, of the panel's values, and inside the panel.
            unsafe {
                let tile = Tile {
                    steps: len / 32,
                    w: codes.as_ptr().add(4 * within),
                    scales: scales.as_ptr().add(within),
                    a: uniform.codes.as_ptr().add(row * uniform.stride + first),
                    a_stride: uniform.stride,
                    biases: uniform.biases.as_ptr().add(first / GROUP * acts.stride + row),
                    act_scales: uniform.scales.as_ptr().add(first / GROUP * acts.stride + row),
                    stride: 4 * acts.stride,
                    c: sums.start.add((row - rows.start) * sums.stride + column),
                    c_stride: 4 * sums.stride,
                };
                add(tile, size);
            }
        }
    }
}

/// `c[row][n] += activations · panel`, by `vpdpwssd`; see `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[inline(always)]
pub(super) unsafe fn gemm_words<V: DotWords>(v: V, panel: &Panel, acts: &Acts, rows: Range<usize>, c: &mut [f32]) {
    // SAFETY: the caller's shapes.
    unsafe {
        if panel.has_min {
            gemm_words_of::<V, true>(v, panel, acts, rows, c)
        } else {
            gemm_words_of::<V, false>(v, panel, acts, rows, c)
        }
    }
}

/// # Safety
/// As [`gemm_words`].
#[inline(always)]
unsafe fn gemm_words_of<V: DotWords, const MIN: bool>(
    v: V,
    panel: &Panel,
    acts: &Acts,
    rows: Range<usize>,
    c: &mut [f32],
) {
    for (row, size) in row_blocks(rows.clone(), ROWS) {
        let c = c[(row - rows.start) * TILE..].as_mut_ptr();
        for column in (0..TILE).step_by(2 * V::S::LANES) {
            // SAFETY: rows row..row + size of acts and c, two vectors of columns.
            unsafe {
                match size {
                    6 => words::<V, 6, MIN>(v, panel, column, acts, row, c),
                    5 => words::<V, 5, MIN>(v, panel, column, acts, row, c),
                    4 => words::<V, 4, MIN>(v, panel, column, acts, row, c),
                    3 => words::<V, 3, MIN>(v, panel, column, acts, row, c),
                    2 => words::<V, 2, MIN>(v, panel, column, acts, row, c),
                    _ => words::<V, 1, MIN>(v, panel, column, acts, row, c),
                }
            }
        }
    }
}

/// R rows × two vectors of columns.
///
/// # Safety
/// Rows `row..row + R` and columns `column..column + 2 · LANES` exist; the rest as [`gemm_words`].
#[inline(always)]
unsafe fn words<V: DotWords, const R: usize, const MIN: bool>(
    v: V,
    panel: &Panel,
    column: usize,
    acts: &Acts,
    row: usize,
    c: *mut f32,
) {
    let (s, lanes) = (v.simd(), V::S::LANES);
    let Panel { first, len, group, .. } = *panel;
    let Codes { codes, scales, sums, half_sums, .. } = &acts.words;
    // SAFETY: offsets of existing rows, of the panel's values, and inside the panel.
    unsafe {
        let mut w = panel.codes.as_ptr().cast::<i32>().add(column);
        let c = c.add(column);
        let per_row = acts.cols / 2;
        let a = codes.as_ptr().cast::<i32>().add(row * per_row + first / 2);
        let sums = if group == 32 { sums.as_ptr() } else { half_sums.as_ptr() };
        let scales = scales.as_ptr().add(first / 32 * acts.stride + row);
        let offset = first / group * acts.stride + row;
        for g in 0..len / group {
            let mut acc = [[s.splat_int(0); 2]; R];
            for lane in 0..group / 2 {
                let (w0, w1) = (s.load_int(w), s.load_int(w.add(lanes)));
                w = w.add(TILE);
                for r in 0..R {
                    let x = s.splat_int(*a.add(r * per_row + g * group / 2 + lane));
                    acc[r][0] = v.dot(acc[r][0], w0, x);
                    acc[r][1] = v.dot(acc[r][1], w1, x);
                }
            }
            for half in 0..2 {
                let n = g * TILE + column + half * lanes;
                let scale = s.load(panel.scales.as_ptr().add(n));
                let min = if MIN { s.load(panel.mins.as_ptr().add(n)) } else { scale };
                for r in 0..R {
                    let mut value = s.mul(s.to_float(acc[r][half]), scale);
                    if MIN {
                        value = s.fma(min, s.splat(*sums.add(offset + g * acts.stride + r)), value);
                    }
                    let act_scale = s.splat(*scales.add(g * group / 32 * acts.stride + r));
                    let c = c.add(r * TILE + half * lanes);
                    s.store(c, s.fma(value, act_scale, s.load(c)));
                }
            }
        }
    }
}

/// Defines `kernel`, by bytes for standard precision and by words for high precision.
macro_rules! kernels {
    ($vnni:expr, $bytes:ident, #[$attribute:meta]) => {
        fn kernel<B: Block>(precision: Precision) -> &'static super::Kernel {
            match precision {
                Precision::Standard => const {
                    &super::Kernel {
                        form: crate::cpu::acts::Form { uniform: true, ..crate::cpu::acts::Form::NONE },
                        tiles: vnni::TILES,
                        rows: crate::cpu::weight::ROWS_PER_BLOCK,
                        any_stride: true,
                        unpack: unpack_bytes::<B>,
                        gemm: gemm_bytes,
                    }
                },
                Precision::High => words_kernel::<B>(),
            }
        }
        super::kernel!(fn words_kernel, words, #[$attribute], interleave_words, gemm_words);

        #[$attribute]
        unsafe fn unpack_bytes<B: Block>(
            panel: &mut Panel,
            tiles: crate::cpu::panel::TileRows,
            first: usize,
            len: usize,
        ) {
            panel.unpack_uniform::<B>(tiles, vnni::TILES, first, len, |panel, tile, requantize| {
                interleave_bytes(panel, tile, len, requantize)
            })
        }

        #[$attribute]
        fn interleave_bytes(panel: &mut Panel, tile: usize, len: usize, requantize: bool) {
            vnni::interleave_bytes($vnni.simd(), panel, tile, len, requantize)
        }

        #[$attribute]
        fn interleave_words(panel: &mut Panel, len: usize) {
            vnni::interleave_words($vnni.simd(), panel, len)
        }

        #[$attribute]
        unsafe fn gemm_bytes(panel: &Panel, acts: &Acts, rows: std::ops::Range<usize>, sums: super::Sums) {
            // SAFETY: the caller's shapes.
            unsafe { vnni::gemm_bytes(vnni::$bytes::add, vnni::$bytes::COLUMNS, panel, acts, rows, sums) }
        }

        #[$attribute]
        unsafe fn gemm_words(panel: &Panel, acts: &Acts, rows: std::ops::Range<usize>, c: &mut [f32]) {
            // SAFETY: the caller's shapes.
            unsafe { vnni::gemm_words($vnni, panel, acts, rows, c) }
        }
    };
}
pub(super) use kernels;
