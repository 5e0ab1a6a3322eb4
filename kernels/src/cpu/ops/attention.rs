//! Causal grouped-query attention of one text in blocks, with an online softmax: memory linear in the text's length.
//!
//! Keys and values are first packed per key/value head ([`pack_block`]) so that both products read them in order;
//! then [`attend`] handles one block of queries of the query heads that share a key/value head (Dao et al. 2022,
//! FlashAttention, in its CPU form). Block borders are counted from the text's first token, and a fully masked key
//! adds exactly zero, so a row's result depends on nothing but its own query and the keys up to its position.

#[cfg(target_arch = "x86_64")]
pub(crate) mod int16;
pub(crate) mod scratch;
pub(crate) mod softmax;
pub(crate) mod task;

use super::matmul::matmul;
use crate::cpu::simd::{EXP2, Simd};
use scratch::Scratch;
use task::{AttendTask, KeyBlock, KeyValueRows, PAD, Shape};

/// Keys per block.
pub(crate) const KEYS: usize = 64;

/// Packs a block of `keys` keys and values of one head, whose rows are `rows`. Keys become `kt` [width / PAD][head_dim][PAD],
/// values `vp` [padded_dim / PAD][width][PAD], where width is `keys` rounded up to [`PAD`]; padding is zero.
///
/// A panel of 16 columns is what a register tile reads in one go. In rows of the whole width, its lines would lie 256 or
/// 512 bytes apart and evict each other from a few sets of the L1 cache.
#[inline(always)]
pub(crate) fn pack_block(shape: Shape, keys: usize, rows: KeyValueRows, kt: &mut [f32], vp: &mut [f32]) {
    let (dim, dim_pad) = (shape.head_dim, shape.padded_dim());
    let width = keys.next_multiple_of(PAD);
    let kt = &mut kt[..width * dim];
    let vp = &mut vp[..width * dim_pad];
    kt.fill(0.0);
    vp.fill(0.0);
    for i in 0..keys {
        let row = i * rows.stride;
        for (d, x) in rows.k[row..row + dim].iter().enumerate() {
            kt[(i / PAD * dim + d) * PAD + i % PAD] = *x;
        }
        for (panel, x) in rows.v[row..row + dim].chunks(PAD).enumerate() {
            vp[(panel * width + i) * PAD..][..x.len()].copy_from_slice(x);
        }
    }
}

/// One task: `count` queries of a text from position `first` on, for the query heads of one key/value head, whose packed
/// blocks lie in `kt` and `vp`. Calls `write(query, head of the group, row)` with each finished row [head_dim].
#[inline(always)]
pub(crate) fn attend<S: Simd>(
    s: S,
    task: AttendTask<f32>,
    scratch: &mut Scratch,
    write: impl FnMut(usize, usize, &[f32]),
) {
    let (dim, dim_pad) = (task.shape.head_dim, task.shape.padded_dim());
    let rows = task.count * task.shape.group;
    let Scratch { q, scores, out, softmax, .. } = scratch;
    q.resize(rows * dim);
    scores.resize(rows * KEYS);
    out.resize(rows * dim_pad);
    out.fill(0.0);
    softmax.start(rows);

    let scale = task.shape.score_unit();
    for (r, q) in q.chunks_exact_mut(dim).enumerate() {
        q.iter_mut().zip(task.query(r)).for_each(|(to, x)| *to = x * scale);
    }

    for KeyBlock { start, packed, width } in task.key_blocks(KEYS, PAD) {
        scores.fill(0.0);
        // SAFETY: q is [rows × dim], this block of kt is [dim × packed] in panels, scores is [rows × KEYS], and width <=
        // packed <= KEYS; three different buffers.
        unsafe {
            let kt = task.kt[packed.start * dim..packed.end * dim].as_ptr();
            matmul::<_, PAD>(s, (rows, dim, width), q.as_ptr(), dim, kt, dim * PAD, scores.as_mut_ptr(), KEYS);
        }
        // SAFETY: p is a place for a vector.
        let keep = |_, _, p, weights| unsafe { s.store(p, weights) };
        softmax.block(s, &EXP2, scores, (KEYS, width), |r| task.visible(r, start), keep);
        softmax.rescale(out, dim_pad);
        // SAFETY: scores is [rows × width] in rows of KEYS, this block of vp is [packed × dim_pad] in panels, out is
        // [rows × dim_pad], and width <= packed; three different buffers.
        unsafe {
            let vp = task.vp[packed.start * dim_pad..packed.end * dim_pad].as_ptr();
            let size = (rows, width, dim_pad);
            matmul::<_, PAD>(s, size, scores.as_ptr(), KEYS, vp, packed.len() * PAD, out.as_mut_ptr(), dim_pad);
        }
    }
    softmax.finish(s, out, dim_pad, task.shape, write);
}
