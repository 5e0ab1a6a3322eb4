//! How near the vectors of a level come to those of the reference, and how well they find what they should.

use super::texts::Relevant;
use serde::{Deserialize, Serialize};

/// Neighbours that are compared, and results that are judged.
const TOP: usize = 10;
/// Texts whose pairs are ranked: 80,000 similarities.
const RANKED: usize = 400;
/// Texts whose neighbours are compared.
const COMPARED: usize = 2000;

/// The quality of a level at some number of dimensions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Quality {
    pub(super) dimensions: usize,
    /// Against the reference cut to the same dimensions, text by text: mean, first percentile and worst.
    pub(super) cosine_mean: f64,
    pub(super) cosine_p1: f64,
    pub(super) cosine_worst: f64,
    /// Rank correlation of the similarities of all pairs with those of the reference at its full dimensions.
    pub(super) spearman: f64,
    /// Of the ten nearest texts by the full reference, the part that is among the ten nearest here.
    pub(super) overlap: f64,
    /// Where relevance is known.
    pub(super) ndcg: Option<f64>,
    pub(super) recall: Option<f64>,
}

/// The vectors of one model, [texts × dimensions], each of length 1.
#[derive(Clone)]
pub(super) struct Vectors {
    values: Vec<f32>,
    dimensions: usize,
}

impl Vectors {
    pub(super) fn new(values: Vec<f32>, dimensions: usize) -> Self {
        assert_eq!(values.len() % dimensions, 0, "whole vectors");
        Self { values, dimensions }
    }

    fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dimensions..][..self.dimensions]
    }

    /// The first dimensions, at length 1 again.
    fn cut(&self, dimensions: usize) -> Vectors {
        let mut values = Vec::with_capacity(self.len() * dimensions);
        for i in 0..self.len() {
            let row = &self.row(i)[..dimensions];
            let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            values.extend(row.iter().map(|x| (f64::from(*x) / length) as f32));
        }
        Vectors { values, dimensions }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Judges `found` against `reference` at the given dimensions. The first `relevant.len()` texts are queries, the others
/// passages; there are no queries where nothing is known of relevance.
pub(super) fn judge(reference: &Vectors, found: &Vectors, dimensions: usize, relevant: &Relevant) -> Quality {
    let cut = found.cut(dimensions);
    let same = reference.cut(dimensions);
    let mut cosines: Vec<f64> = (0..cut.len()).map(|i| cosine(same.row(i), cut.row(i))).collect();
    cosines.sort_by(f64::total_cmp);
    let (ndcg, recall) = if relevant.is_empty() { (None, None) } else { retrieval(&cut, relevant) };
    Quality {
        dimensions,
        cosine_mean: cosines.iter().sum::<f64>() / cosines.len() as f64,
        cosine_p1: cosines[cosines.len() / 100],
        cosine_worst: cosines[0],
        spearman: spearman(&similarities(reference), &similarities(&cut)),
        overlap: overlap(reference, &cut),
        ndcg,
        recall,
    }
}

/// In f64: near 1, an f32 sum would not tell levels apart.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// At most `limit` of `len` texts, evenly spread.
fn spread(len: usize, limit: usize) -> Vec<usize> {
    let count = len.min(limit);
    (0..count).map(|i| i * len / count).collect()
}

fn similarities(vectors: &Vectors) -> Vec<f32> {
    let chosen = spread(vectors.len(), RANKED);
    let pairs = chosen.iter().enumerate().flat_map(|(at, i)| chosen[..at].iter().map(move |j| (*i, *j)));
    pairs.map(|(i, j)| dot(vectors.row(i), vectors.row(j))).collect()
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let mean = start as f64 + (group.len() - 1) as f64 / 2.0;
        group.iter().for_each(|i| ranks[*i] = mean);
        start += group.len();
    }
    ranks
}

