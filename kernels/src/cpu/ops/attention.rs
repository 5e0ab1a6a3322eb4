//! Causal grouped-query attention of one text in blocks, with an online softmax: memory linear in the text's length.
//!
//! Keys and values are first packed per key/value head ([`pack_block`]) so that both products read them in order;
//! then [`attend`] handles one block of queries of the query heads that share a key/value head (Dao et al. 2022,
//! FlashAttention, in its CPU form). Block borders are counted from the text's first token, and a fully masked key
//! adds exactly zero, so a row's result depends on nothing but its own query and the keys up to its position.

#[cfg(target_arch = "x86_64")]
pub(crate) mod words;

use super::matmul::matmul;
use crate::buffer::Buffer;
use crate::cpu::isa::{AttendTask, KeyBlock, Rows};
use crate::cpu::simd::{EXP2, Simd};

/// Keys per block.
pub(crate) const KEYS: usize = 64;
/// Columns of a packed panel, to which keys and the head dimension are padded: the widest vector, in floats.
pub(crate) const PAD: usize = 16;
/// Query rows (tokens × heads of the group) that a task aims at.
pub(crate) const ROWS: usize = 64;

/// The shape of an attention layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Query heads per key/value head.
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
    /// From one token's queries to the next's, in floats.
    pub(crate) q_stride: usize,
}

impl Shape {
    /// Width of a packed value row.
    pub(crate) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(PAD)
    }
    /// What a product of a query and a key is multiplied by, so that the softmax needs exp2 only: scores in units of log2.
    pub(crate) fn score_unit(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.head_dim as f32).sqrt()
    }
    /// Query tokens per task.
    pub(crate) fn query_block(&self) -> usize {
        (ROWS / self.group).max(1)
    }
}

