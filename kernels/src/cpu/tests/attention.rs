//! Attention against a naive softmax in f64, on every tier.

use super::*;
use crate::backend::{Heads, Node};
use crate::cpu::ops::attention::{KEYS, task::Shape};

/// The q, k and v of a batch; text i is the rows `offsets[i]..offsets[i + 1]`.
pub(super) struct Batch {
    pub(super) heads: Heads,
    pub(super) offsets: Vec<usize>,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
}

impl Batch {
    pub(super) fn new(heads: Heads, lengths: &[usize], magnitude: f32, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut offsets = vec![0];
        lengths.iter().for_each(|len| offsets.push(offsets.last().unwrap() + len));
        let rows = *offsets.last().unwrap();
        let mut values = |cols, magnitude: f32| random.normals(rows * cols).iter().map(|x| x * magnitude).collect();
        let kv = heads.kv_heads * heads.head_dim;
        let (q, k, v) = (values(heads.heads * heads.head_dim, magnitude), values(kv, magnitude), values(kv, 1.0));
        Self { heads, offsets, q, k, v }
    }

    pub(super) fn q_cols(&self) -> usize {
        self.heads.heads * self.heads.head_dim
    }

    pub(super) fn kv_cols(&self) -> usize {
        self.heads.kv_heads * self.heads.head_dim
    }

    /// The first `len` tokens of text `text`, by themselves.
    pub(super) fn alone(&self, text: usize, len: usize) -> Self {
        let start = self.offsets[text];
        let rows = |x: &[f32], cols: usize| x[start * cols..(start + len) * cols].to_vec();
        let (q, k) = (rows(&self.q, self.q_cols()), rows(&self.k, self.kv_cols()));
        Self { heads: self.heads, offsets: vec![0, len], q, k, v: rows(&self.v, self.kv_cols()) }
    }

    /// Computed in `form`: floats, or bfloat16 or 16-bit integers of a tier that multiplies those.
    pub(super) fn run(&self, backend: &CpuBackend, form: Form) -> Vec<f32> {
        let rows = *self.offsets.last().unwrap();
        let (q, k) = (tensor(backend, rows, self.q_cols(), &self.q), tensor(backend, rows, self.kv_cols(), &self.k));
        let v = tensor(backend, rows, self.kv_cols(), &self.v);
        if form == F32 {
            let mut out = backend.activations(rows, self.q_cols(), form);
            backend.attention(self.heads, &texts(&self.offsets), &q, &k, &v, &mut out);
            return out.f32.to_vec();
        }
        let Heads { heads, kv_heads, head_dim } = self.heads;
        let coarse = backend.isa.tier.coarse_attention().filter(|attention| attention.takes(head_dim));
        let shape = Shape { group: heads / kv_heads, head_dim, q_stride: q.stride };
        backend.read(&backend.attended(coarse, shape, &texts(&self.offsets), (&q, &k, &v)))
    }