/// Spearman's rank correlation: that of the ranks.
fn spearman(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

/// The `TOP` of `candidates` nearest to text `of`, nearest first; of equally near ones the first.
fn nearest(vectors: &Vectors, of: usize, candidates: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut scored: Vec<(f32, usize)> = candidates.map(|i| (dot(vectors.row(of), vectors.row(i)), i)).collect();
    let by_score = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if scored.len() > TOP {
        scored.select_nth_unstable_by(TOP - 1, by_score);
        scored.truncate(TOP);
    }
    scored.sort_by(by_score);
    scored.into_iter().map(|(_, i)| i).collect()
}

fn overlap(reference: &Vectors, found: &Vectors) -> f64 {
    let chosen = spread(reference.len(), COMPARED);
    let of = |vectors: &Vectors, i: usize| nearest(vectors, i, chosen.iter().copied().filter(|j| *j != i));
    let shares = chosen.iter().map(|i| {
        let expected = of(reference, *i);
        let found = of(found, *i);
        found.iter().filter(|i| expected.contains(i)).count() as f64 / expected.len().max(1) as f64
    });
    shares.sum::<f64>() / chosen.len() as f64
}

/// nDCG@10 with linear gain, as trec_eval has it, and recall@10: means over the queries.
fn retrieval(vectors: &Vectors, relevant: &Relevant) -> (Option<f64>, Option<f64>) {
    let queries = relevant.len();
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let (mut ndcg, mut recall) = (0.0, 0.0);
    for (query, grades) in relevant.iter().enumerate() {
        let found = nearest(vectors, query, queries..vectors.len());
        let grade =
            |passage: usize| grades.iter().find(|(wanted, _)| *wanted == passage - queries).map_or(0.0, |g| g.1);
        let gain: f64 = found.iter().enumerate().map(|(rank, i)| grade(*i) * discount(rank)).sum();
        let mut best: Vec<f64> = grades.iter().map(|(_, grade)| *grade).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let ideal: f64 = best.iter().take(TOP).enumerate().map(|(rank, grade)| grade * discount(rank)).sum();
        ndcg += gain / ideal;
        recall += found.iter().filter(|i| grade(**i) > 0.0).count() as f64 / grades.len() as f64;
    }
    (Some(ndcg / queries as f64), Some(recall / queries as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against scipy.stats.spearmanr([1, 2, 2, 4, 0], [2, 1, 3, 5, 0]) = 0.8207826816681234.
    #[test]
    fn spearman_is_scipys() {
        let rho = spearman(&[1.0, 2.0, 2.0, 4.0, 0.0], &[2.0, 1.0, 3.0, 5.0, 0.0]);
        assert!((rho - 0.820_782_681_668_123_4).abs() < 1e-12, "{rho}");
    }

    /// Two queries over three passages, worked out by hand: the first finds its passage at rank 2, the second at rank 1 and
    /// the less relevant one at rank 3.
    #[test]
    fn retrieval_by_hand() {
        let vectors = Vectors::new(vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8, 0.8, 0.6, 0.96, 0.28], 2);
        let relevant: Relevant = vec![vec![(1, 1.0)], vec![(0, 2.0), (2, 1.0)]];
        let (ndcg, recall) = retrieval(&vectors, &relevant);
        let first = 1.0 / 3f64.log2();
        let second = (2.0 + 0.5) / (2.0 + 1.0 / 3f64.log2());
        assert!((ndcg.unwrap() - (first + second) / 2.0).abs() < 1e-12);
        assert_eq!(recall, Some(1.0));
    }

    #[test]
    fn a_model_equals_itself_and_noise_does_not() {
        let noise = |seed: u64| {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            };
            Vectors::new((0..64 * 32).map(|_| next()).collect(), 32).cut(32)
        };
        let (a, b) = (noise(1), noise(2));
        let same = judge(&a, &a, 32, &Vec::new());
        assert!((same.cosine_worst - 1.0).abs() < 1e-12 && (same.spearman - 1.0).abs() < 1e-12 && same.overlap == 1.0);
        let other = judge(&a, &b, 32, &Vec::new());
        // 63 candidates: ten at random have 10/63 in common; 2016 pairs: a correlation of 0 has deviation 0.022.
        assert!((other.overlap - 10.0 / 63.0).abs() < 0.08, "{other:?}");
        assert!(other.spearman.abs() < 0.11 && other.cosine_mean.abs() < 0.1, "{other:?}");
        let cut = judge(&a, &a, 16, &Vec::new());
        assert!((cut.cosine_worst - 1.0).abs() < 1e-6 && cut.spearman < 0.95 && cut.overlap < 1.0, "{cut:?}");
    }
}
