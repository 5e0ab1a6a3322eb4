//! Attention in 16-bit codes, for tiers that multiply those faster than floats: scores and weighted values are integer
//! products, the softmax and all sums over blocks are f32. The blocks and their order are those of [`super::attend`].
//!
//! Each row of queries, keys and values has codes and a scale of its own. The scale of a value goes into its key's softmax
//! weight before weights are rounded, one scale for each row and block. So no token depends on later ones.

use super::scratch::Scratch;
use super::task::{AttendTask, KeyBlock, KeyValueRows, PAD, Shape};
use crate::buffer::{Buffer, FLOATS_PER_LINE};
use crate::cpu::ops::quantize::{TINY, round_codes, scale_of};
use crate::cpu::simd::{DotI16, EXP2_COARSE, IntLanes, Simd};

/// Keys per block. Twice as many as in f32: a row's maximum and sum cost less of a block, its outputs are loaded less often.
pub(crate) const KEYS: usize = 128;
/// Codes from row to row of the left operand of a product, queries or weights: known when the product is compiled, so that
/// one pointer serves all rows of a register tile.
pub(crate) const ROW: usize = KEYS;
/// Floats from row to row of scores: as with outputs, a cache line more than they are, or they would all fall into the same few
/// sets of the cache.
const SCORES: usize = KEYS + FLOATS_PER_LINE;
/// i16 that a key, or a value, takes besides its codes: a scale.
pub(crate) const SCALE: usize = 2;

/// The largest code of values and their weights.
const LARGEST: f32 = largest_code(KEYS);

/// The largest code of which `n` products fit a 32-bit sum.
const fn largest_code(n: usize) -> f32 {
    let code = (i32::MAX as u32 / n as u32).isqrt();
    if code < i16::MAX as u32 { code as f32 } else { i16::MAX as f32 }
}

/// As [`super::pack_block`], in codes: keys [width / PAD][head_dim / 2][PAD][2], values [head_dim / PAD][width / 2][PAD][2];
/// after each of the two the scales of the keys, or values, as floats. A head has whole vectors of dimensions.
#[inline(always)]
pub(crate) fn pack_block<W: DotI16>(
    w: W,
    shape: Shape,
    keys: usize,
    rows: KeyValueRows,
    kt: &mut [u16],
    vp: &mut [u16],
) {
    let (s, dim) = (w.simd(), shape.head_dim);
    let width = keys.next_multiple_of(PAD);
    assert!(dim.is_multiple_of(PAD) && dim <= ROW);
    let (kt, key_scales) = kt[..width * (dim + SCALE)].split_at_mut(width * dim);
    let (vp, value_scales) = vp[..width * (dim + SCALE)].split_at_mut(width * dim);
    let (key_scales, value_scales) = (key_scales.as_chunks_mut::<SCALE>().0, value_scales.as_chunks_mut::<SCALE>().0);
    let halves_of = |scale: f32| [scale.to_bits() as u16, (scale.to_bits() >> 16) as u16];
    // Padding is zero.
    let row = |i: usize| if i < keys { i * rows.stride..i * rows.stride + dim } else { 0..0 };
    let largest = largest_code(dim);
    let (mut codes, mut broken) = ([[0; ROW]; 2], [false; 2]);
    for i in (0..width).step_by(2) {
        for (j, codes) in (i..).zip(&mut codes) {
            let scale = quantize(s, &rows.v[row(j)], LARGEST, codes);
            broken[j - i] = !scale.is_finite();
            value_scales[j] = halves_of(if scale.is_finite() { scale } else { 0.0 });
        }
        for (panel, to) in vp.chunks_exact_mut(width * PAD).enumerate() {
            let to = to[i * PAD..(i + 2) * PAD].as_chunks_mut::<2>().0;
            for (d, to) in (panel * PAD..).zip(to) {
                *to = [codes[0][d], codes[1][d]];
            }
        }
        for (j, codes) in (i..).zip(&mut codes) {
            let scale = quantize(s, &rows.k[row(j)], largest, codes);
            // A value that is not finite is its key's error too: all that see the key notice, and no other.
            key_scales[j] = halves_of(if broken[j - i] { f32::NAN } else { scale });
            let to = kt[j / PAD * PAD * dim..].as_chunks_mut::<{ 2 * PAD }>().0;
            for (pair, to) in codes[..dim].as_chunks::<2>().0.iter().zip(to) {
                to[j % PAD * 2..][..2].copy_from_slice(pair);
            }
        }
    }
}

