//! The naive product: dequantized weights, a dot product in f64, and the magnitudes that bound a rounding error.

use super::{Acts, Codes, Form, Format, U};
use crate::cpu::ops::quantize::GROUP;
use crate::cpu::simd::Code;
use crate::formats::{Block, with_block};

/// A dequantized weight matrix [n × k].
pub(super) struct Dense {
    pub(super) k: usize,
    pub(super) values: Vec<f32>,
    /// |scale · code| + |min| of each value, as far apart as kernels take them: what roundings are relative to.
    pub(super) sizes: Vec<f64>,
}

impl Dense {
    pub(super) fn new(format: Format, bytes: &[u8], n: usize, k: usize) -> Self {
        let mut values = vec![0.0; n * k];
        format.dequantize(bytes, &mut values);
        let sizes = with_block!(
            format,
            B => bytes.chunks_exact(B::BYTES).flat_map(sizes::<B>).collect(),
            float => values.iter().map(|x| f64::from(x.abs())).collect(),
        );
        Self { k, values, sizes }
    }

    /// Σ x · w, Σ |x| · size(w) and, for each group, Σ size(w).
    pub(super) fn dot(&self, x: &[f64], row: usize) -> (f64, f64) {
        let range = row * self.k..(row + 1) * self.k;
        let (mut value, mut size) = (0.0, 0.0);
        for ((x, w), s) in x.iter().zip(&self.values[range.clone()]).zip(&self.sizes[range]) {
            value += x * f64::from(*w);
            size += x.abs() * s;
        }
        (value, size)
    }

    /// How far a product may be off because activations were quantized with `scales` (one per group of the row): half a
    /// step for each value, as |x − scale · code| <= scale / 2.
    pub(super) fn quantization(&self, scales: &[f32], row: usize) -> f64 {
        let sizes = self.sizes[row * self.k..(row + 1) * self.k].chunks(GROUP);
        scales.iter().zip(sizes).map(|(scale, sizes)| f64::from(*scale) / 2.0 * sizes.iter().sum::<f64>()).sum()
    }
}

fn sizes<B: Block>(block: &[u8]) -> Vec<f64> {
    let (mut codes, mut scales, mut mins) = (vec![0; B::LEN], [0f32; 16], [0f32; 16]);
    B::unpack(block, &mut codes, &mut scales, &mut mins);
    let size = |i: usize| {
        let (scale, min) = (f64::from(scales[i / B::GROUP]), f64::from(mins[i / B::GROUP]));
        // What a kernel may take apart: signed codes of up to six bits into an unsigned one and a min.
        let (lowest, highest) = (f64::from(B::CODES.0), f64::from(B::CODES.1));
        let apart = if highest - lowest < 64.0 { lowest } else { 0.0 };
        let code = (f64::from(codes[i]) - apart).abs() + apart.abs();
        (scale * code).abs() + if B::HAS_MIN { min.abs() } else { 0.0 }
    };
    (0..B::LEN).map(size).collect()
}

/// Quantized activations, all of it row by row.
pub(super) struct Quantized {
    pub(super) max: i16,
    pub(super) codes: Vec<i16>,
    pub(super) scales: Vec<f32>,
    pub(super) half_sums: Vec<f32>,
    pub(super) sums: Vec<f32>,
    /// Empty for 16-bit codes.
    pub(super) half_biases: Vec<i32>,
    pub(super) biases: Vec<i32>,
}

impl Quantized {
    fn new<C: Code + Into<i16>>(acts: &Acts, codes: &Codes<C>) -> Self {
        fn rows<T: Copy>(acts: &Acts, grouped: &[T]) -> Vec<T> {
            let row = |row: usize| grouped.chunks_exact(acts.stride).map(move |group| group[row]);
            (0..acts.rows).flat_map(row).collect()
        }
        Self {
            max: C::MAX as i16,
            codes: codes.codes.iter().map(|code| (*code).into()).collect(),
            scales: rows(acts, &codes.scales),
            half_sums: rows(acts, &codes.half_sums),
            sums: rows(acts, &codes.sums),
            half_biases: rows(acts, &codes.half_biases),
            biases: rows(acts, &codes.biases),
        }
    }

    /// The codes that weights of a form multiply; `None`: they multiply floats.
    pub(super) fn of(form: Form, acts: &Acts) -> Option<Self> {
        match form {
            Form { bytes: true, .. } => Some(Self::new(acts, &acts.bytes)),
            Form { words: true, .. } => Some(Self::new(acts, &acts.words)),
            Form { .. } => None,
        }
    }

    /// A row as a product sees it: scale · code, exact in f64.
    pub(super) fn seen(&self, row: usize, cols: usize) -> Vec<f64> {
        let value = |i: usize| f64::from(self.scales[i / GROUP]) * f64::from(self.codes[i]);
        (row * cols..(row + 1) * cols).map(value).collect()
    }
}

/// Bound on the rounding error of a product, by integer codes or by floats, relative to Σ |x| · size(w).
///
/// Codes: the integer sums are exact. Per group: conversion to f32, times the weight scale, min · sum added
/// (two roundings where that is not fused), times the activation scale: 5 roundings, then one addition per group; one
/// more for a min that is made of a scale. The oracle's weights carry two roundings more (see [`Block`]). Floats, whose
/// weights are the oracle's: two roundings for each of the k values where multiply-add is not fused. One more each for
/// what compounds (k · U is far below 1).
pub(super) fn rounding(format: Format, k: usize, codes: bool) -> f64 {
    U * if codes { k / format.group_len() + 9 } else { 2 * k + 1 } as f64
}
