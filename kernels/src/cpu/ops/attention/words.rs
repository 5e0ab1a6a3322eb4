//! Attention in 16-bit codes, for tiers that multiply those faster than floats: scores and weighted values are integer
//! products, the softmax and all sums over blocks are f32. The blocks and their order are those of [`super::attend`].
//!
//! Each row of queries, keys and values has codes and a scale of its own. The scale of a value goes into its key's softmax
//! weight before weights are rounded, one scale for each row and block. So no token depends on later ones.

use super::{PAD, Scratch, Shape, softmax_step};
use crate::cpu::isa::{AttendTask, Rows};
use crate::cpu::ops::quantize::{round_codes, scale_of};
use crate::cpu::simd::{DotWords, Simd};
use std::hint::black_box;

/// Keys per block. Twice as many as in f32: a row's maximum and sum cost less of a block, its outputs are loaded less often.
pub(crate) const KEYS: usize = 128;
/// Words that a key, or a value, takes besides its codes: a scale.
pub(crate) const SCALE: usize = 2;

/// The largest code of which `n` products fit a 32-bit sum.
const fn largest_code(n: usize) -> f32 {
    let code = (i32::MAX as u32 / n as u32).isqrt();
    if code < i16::MAX as u32 { code as f32 } else { i16::MAX as f32 }
}

/// As [`super::pack_block`], in codes: keys [width / PAD][head_dim / 2][PAD][2], values [head_dim / PAD][width / 2][PAD][2];
/// after each of the two the scales of the keys, or values, as floats. A head has whole vectors of dimensions.
#[inline(always)]
pub(crate) fn pack_block<W: DotWords>(w: W, shape: Shape, keys: usize, rows: Rows, kt: &mut [u16], vp: &mut [u16]) {
    let dim = shape.head_dim;
    let width = keys.next_multiple_of(PAD);
    let Rows { k, v, stride } = rows;
    let row = |i: usize| i * stride..i * stride + dim;
    let mut codes = [[0i16; 2 * PAD]; 2];
    let (kt, key_scales) = kt[..width * (dim + SCALE)].split_at_mut(width * dim);
    let (vp, value_scales) = vp[..width * (dim + SCALE)].split_at_mut(width * dim);
    key_scales.fill(0);
    value_scales.fill(0);
    let set = |scales: &mut [u16], i: usize, scale: f32| {
        scales[2 * i..2 * i + 2].copy_from_slice(&[scale.to_bits() as u16, (scale.to_bits() >> 16) as u16]);
    };
    for i in 0..width {
        // SAFETY: whole vectors of a row that is there, and of codes.
        let (scale, inverse) =
            if i < keys { unsafe { scale_of(w.simd(), k[row(i)].as_ptr(), dim, largest_code(dim)) } } else { (0.0, 0.0) };
        set(key_scales, i, scale);
        for d in (0..dim).step_by(PAD) {
            codes[0].fill(0);
            if i < keys {
                let from = &k[row(i)][d..d + PAD];
                // SAFETY: as above.
                unsafe { round_codes(w.simd(), from.as_ptr(), inverse, codes[0].as_mut_ptr(), PAD) };
            }
            for (pair, code) in codes[0][..PAD].as_chunks::<2>().0.iter().enumerate() {
                let at = ((i / PAD * dim + d) / 2 + pair) * 2 * PAD + i % PAD * 2;
                kt[at] = code[0] as u16;
                kt[at + 1] = code[1] as u16;
            }
        }
    }
    for i in (0..width).step_by(2) {
        let mut inverses = [0.0; 2];
        for j in 0..2 {
            if i + j < keys {
                // SAFETY: whole vectors of a row that is there.
                let (scale, inverse) =
                    unsafe { scale_of(w.simd(), v[row(i + j)].as_ptr(), dim, largest_code(KEYS)) };
                set(value_scales, i + j, scale);
                inverses[j] = inverse;
            }
        }
        for (panel, to) in vp.chunks_exact_mut(width * PAD).enumerate() {
            for j in 0..2 {
                codes[j].fill(0);
                if i + j < keys {
                    let from = &v[row(i + j)][panel * PAD..(panel + 1) * PAD];
                    // SAFETY: as above.
                    unsafe { round_codes(w.simd(), from.as_ptr(), inverses[j], codes[j].as_mut_ptr(), PAD) };
                }
            }
            let to = to[i * PAD..(i + 2) * PAD].as_chunks_mut::<2>().0;
            for (column, to) in to.iter_mut().enumerate() {
                *to = [codes[0][column] as u16, codes[1][column] as u16];
            }
        }
    }
}