/// The scale of a row, whose codes go into `codes`, with zeros after them.
#[inline(always)]
fn quantize<S: Simd>(s: S, row: &[f32], largest: f32, codes: &mut [u16; ROW]) -> f32 {
    assert!(row.len().is_multiple_of(PAD) && row.len() <= ROW);
    codes[row.len()..].fill(0);
    // SAFETY: whole vectors of a row, and of codes.
    unsafe {
        let (scale, inverse) = scale_of(s, row.as_ptr(), row.len(), largest);
        round_codes(s, row.as_ptr(), inverse, codes.as_mut_ptr().cast::<i16>(), row.len());
        scale
    }
}

/// The left operands of the products: queries and softmax weights in 16-bit codes, rows of [`ROW`].
#[derive(Default)]
struct Operands {
    queries: Buffer<u16>,
    weights: Buffer<u16>,
    /// One for each row, in whole vectors of them.
    query_scales: Vec<f32>,
    weight_scales: Vec<f32>,
    /// By what weights are multiplied to become codes.
    inverses: Vec<f32>,
}

/// As [`super::attend`].
#[inline(always)]
pub(crate) fn attend<W: DotI16>(
    w: W,
    task: AttendTask<u16>,
    scratch: &mut Scratch,
    write: impl FnMut(usize, usize, &[f32]),
) {
    let (s, dim) = (w.simd(), task.shape.head_dim);
    let (rows, out_row) = (task.count * task.shape.group, dim + FLOATS_PER_LINE);
    let Scratch { scores, out, softmax, own, .. } = scratch;
    let Operands { queries, weights, query_scales, weight_scales, inverses } = own.get_or_make();
    queries.resize(rows * ROW);
    scores.resize(rows * SCORES);
    weights.resize(rows * ROW);
    out.resize(rows * out_row);
    out.fill(0.0);
    softmax.start(rows);
    for scales in [&mut *query_scales, &mut *weight_scales, &mut *inverses] {
        scales.resize(rows.next_multiple_of(PAD), 0.0);
    }

    let (unit, largest) = (task.shape.score_unit(), largest_code(dim));
    for (r, (codes, scale)) in queries.as_chunks_mut::<ROW>().0.iter_mut().zip(&mut *query_scales).enumerate() {
        *scale = quantize(s, task.query(r), largest, codes) * unit;
    }

    for KeyBlock { start, packed, width } in task.key_blocks(KEYS, PAD) {
        let block = packed.start * (dim + SCALE)..packed.end * (dim + SCALE);
        let (kt, key_scales) = task.kt[block.clone()].split_at(packed.len() * dim);
        let (vp, value_scales) = task.vp[block].split_at(packed.len() * dim);
        let (key_scales, value_scales) = (key_scales.as_ptr().cast::<f32>(), value_scales.as_ptr().cast::<f32>());
        // SAFETY: queries are [rows × dim] in rows of ROW, this block of keys is [dim × packed] in panels, and width <=
        // packed; scores are [rows × SCORES]. Buffers and blocks are aligned for floats.
        unsafe {
            let scores = scores.as_mut_ptr();
            let query_scales = query_scales.as_ptr();
            product(w, (rows, dim, width), queries.as_ptr(), kt.as_ptr(), dim * PAD, |row, column, score| {
                let score = s.mul(score, s.load(key_scales.add(column)));
                s.store(scores.add(row * SCORES + column), s.mul(score, s.splat(*query_scales.add(row))));
            });
        }
        // SAFETY: a scale for each key, in whole vectors; p is a place for one.
        let keep = |_, key, p, weights| unsafe { s.store(p, s.mul(weights, s.load(value_scales.add(key)))) };
        softmax.block(s, &EXP2_COARSE, scores, (SCORES, width), |r| task.visible(r, start), keep);
        // SAFETY: whole vectors of rows, and of their weights and codes.
        unsafe {
            for (scores, largest) in scores.chunks_exact(SCORES).zip(weight_scales.iter_mut()) {
                let mut most = s.splat(0.0);
                for key in (0..width).step_by(W::S::LANES) {
                    most = s.max(most, s.load(scores.as_ptr().add(key)));
                }
                *largest = s.max_lane(most);
            }
            for r in (0..weight_scales.len()).step_by(W::S::LANES) {
                let largest = s.max(s.splat(TINY), s.load(weight_scales.as_ptr().add(r)));
                s.store(inverses.as_mut_ptr().add(r), s.div(s.splat(LARGEST), largest));
                s.store(weight_scales.as_mut_ptr().add(r), s.mul(largest, s.splat(1.0 / LARGEST)));
            }
            let of_rows = scores.chunks_exact(SCORES).zip(weights.chunks_exact_mut(ROW)).zip(&*inverses);
            for ((scores, weights), inverse) in of_rows {
                round_codes(s, scores.as_ptr(), *inverse, weights.as_mut_ptr().cast::<i16>(), width);
            }
        }
        // SAFETY: weights are [rows × width] in rows of ROW, this block of values is [packed × dim] in panels, and width <=
        // packed; out is [rows × out_row].
        unsafe {
            let (out, factors, scales) = (out.as_mut_ptr(), softmax.factors.as_ptr(), weight_scales.as_ptr());
            product(w, (rows, width, dim), weights.as_ptr(), vp.as_ptr(), packed.len() * PAD, |row, column, sum| {
                let out = out.add(row * out_row + column);
                let before = s.mul(s.load(out), s.splat(*factors.add(row)));
                s.store(out, s.fma(sum, s.splat(*scales.add(row)), before));
            });
        }
    }
    softmax.finish(s, out, out_row, task.shape, write);
}