    /// Calls `f(index, value, tolerance)` for each value of the output, from operands that are rounded as `form` says.
    fn expect(&self, form: Form, mut f: impl FnMut(usize, f64, f64)) {
        let Heads { heads, kv_heads, head_dim: dim } = self.heads;
        // In bfloat16, queries are scaled before they are rounded, to have the scores of a softmax by powers of two.
        let scale = std::f32::consts::LOG2_E / (dim as f32).sqrt();
        let rounded = |x: &[f32], largest: f32| match form {
            F32 => (x.to_vec(), vec![]),
            BF16 => (x.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect(), vec![]),
            _ => to_codes(x, dim, largest),
        };
        let scaled: Vec<f32> = self.q.iter().map(|q| if form == BF16 { q * scale } else { *q }).collect();
        // 128 products of codes fit a 32-bit sum; fewer dimensions leave room for larger codes.
        let largest = ((i32::MAX as usize / dim) as f64).sqrt().floor().min(32767.0) as f32;
        let (all_q, all_k, (all_v, value_scales)) =
            (rounded(&scaled, largest).0, rounded(&self.k, largest).0, rounded(&self.v, WEIGHT_CODE));
        let root = if form == BF16 { std::f64::consts::LOG2_E } else { (dim as f64).sqrt() };
        // A weight is rounded too.
        let weight_error = if form == BF16 { 2f64.powi(-8) } else { 0.0 };
        for text in self.offsets.windows(2) {
            for token in text[0]..text[1] {
                for head in 0..heads {
                    let kv = head / (heads / kv_heads) * dim;
                    let at = token * self.q_cols() + head * dim;
                    let q = &all_q[at..at + dim];
                    let seen: Vec<usize> = (text[0]..=token).map(|key| key * self.kv_cols() + kv).collect();
                    let scores: Vec<(f64, f64)> = seen.iter().map(|k| dot(q, &all_k[*k..k + dim])).collect();
                    let max = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(s.0 / root));
                    let weights: Vec<f64> = scores.iter().map(|s| (s.0 / root - max).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    // A score is off by two roundings for each of dim products (where they are not fused), two of the
                    // scaled query and two of its scale; its distance to the maximum by one more. That is by how much,
                    // relatively, its weight is off, besides 2e-7 of exp2; and the maximum's own error cancels.
                    let errors: Vec<f64> = scores
                        .iter()
                        .map(|s| U * ((2 * dim + 4) as f64 * s.1 / root + (s.0 / root - max).abs()) + 2e-7)
                        .collect();
                    let mean = weights.iter().zip(&errors).map(|(w, e)| w * e).sum::<f64>() / sum;
                    // Sums of weights and of weighted values round twice a key; each block of keys may rescale what was
                    // there, by a factor that is off by 2e-7 and rounds twice.
                    let blocks = (token - text[0]) / KEYS;
                    let sums = U * (4 * seen.len() + 2 * blocks + 2) as f64 + 2e-7 * blocks as f64;
                    // A weight times the scale of its value becomes a code: it is off by half a step, of which there are
                    // so many to the largest of its block.
                    let scale_of = |key: usize| f64::from(value_scales[(text[0] + key) * kv_heads + kv / dim]);
                    let steps: Vec<f64> = if form == I16 {
                        let of_block = |(block, weights): (usize, &[f64])| {
                            let scaled = weights.iter().enumerate().map(|(i, w)| w * scale_of(block * I16_KEYS + i));
                            scaled.fold(0.0, f64::max) / f64::from(WEIGHT_CODE)
                        };
                        weights.chunks(I16_KEYS).enumerate().map(of_block).collect()
                    } else {
                        vec![]
                    };
                    for d in 0..dim {
                        let (mut value, mut tolerance) = (0.0, 0.0);
                        for (key, ((k, w), e)) in seen.iter().zip(&weights).zip(&errors).enumerate() {
                            let v = f64::from(all_v[k + d]);
                            if form == I16 && v != 0.0 {
                                tolerance += 0.5 * steps[key / I16_KEYS] * v.abs() / scale_of(key) / sum * 1.1;
                            }
                            value += w / sum * v;
                            // First order in the errors; their squares are within a tenth of it while e < 0.1.
                            tolerance += w / sum * v.abs() * (e + mean + sums + weight_error) * 1.1;
                        }
                        f(at + d, value, tolerance);
                    }
                }
            }
        }
    }

    fn check(&self, backend: &CpuBackend, form: Form, what: &str) {
        let ours = self.run(backend, form);
        let coarse = backend.isa.tier.coarse_attention().is_some_and(|attention| attention.takes(self.heads.head_dim));
        self.expect(if coarse { form } else { F32 }, |i, expected, tolerance| {
            let what = || {
                let (token, column) = (i / self.q_cols(), i % self.q_cols());
                format!("{} {what} {:?} {form:?}: token {token} column {column}", backend.isa.name, self.heads)
            };
            assert_close(what, ours[i], expected, tolerance);
        });
    }
}