/// As [`super::attend`].
#[inline(always)]
pub(crate) fn attend<W: DotWords>(
    w: W,
    task: AttendTask<u16>,
    scratch: &mut Scratch,
    mut write: impl FnMut(usize, usize, &[f32]),
) {
    let AttendTask { shape, first, count, len, q, blocks, kt, vp } = task;
    let (s, dim, group) = (w.simd(), shape.head_dim, shape.group);
    let rows = count * group;
    assert!(first + count <= len && dim.is_multiple_of(PAD));
    let Scratch { scores, out, max, sum, queries, weights, query_scales, factors, weight_scales, .. } = scratch;
    queries.resize(rows * dim);
    scores.resize(rows * KEYS);
    weights.resize(rows * KEYS);
    out.resize(rows * dim);
    out.fill(0.0);
    for (values, start) in [
        (&mut *max, f32::NEG_INFINITY),
        (&mut *sum, 0.0),
        (&mut *query_scales, 0.0),
        (&mut *factors, 0.0),
        (&mut *weight_scales, 0.0),
    ] {
        values.clear();
        values.resize(rows, start);
    }

    // Scores in units of log2, so that the softmax needs exp2 only.
    let unit = std::f32::consts::LOG2_E / (dim as f32).sqrt();
    for r in 0..rows {
        let from = &q[r / group * shape.q_stride + r % group * dim..][..dim];
        // SAFETY: whole vectors of a row of queries, and of codes.
        unsafe {
            let (scale, inverse) = scale_of(s, from.as_ptr(), dim, largest_code(dim));
            query_scales[r] = scale * unit;
            round_codes(s, from.as_ptr(), inverse, queries[r * dim..].as_mut_ptr().cast::<i16>(), dim);
        }
    }

    for (start, at) in (0..first + count).step_by(KEYS).zip(blocks) {
        let stride = (len - start).min(KEYS).next_multiple_of(PAD);
        // No query of this task sees further.
        let width = (first + count - start).min(KEYS).next_multiple_of(PAD);
        let block = at * (dim + SCALE)..(at + stride) * (dim + SCALE);
        let (kt, key_scales) = kt[block.clone()].split_at(stride * dim);
        let (vp, value_scales) = vp[block].split_at(stride * dim);
        let (key_scales, value_scales) = (key_scales.as_ptr().cast::<f32>(), value_scales.as_ptr().cast::<f32>());
        // SAFETY: queries are [rows × dim], this block of keys is [dim × stride] in panels, and width <= stride; scores are
        // [rows × KEYS]. Buffers and blocks are aligned for floats.
        unsafe {
            let scores = scores.as_mut_ptr();
            let query_scales = query_scales.as_ptr();
            product(w, (rows, dim, width), queries.as_ptr(), dim, kt.as_ptr(), dim * PAD, |row, column, score| {
                let score = s.mul(score, s.load(key_scales.add(column)));
                s.store(scores.add(row * KEYS + column), s.mul(score, s.splat(*query_scales.add(row))));
            });
        }
        for r in 0..rows {
            let visible = (first + r / group + 1).saturating_sub(start).min(width);
            let (scores, weights) = (&mut scores[r * KEYS..][..width], &mut weights[r * KEYS..][..width]);
            if visible == 0 {
                // Nothing of this block is visible: weights of exactly zero.
                weights.fill(0);
                (factors[r], weight_scales[r]) = (1.0, 0.0);
                continue;
            }
            scores[visible..].fill(f32::NEG_INFINITY);
            // SAFETY: a scale for each key, whole vectors of scores and of codes.
            unsafe {
                factors[r] = softmax_step(s, scores, &mut max[r], &mut sum[r], |key, weight| {
                    s.mul(weight, s.load(value_scales.add(key)))
                });
                let (scale, inverse) = scale_of(s, scores.as_ptr(), width, largest_code(KEYS));
                weight_scales[r] = scale;
                round_codes(s, scores.as_ptr(), inverse, weights.as_mut_ptr().cast::<i16>(), width);
            }
        }
        // SAFETY: weights are [rows × KEYS], this block of values is [stride × dim] in panels, and width <= stride; out is
        // [rows × dim].
        unsafe {
            let (out, factors, scales) = (out.as_mut_ptr(), factors.as_ptr(), weight_scales.as_ptr());
            product(w, (rows, width, dim), weights.as_ptr(), KEYS, vp.as_ptr(), stride * PAD, |row, column, sum| {
                let out = out.add(row * dim + column);
                let before = s.mul(s.load(out), s.splat(*factors.add(row)));
                s.store(out, s.fma(sum, s.splat(*scales.add(row)), before));
            });
        }
    }

    for (r, out) in out.chunks_exact_mut(dim).enumerate() {
        let inverse = 1.0 / sum[r];
        out.iter_mut().for_each(|x| *x *= inverse);
        write(r / group, r % group, out);
    }
}

