//! The naive product: dequantized weights, a dot product in f64, and the magnitudes that bound a rounding error.

use super::{Acts, Format, Isa, U};
use crate::cpu::ops::quantize::GROUP;
use crate::formats::{Block, with_block};

/// A dequantized weight matrix [n × k].
pub(super) struct Dense {
    pub(super) k: usize,
    pub(super) values: Vec<f32>,
    /// |scale · code| + |min| of each value: what the roundings inside of a value are relative to.
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
        (scale * f64::from(codes[i])).abs() + if B::HAS_MIN { min.abs() } else { 0.0 }
    };
    (0..B::LEN).map(size).collect()
}

/// The activations that a product sees: scale · code, exact in f64.
pub(super) fn seen(isa: &Isa, acts: &Acts, row: usize) -> Vec<f64> {
    let scale = |i: usize| f64::from(acts.scales[(row * acts.cols + i) / GROUP]);
    (0..acts.cols).map(|i| scale(i) * f64::from(code(isa, acts, row * acts.cols + i))).collect()
}

/// Bytes of an activation code; 0 for a tier that multiplies floats only.
pub(super) fn code_bytes(isa: &Isa) -> usize {
    isa.integer.as_ref().map_or(0, |integer| integer.code_bytes)
}

/// Code `i` of all.
pub(super) fn code(isa: &Isa, acts: &Acts, i: usize) -> i16 {
    match code_bytes(isa) {
        1 => i16::from(acts.codes[i] as i8),
        2 => i16::from_ne_bytes([acts.codes[2 * i], acts.codes[2 * i + 1]]),
        bytes => unreachable!("codes of {bytes} bytes"),
    }
}

/// Bound on the rounding error of a product, by integer codes or by floats, relative to Σ |x| · size(w).
///
/// Codes: the integer sums are exact. Per group: conversion to f32, times the weight scale, min · sum added
/// (two roundings where that is not fused), times the activation scale: 5 roundings, then one addition per group. The
/// oracle's weights carry two roundings more (see [`Block`]). Floats, whose weights are the oracle's: two roundings for each of the k values
/// where multiply-add is not fused. One more each for what compounds (k · U is far below 1).
pub(super) fn rounding(format: Format, k: usize, codes: bool) -> f64 {
    U * if codes { k / format.group_len() + 8 } else { 2 * k + 1 } as f64
}