/// Keys of a block, and the largest code of a value or a weight, of attention in codes.
const I16_KEYS: usize = 128;
const WEIGHT_CODE: f32 = 4095.0;

/// Rows of `dim` values as codes with a scale each: what they stand for, and the scales.
fn to_codes(x: &[f32], dim: usize, largest: f32) -> (Vec<f32>, Vec<f32>) {
    let (mut values, mut scales) = (vec![], vec![]);
    for row in x.chunks(dim) {
        let most = row.iter().fold(0f32, |m, x| m.max(x.abs()));
        let (scale, inverse) = if most == 0.0 { (0.0, 0.0) } else { (most * (1.0 / largest), largest / most) };
        values.extend(row.iter().map(|x| scale * (x * inverse).round_ties_even()));
        scales.push(scale);
    }
    (values, scales)
}

/// Texts end to end that share nothing.
fn texts(offsets: &[usize]) -> Vec<Node> {
    offsets.windows(2).map(|o| Node { parent: None, rows: o[0]..o[1], queries: o[0]..o[1] }).collect()
}

/// Every tier on `threads` threads, with every form of attention that it has.
pub(super) fn backends(threads: usize) -> impl Iterator<Item = (CpuBackend, Form)> {
    isas().flat_map(move |isa| {
        let coarse = isa.tier.coarse_attention().map(|attention| if attention.serves == BF16 { BF16 } else { I16 });
        let forms = [F32].into_iter().chain(coarse);
        forms.map(move |form| (CpuBackend::new(isa, threads), form))
    })
}

/// A small head that every form of attention can have.
pub(super) fn small_dim(form: Form) -> usize {
    if form == F32 { 24 } else { 32 }
}

/// Σ a · b and Σ |a · b|.
fn dot(a: &[f32], b: &[f32]) -> (f64, f64) {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs()))
}

#[test]
fn every_length_around_a_border() {
    for (backend, form) in backends(1) {
        for len in [1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 300] {
            let heads = Heads { heads: 2, kv_heads: 1, head_dim: small_dim(form) };
            Batch::new(heads, &[len], 1.0, len as u64).check(&backend, form, &format!("{len} tokens"));
        }
    }
}

#[test]
fn every_shape_of_heads() {
    for (backend, form) in backends(2) {
        for head_dim in [2, 24, 64, 80, 128] {
            for (heads, kv_heads) in [(1, 1), (2, 2), (4, 2), (4, 1), (6, 2), (3, 1)] {
                let heads = Heads { heads, kv_heads, head_dim };
                // The first text of all and the last; texts shorter and longer than a block; one without tokens.
                Batch::new(heads, &[3, 70, 0, 1, 40], 1.0, 21).check(&backend, form, "texts of 3, 70, 0, 1, 40");
            }
        }
    }
}

/// Scores in the thousands: a softmax that is all but a choice, where the running maximum has to be subtracted.
#[test]
fn large_scores_do_not_overflow() {
    for (backend, form) in backends(1) {
        for (head_dim, seed) in [(24, 1), (128, 2)] {
            let heads = Heads { heads: 4, kv_heads: 2, head_dim };
            Batch::new(heads, &[1, 150], 30.0, seed).check(&backend, form, "q and k times 30");
        }
    }
}

/// The maximum grows from block to block, so that everything is rescaled each time; then it stays.
#[test]
fn a_growing_maximum_rescales() {
    for (backend, form) in backends(1) {
        for falling in [false, true] {
            let (head_dim, len) = (small_dim(form), 260);
            let heads = Heads { heads: 1, kv_heads: 1, head_dim };
            let mut batch = Batch::new(heads, &[len], 1.0, 3);
            batch.q.fill(0.5);
            for (i, k) in batch.k.chunks_mut(head_dim).enumerate() {
                let step = if falling { len - i } else { i };
                k.fill(0.02 * step as f32);
            }
            batch.check(&backend, form, "sorted scores");
        }
    }
}