/// Calls `finish(row, column, sums)` with each vector of `a · b`, for row-major `a` [rows × k] with [`ROW`] codes from row to
/// row. `b` [k × n] is packed: panels of [`PAD`] columns, `panel` codes from one to the next, of pairs of values.
///
/// # Safety
/// The matrices lie in readable memory; k is even and n a multiple of [`PAD`].
#[inline(always)]
unsafe fn product<W: DotI16>(
    w: W,
    (rows, k, n): (usize, usize, usize),
    a: *const u16,
    b: *const u16,
    panel: usize,
    mut finish: impl FnMut(usize, usize, <W::S as Simd>::F),
) {
    let lanes = W::S::LANES;
    let mut column = 0;
    while column < n {
        let wide = n - column >= 2 * lanes;
        // SAFETY: the vectors of the columns from `column` on, inside b; of one alone, twice.
        let b = unsafe {
            [column, column + if wide { lanes } else { 0 }].map(|c| b.add(c / PAD * panel + c % PAD * 2).cast::<i32>())
        };
        let mut row = 0;
        while row < rows {
            let left = (rows - row).min(W::S::ROWS);
            // SAFETY: rows row..row + left and these columns lie inside the matrices.
            unsafe {
                let a = a.add(row * ROW).cast::<i32>();
                let finish = |r, v, sums| finish(row + r, column + v * lanes, sums);
                match (left, wide) {
                    (8, true) => tile::<W, 8, 2>(w, k / 2, a, b, finish),
                    (7, true) => tile::<W, 7, 2>(w, k / 2, a, b, finish),
                    (6, true) => tile::<W, 6, 2>(w, k / 2, a, b, finish),
                    (5, true) => tile::<W, 5, 2>(w, k / 2, a, b, finish),
                    (4, true) => tile::<W, 4, 2>(w, k / 2, a, b, finish),
                    (3, true) => tile::<W, 3, 2>(w, k / 2, a, b, finish),
                    (2, true) => tile::<W, 2, 2>(w, k / 2, a, b, finish),
                    (1, true) => tile::<W, 1, 2>(w, k / 2, a, b, finish),
                    (_, true) => unreachable!("ROWS is at most 8"),
                    (_, false) => {
                        let mut finish = finish;
                        for i in 0..left {
                            tile::<W, 1, 1>(w, k / 2, a.add(i * ROW / 2), b, |_, v, sums| finish(i, v, sums));
                        }
                    }
                }
            }
            row += left;
        }
        column += if wide { 2 * lanes } else { lanes };
    }
}

/// One register tile: R rows × V vectors, which start at `b`.
///
/// # Safety
/// As [`product`], for this tile.
#[inline(always)]
unsafe fn tile<W: DotI16, const R: usize, const V: usize>(
    w: W,
    pairs: usize,
    a: *const i32,
    b: [*const i32; 2],
    mut finish: impl FnMut(usize, usize, <W::S as Simd>::F),
) {
    let s = w.simd();
    // SAFETY: all offsets lie inside the tile's parts of a and b.
    unsafe {
        let mut acc = [[s.splat_int(0); V]; R];
        for i in 0..pairs {
            let mut row = [s.splat_int(0); V];
            for v in 0..V {
                row[v] = s.load_int(b[v].add(i * PAD));
            }
            for r in 0..R {
                let x = s.splat_int(*a.add(r * ROW / 2 + i));
                for v in 0..V {
                    acc[r][v] = w.dot(acc[r][v], row[v], x);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                finish(r, v, s.to_float(acc[r][v]));
            }
        }
    }
}
