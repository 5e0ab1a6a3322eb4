//! An online softmax: over blocks of scores, one after the other.

use super::task::{PAD, Shape};
use crate::cpu::simd::Simd;

/// What an online softmax remembers of each row, in whole vectors of rows.
#[derive(Default)]
pub(crate) struct Softmax {
    max: Vec<f32>,
    new_max: Vec<f32>,
    /// Of each row the sums of the weights in each lane [rows × PAD].
    totals: Vec<f32>,
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
            (&mut self.totals, rows * PAD, 0.0),
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
        let Self { max, new_max, totals, factors } = self;
        assert!(width.is_multiple_of(PAD) && width <= stride && scores.len() / stride * PAD <= totals.len());
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
                let totals = totals.as_mut_ptr().add(r * PAD);
                s.store(totals, s.fma(s.load(totals), s.splat(factors[r]), total));
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
        for (r, (out, totals)) in out.chunks_exact_mut(stride).zip(self.totals.as_chunks::<PAD>().0).enumerate() {
            let out = &mut out[..shape.head_dim];
            // SAFETY: LANES of PAD floats.
            let inverse = 1.0 / s.sum(unsafe { s.load(totals.as_ptr()) });
            out.iter_mut().for_each(|x| *x *= inverse);
            write(r / shape.group, r % shape.group, out);
        }
    }
}