/// Calls `finish(row, column, sums)` with each vector of `a · b`, for row-major `a` [rows × k] with `lda` codes from row to
/// row. `b` [k × n] is packed: panels of [`PAD`] columns, `panel` codes from one to the next, of pairs of values.
///
/// # Safety
/// The matrices lie in readable memory; k is even and n a multiple of [`PAD`].
#[inline(always)]
unsafe fn product<W: DotWords>(
    w: W,
    (rows, k, n): (usize, usize, usize),
    a: *const u16,
    lda: usize,
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
                let a = a.add(row * lda).cast::<i32>();
                let finish = |r, v, sums| finish(row + r, column + v * lanes, sums);
                match (left, wide) {
                    (8, true) => tile::<W, 8, 2>(w, k / 2, a, lda / 2, b, finish),
                    (7, true) => tile::<W, 7, 2>(w, k / 2, a, lda / 2, b, finish),
                    (6, true) => tile::<W, 6, 2>(w, k / 2, a, lda / 2, b, finish),
                    (5, true) => tile::<W, 5, 2>(w, k / 2, a, lda / 2, b, finish),
                    (4, true) => tile::<W, 4, 2>(w, k / 2, a, lda / 2, b, finish),
                    (3, true) => tile::<W, 3, 2>(w, k / 2, a, lda / 2, b, finish),
                    (2, true) => tile::<W, 2, 2>(w, k / 2, a, lda / 2, b, finish),
                    (1, true) => tile::<W, 1, 2>(w, k / 2, a, lda / 2, b, finish),
                    (_, true) => unreachable!("ROWS is at most 8"),
                    (_, false) => {
                        let mut finish = finish;
                        for i in 0..left {
                            tile::<W, 1, 1>(w, k / 2, a.add(i * lda / 2), lda / 2, b, |_, v, sums| finish(i, v, sums));
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
unsafe fn tile<W: DotWords, const R: usize, const V: usize>(
    w: W,
    pairs: usize,
    a: *const i32,
    lda: usize,
    b: [*const i32; 2],
    mut finish: impl FnMut(usize, usize, <W::S as Simd>::F),
) {
    // SAFETY: all offsets lie inside the tile's parts of a and b.
    unsafe {
        let mut acc = [[w.splat(0); V]; R];
        // A pointer for each row, which the compiler takes for unrelated: it would recompute them at every step.
        let a: [*const i32; R] = std::array::from_fn(|r| black_box(a.add(r * lda)));
        for i in 0..pairs {
            let mut row = [w.splat(0); V];
            for v in 0..V {
                row[v] = w.load(b[v].add(i * PAD));
            }
            for r in 0..R {
                let x = w.splat(*a[r].add(i));
                for v in 0..V {
                    acc[r][v] = w.dot(acc[r][v], row[v], x);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                finish(r, v, w.to_float(acc[r][v]));
            }
        }
    }
}
