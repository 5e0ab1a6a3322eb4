//! Attention of texts that stand alone, and of those that have their beginnings in common.

use super::floats::reading;
use super::operands::{Reader, Rows, begin, place, same, within};
use super::subject::{Subject, Test, U};
use crate::backend::{Backend, Heads, Node};
use crate::random::Random;
use std::ops::Range;

/// What attention takes.
#[derive(Clone)]
pub(super) struct Operands {
    heads: Heads,
    q: Rows,
    k: Rows,
    v: Rows,
}

impl Operands {
    pub(super) fn new(heads: Heads, rows: usize, magnitude: f32, seed: u64) -> Self {
        let mut random = Random(seed);
        let (q_cols, kv_cols) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        let [mut q, mut k, v] = [q_cols, kv_cols, kv_cols].map(|cols| Rows::normal(&mut random, rows, cols));
        [&mut q, &mut k].into_iter().flat_map(|rows| &mut rows.values).for_each(|x| *x *= magnitude);
        Self { heads, q, k, v }
    }

    fn part(&self, rows: Range<usize>) -> Self {
        let part = |x: &Rows| x.part(rows.start, rows.len());
        Self { heads: self.heads, q: part(&self.q), k: part(&self.k), v: part(&self.v) }
    }

    /// The rows of these parts, one after the other.
    fn parts(&self, parts: &[Range<usize>]) -> Self {
        let of = |x: &Rows| {
            let values = parts.iter().flat_map(|part| x.part(part.start, part.len()).values).collect();
            Rows { cols: x.cols, values }
        };
        Self { heads: self.heads, q: of(&self.q), k: of(&self.k), v: of(&self.v) }
    }

    pub(super) fn run<B: Backend>(&self, backend: &B, nodes: &[Node]) -> Result<Vec<f32>, String> {
        begin(backend)?;
        let (rows, cols) = (self.q.rows(), self.q.cols);
        let reader = Reader::new(backend, cols)?;
        let mut out = backend.activations(rows, cols, reader.form);
        let (q, k, v) = (self.q.tensor(backend)?, self.k.tensor(backend)?, self.v.tensor(backend)?);
        backend.attention(self.heads, nodes, &q, &k, &v, &mut out);
        reader.read(backend, rows, &out)
    }

    /// How far a value may be off between two devices, for texts of up to `longest` tokens.
    ///
    /// A score is off by two roundings for each of `head_dim` products and a few for its scale, relative to Σ |q k|, which is at most
    /// the product of both lengths; its distance to the maximum rounds once. That, besides 4e-7 of the exponential, is by how much its
    /// weight is off, relatively; the mean of that goes into the sum of weights. Sums round twice a key, and are rescaled for each
    /// block of keys, of 32 or more. All of that on each of two devices, to second order: a tenth.
    fn bound(&self, longest: usize) -> f64 {
        let Heads { head_dim: dim, .. } = self.heads;
        let longest_of = |x: &Rows| {
            let length = |head: &[f32]| head.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            x.values.chunks(dim).map(length).fold(0.0, f64::max)
        };
        let size = longest_of(&self.q) * longest_of(&self.k) / (dim as f64).sqrt();
        let largest = self.v.values.iter().fold(0f32, |most, x| most.max(x.abs()));
        let weight = U * ((2 * dim + 6) as f64 * size + 2.0 * size) + 4e-7;
        let sums = U * (4 * longest + longest / 16 + 4) as f64 + 4e-7 * (longest / 32) as f64;
        2.0 * 1.1 * (2.0 * weight + sums) * f64::from(largest)
    }
}

/// Texts end to end that share nothing.
pub(super) fn texts(lengths: &[usize]) -> Vec<Node> {
    let mut end = 0;
    let node = |len: &usize| {
        let rows = end..end + len;
        end += len;
        Node { parent: None, rows: rows.clone(), queries: rows }
    };
    lengths.iter().map(node).collect()
}

const LENGTHS: [usize; 6] = [3, 70, 1, 64, 129, 33];

fn heads() -> impl Iterator<Item = Heads> {
    let shapes = [(4, 1, 128), (4, 2, 128), (2, 2, 64), (6, 2, 64)];
    shapes.into_iter().map(|(heads, kv_heads, head_dim)| Heads { heads, kv_heads, head_dim })
}