/// A text that holds NaN is broken; its neighbours are not, and in it no token before the block of the broken one.
#[test]
fn a_broken_text_harms_no_other() {
    for (backend, form) in backends(1) {
        let dim = small_dim(form);
        let heads = Heads { heads: 2, kv_heads: 1, head_dim: dim };
        let good = Batch::new(heads, &[20, 130, 33], 1.0, 4);
        let expected = good.run(&backend, form);
        // Not infinity in k: its score may be minus infinity, whose weight is zero, and that is right.
        for (poison, what) in
            [(f32::NAN, "q"), (f32::NAN, "k"), (f32::NAN, "v"), (f32::INFINITY, "q"), (f32::INFINITY, "v")]
        {
            let mut bad = Batch::new(heads, &[20, 130, 33], 1.0, 4);
            let token = 20 + 70;
            match what {
                "q" => bad.q[token * 2 * dim + 5] = poison,
                "k" => bad.k[token * dim + 5] = poison,
                _ => bad.v[token * dim + 5] = poison,
            }
            let ours = bad.run(&backend, form);
            let before = match form {
                F32 => 70 / KEYS * KEYS,
                BF16 => 0,
                _ => 70,
            };
            let (before, after) = ((20 + before) * 2 * dim, 150 * 2 * dim);
            assert_bits("before", &ours[..before], &expected[..before]);
            assert_bits("after", &ours[after..], &expected[after..]);
            let of_token = &ours[token * 2 * dim..][..dim];
            assert!(of_token.iter().any(|x| !x.is_finite()), "{} {poison} in {what}", backend.isa.name);
            if what != "q" {
                let last = &ours[149 * 2 * dim..][..dim];
                assert!(last.iter().any(|x| !x.is_finite()), "{} {poison} before the last token", backend.isa.name);
            }
        }
    }
}

/// What becomes 8-bit codes or bfloat16 may come from attention in 16 bits, if the tier has one; all else comes from f32.
#[test]
fn attention_is_as_fine_as_what_comes_next() {
    let residual = Form { bf16: true, bf16_residual: true, ..Form::NONE };
    for isa in isas() {
        let (backend, heads) = (CpuBackend::new(isa, 1), Heads { heads: 2, kv_heads: 1, head_dim: 32 });
        let batch = Batch::new(heads, &[20, 150], 1.0, 5);
        let (rows, cols) = (170, batch.q_cols());
        let (q, k) = (tensor(&backend, rows, cols, &batch.q), tensor(&backend, rows, batch.kv_cols(), &batch.k));
        let v = tensor(&backend, rows, batch.kv_cols(), &batch.v);
        let in_floats = batch.run(&backend, F32);
        let coarse = isa.tier.coarse_attention().map(|attention| {
            let form = if attention.serves == BF16 { BF16 } else { I16 };
            (form, batch.run(&backend, form))
        });
        for form in [F32, I8, I8_UNIFORM, I16, BF16, residual, I8 | I16] {
            let expected = match &coarse {
                Some((BF16, values)) if form == BF16 => values,
                Some((I16, values)) if form == I8 || form == I8_UNIFORM => values,
                _ => &in_floats,
            };
            let expected = acts(&backend, rows, cols, form, expected);
            let mut ours = backend.activations(rows, cols, form);
            backend.attention(heads, &texts(&batch.offsets), &q, &k, &v, &mut ours);
            let what = format!("{} {form:?}", isa.name);
            assert_bits(&what, &ours.f32, &expected.f32);
            assert_eq!(&ours.i8.codes[..], &expected.i8.codes[..], "{what}");
            assert_eq!(&ours.i8_uniform.codes[..], &expected.i8_uniform.codes[..], "{what}");
            assert_eq!(&ours.i16.codes[..], &expected.i16.codes[..], "{what}");
            assert_eq!(&ours.bf16.values[..], &expected.bf16.values[..], "{what}");
            assert_eq!(&ours.bf16.residual[..], &expected.bf16.residual[..], "{what}");
        }
    }
}