/// Packs a block of `keys` keys and values of one head, whose rows are `rows`. Keys become `kt` [width / PAD][head_dim][PAD],
/// values `vp` [padded_dim / PAD][width][PAD], where width is `keys` rounded up to [`PAD`]; padding is zero.
///
/// A panel of 16 columns is what a register tile reads in one go. In rows of the whole width, its lines would lie 256 or
/// 512 bytes apart and evict each other from a few sets of the L1 cache.
#[inline(always)]
pub(crate) fn pack_block(shape: Shape, keys: usize, rows: Rows, kt: &mut [f32], vp: &mut [f32]) {
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

/// Working memory of one task.
pub(crate) struct Scratch {
    /// Keys and values of a block whose rows do not lie end to end.
    pub(crate) gathered: [Buffer<f32>; 2],
    pub(crate) q: Buffer<f32>,
    pub(crate) scores: Buffer<f32>,
    pub(crate) out: Buffer<f32>,
    pub(crate) softmax: Softmax,
    /// Queries and weights in 16 bits, where a tier multiplies those.
    #[cfg(target_arch = "x86_64")]
    pub(crate) queries: Buffer<u16>,
    #[cfg(target_arch = "x86_64")]
    pub(crate) weights: Buffer<u16>,
    /// Of the rows' codes.
    #[cfg(target_arch = "x86_64")]
    pub(crate) query_scales: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    pub(crate) weight_scales: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    pub(crate) inverses: Vec<f32>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            gathered: [Buffer::zeroed(0), Buffer::zeroed(0)],
            q: Buffer::zeroed(0),
            scores: Buffer::zeroed(0),
            out: Buffer::zeroed(0),
            softmax: Softmax::default(),
            #[cfg(target_arch = "x86_64")]
            queries: Buffer::zeroed(0),
            #[cfg(target_arch = "x86_64")]
            weights: Buffer::zeroed(0),
            #[cfg(target_arch = "x86_64")]
            query_scales: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            weight_scales: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            inverses: Vec::new(),
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

/// What an online softmax remembers of each row, in whole vectors of rows.
#[derive(Default)]
pub(crate) struct Softmax {
    max: Vec<f32>,
    new_max: Vec<f32>,
    /// Of each row the sums of the weights in each lane [rows × PAD].
    sums: Vec<f32>,
    /// By what the sums before the last block are to be multiplied.
    pub(crate) factors: Vec<f32>,
}

impl Softmax {
    /// For so many rows, before their first block.
    pub(crate) fn start(&mut self, rows: usize) {
        let whole = rows.next_multiple_of(PAD);
        for (of_rows, len, value) in [
            (&mut self.max, whole, f32::NEG_INFINITY),
            (&mut self.new_max, whole, f32::NEG_INFINITY),
            (&mut self.sums, rows * PAD, 0.0),
            (&mut self.factors, whole, 0.0),
        ] {
            of_rows.clear();
            of_rows.resize(len, value);
        }
    }

    /// Turns the first `width` scores of each row, `stride` apart, into weights 2^(score − max), and gives each vector of
    /// them to `keep(row, first key, where their scores are, weights)`. Row r sees so many keys of the block as
    /// `visible(r)` says; the others' weights are exactly zero. A width that is a multiple of [`PAD`].
    #[inline(always)]
    pub(crate) fn block<S: Simd, const N: usize>(
        &mut self,
        s: S,
        exp2: &[f32; N],
        scores: &mut [f32],
        (stride, width): (usize, usize),
        visible: impl Fn(usize) -> usize,
        keep: impl Fn(usize, usize, *mut f32, S::F),
    ) {
        let Self { max, new_max, sums, factors } = self;
        assert!(width.is_multiple_of(PAD) && width <= stride && scores.len() / stride * PAD <= sums.len());
        // SAFETY: PAD is a multiple of LANES, so every vector lies inside of a row's scores, or of what belongs to rows.
        unsafe {
            for (r, scores) in scores.chunks_exact_mut(stride).enumerate() {
                scores[visible(r).min(width)..width].fill(f32::NEG_INFINITY);
                let mut most = s.splat(max[r]);
                for i in (0..width).step_by(S::LANES) {
                    most = s.max(most, s.load(scores.as_ptr().add(i)));
                }
                new_max[r] = s.max_lane(most);
            }
            for r in (0..max.len()).step_by(S::LANES) {
                let new = s.load(new_max.as_ptr().add(r));
                let factor = s.exp2(s.sub(s.load(max.as_ptr().add(r)), new));
                s.store(factors.as_mut_ptr().add(r), factor);
                s.store(max.as_mut_ptr().add(r), new);
            }
            for (r, scores) in scores.chunks_exact_mut(stride).enumerate() {
                let (shift, mut total) = (s.splat(max[r]), s.splat(0.0));
                for i in (0..width).step_by(S::LANES) {
                    let p = scores.as_mut_ptr().add(i);
                    let weights = s.exp2_by(exp2, s.sub(s.load(p), shift));
                    keep(r, i, p, weights);
                    total = s.add(total, weights);
                }
                let sums = sums.as_mut_ptr().add(r * PAD);
                s.store(sums, s.fma(s.load(sums), s.splat(factors[r]), total));
            }
        }
    }

    /// Multiplies sums of earlier blocks, rows of `stride`, by their factors.
    #[inline(always)]
    pub(crate) fn rescale(&self, out: &mut [f32], stride: usize) {
        for (out, factor) in out.chunks_exact_mut(stride).zip(&self.factors) {
            // As it mostly is: a row's maximum has not changed.
            if *factor != 1.0 {
                out.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }

    /// Divides the weighted values, rows of `stride`, by the sums of their weights, and gives each to `write`.
    #[inline(always)]
    pub(crate) fn finish<S: Simd>(
        &self,
        s: S,
        out: &mut [f32],
        stride: usize,
        shape: Shape,
        mut write: impl FnMut(usize, usize, &[f32]),
    ) {
        for (r, (out, sums)) in out.chunks_exact_mut(stride).zip(self.sums.as_chunks::<PAD>().0).enumerate() {
            let out = &mut out[..shape.head_dim];
            // SAFETY: LANES of PAD floats.
            let inverse = 1.0 / s.sum(unsafe { s.load(sums.as_ptr()) });
            out.iter_mut().for_each(|x| *x *= inverse);
            write(r / shape.group, r % shape.group, out);
        }
    }
}