/// Scores of the order of 1, then in the thousands, where a softmax is all but a choice.
fn values<B: Subject>(test: &Test<B>, heads: Heads, magnitude: f32) -> Result<String, String> {
    let operands = Operands::new(heads, LENGTHS.iter().sum(), magnitude, 21);
    let nodes = texts(&LENGTHS);
    let expected = operands.run(&test.plain, &nodes)?;
    let ours = operands.run(test.subject, &nodes)?;
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let longest = LENGTHS.into_iter().max().unwrap_or_default();
    let bound = operands.bound(longest) + reading(test.subject, operands.q.cols)? * f64::from(largest);
    let worst = within(&ours, &expected, |_| bound, place(operands.q.cols))?;
    Ok(format!("worst {:.0} % of its bound", 100.0 * worst))
}

/// Each text as it is alone; so is its last token by itself, and what continues a beginning that others have too.
fn bits<B: Subject>(test: &Test<B>, heads: Heads) -> Result<String, String> {
    let (backend, cols) = (test.subject, heads.heads * heads.head_dim);
    let operands = Operands::new(heads, LENGTHS.iter().sum(), 2.0, 22);
    let nodes = texts(&LENGTHS);
    let all = operands.run(backend, &nodes)?;
    for (i, node) in nodes.iter().enumerate() {
        let alone = operands.part(node.rows.clone()).run(backend, &texts(&[node.rows.len()]))?;
        let of_text = &all[node.rows.start * cols..node.rows.end * cols];
        same(of_text, &alone, place(cols))
            .map_err(|error| format!("text {} of {} alone: {error}", i + 1, nodes.len()))?;
    }
    // Last tokens alone.
    let last: Vec<Range<usize>> = nodes.iter().map(|node| node.rows.end - 1..node.rows.end).collect();
    let only = Operands { q: operands.parts(&last).q, ..operands.clone() };
    let ends: Vec<Node> =
        nodes.iter().enumerate().map(|(i, node)| Node { queries: i..i + 1, ..node.clone() }).collect();
    let expected: Vec<f32> = last.iter().flat_map(|rows| &all[rows.start * cols..rows.end * cols]).copied().collect();
    same(&only.run(backend, &ends)?, &expected, place(cols)).map_err(|error| format!("last tokens: {error}"))?;
    // A text in three runs of tokens, of which the first two are there once, beside one that has the first alone.
    for [first, second, third] in [[5, 40, 3], [64, 64, 1], [33, 31, 70], [1, 1, 130]] {
        let (a, b) = (first, first + second);
        let one = Operands::new(heads, b + third, 2.0, 23);
        let other = Operands::new(heads, 37, 2.0, 24);
        let joined = |x: &Rows, y: &Rows| Rows { cols: x.cols, values: [&x.values[..], &y.values].concat() };
        let both =
            Operands { heads, q: joined(&one.q, &other.q), k: joined(&one.k, &other.k), v: joined(&one.v, &other.v) };
        let node = |parent, rows: Range<usize>| Node { parent, rows: rows.clone(), queries: rows };
        let tree = [
            node(None, 0..a),
            node(Some(0), a..b),
            node(Some(1), b..b + third),
            node(Some(0), b + third..b + third + 37),
        ];
        let ours = both.run(backend, &tree)?;
        let whole = one.run(backend, &texts(&[b + third]))?;
        let what = |error| format!("{first}, {second} and {third} tokens, one after the other: {error}");
        same(&ours[..whole.len()], &whole, place(cols)).map_err(what)?;
        let branch = both.parts(&[0..a, b + third..b + third + 37]).run(backend, &texts(&[a + 37]))?;
        same(&ours[whole.len()..], &branch[a * cols..], place(cols))
            .map_err(|error| format!("another end: {}", what(error)))?;
    }
    Ok("the bits of each text alone, whatever it shares".into())
}

pub(super) fn run<B: Subject>(test: &mut Test<B>) {
    for heads in heads() {
        let Heads { heads: count, kv_heads, head_dim } = heads;
        let name = format!("attention of {count} on {kv_heads} heads of {head_dim}");
        test.tell(name.clone(), values(test, heads, 1.0));
        test.tell(format!("{name}, scores in the hundreds"), values(test, heads, 12.0));
        test.tell(format!("{name}, bits"), bits(test, heads));
    }
}
