//! The naive product: dequantized weights, a dot product in f64, and the magnitudes that bound a rounding error.

use super::{Activations, Codes, Form, Format, U};
use crate::cpu::activations::GROUP;
use crate::cpu::ops::bf16::widen;
use crate::cpu::ops::quantize::TINY;
use crate::cpu::simd::Code;
use crate::formats::{Block, with_block};

/// A dequantized weight matrix [n × k].
pub(super) struct Dense {
    format: Format,
    k: usize,
    pub(super) values: Vec<f32>,
    /// What each value is made of; empty for floats.
    parts: Vec<Part>,
    /// The smallest and the largest code; whether there are mins.
    range: [i8; 2],
    has_min: bool,
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
        let (parts, range, has_min) = with_block!(
            format,
            B => (bytes.chunks_exact(B::BYTES).flat_map(parts::<B>).collect(), [B::CODES.0, B::CODES.1], B::HAS_MIN),
            float => (Vec::new(), [0; 2], false),
        );
        Self { format, k, values, parts, range, has_min, sizes }
    }

    /// Σ x · w and Σ |x| · size(w).
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

/// value = scale · code + min
struct Part {
    code: i8,
    scale: f32,
    min: f32,
}

fn parts<B: Block>(block: &[u8]) -> Vec<Part> {
    let (mut codes, mut scales, mut mins) = (vec![0; B::LEN], [0f32; 16], [0f32; 16]);
    B::unpack(block, &mut codes, &mut scales, &mut mins);
    let part = |i: usize| Part {
        code: codes[i],
        scale: scales[i / B::GROUP],
        min: if B::HAS_MIN { mins[i / B::GROUP] } else { 0.0 },
    };
    (0..B::LEN).map(part).collect()
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
}

impl Quantized {
    pub(super) fn new<C: Code + Into<i16>>(acts: &Activations, codes: &Codes<C>) -> Self {
        fn rows<T: Copy>(acts: &Activations, grouped: &[T]) -> Vec<T> {
            let row = |row: usize| grouped.chunks_exact(acts.stride).map(move |group| group[row]);
            (0..acts.rows).flat_map(row).collect()
        }
        Self {
            max: C::MAX as i16,
            codes: codes.codes.iter().map(|code| (*code).into()).collect(),
            scales: rows(acts, &codes.scales),
            half_sums: rows(acts, &codes.half_sums),
            sums: rows(acts, &codes.sums),
        }
    }

    /// A row as a product sees it: scale · code, exact in f64.
    fn seen(&self, row: usize, cols: usize) -> Vec<f64> {
        let value = |i: usize| f64::from(self.scales[i / GROUP]) * f64::from(self.codes[i]);
        (row * cols..(row + 1) * cols).map(value).collect()
    }
}

/// Values of bfloat16 as floats [rows × cols].
pub(super) fn bf16(acts: &Activations, values: &[u16]) -> Vec<f32> {
    let rows = values.chunks_exact(acts.bf16.row_stride);
    rows.flat_map(|row| &row[..acts.cols]).map(|bits| widen(*bits)).collect()
}

/// Activations as weights see them that have one scale for each [`GROUP`] values and no min.
pub(super) struct UniformSeen {
    /// [rows × cols]: scale · code, exact in f64.
    x: Vec<f64>,
    /// [rows × groups]
    scales: Vec<f32>,
}

impl UniformSeen {
    fn new(acts: &Activations) -> Self {
        let groups = acts.cols.div_ceil(GROUP);
        let scale = |row: usize, g: usize| acts.i8_uniform.scales[g * acts.stride + row];
        let value = |row: usize, i: usize| {
            f64::from(scale(row, i / GROUP)) * f64::from(acts.i8_uniform.codes[row * acts.i8_uniform.row_stride + i])
        };
        Self {
            x: (0..acts.rows).flat_map(|row| (0..acts.cols).map(move |i| (row, i))).map(|(r, i)| value(r, i)).collect(),
            scales: (0..acts.rows)
                .flat_map(|row| (0..groups).map(move |g| (row, g)))
                .map(|(r, g)| scale(r, g))
                .collect(),
        }
    }
}

/// A row of weights as `panel::uniform` leaves it, one value after the other, and how far each may be off.
fn requantized(dense: &Dense, row: usize) -> (Vec<f64>, Vec<f64>) {
    let range = row * dense.k..(row + 1) * dense.k;
    let parts = dense.parts[range].chunks(GROUP);
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    if dense.format.group_len() == GROUP && !dense.has_min {
        let exact = parts.flatten().map(|part| f64::from(part.scale) * f64::from(part.code)).collect();
        return (exact, vec![0.0; dense.k]);
    }
    for group in parts {
        let (ratio, _) = ratio_and_most(dense, &group[0]);
        let is_near = !ratio.is_finite() || (-(f32::from(dense.range[1]) + 0.5)..=0.5).contains(&ratio);
        let whole = dense.format.group_len() == GROUP && is_near;
        let (new_values, new_errors) = if whole { multiplied(dense, group) } else { rounded(dense, group) };
        values.extend(new_values);
        errors.extend(new_errors);
    }
    (values, errors)
}

/// A scale's 22 significant bits.
fn significant(scale: f32) -> f64 {
    f64::from(f32::from_bits(scale.to_bits() & !3))
}

/// The min in units of the scale, and the largest factor that keeps all values in a signed byte, as the kernel rounds them.
fn ratio_and_most(dense: &Dense, part: &Part) -> (f32, f32) {
    let Part { scale, min, .. } = *part;
    let largest = min.abs().max((scale * f32::from(dense.range[1]) + min).abs());
    let inverse = 1.0 / (scale * largest);
    (min * largest * inverse, (127.0 * scale * scale * inverse).abs().floor())
}

/// By `Recode::Multiply`: exact, but for a min that is no whole number of new codes.
fn multiplied(dense: &Dense, group: &[Part]) -> (Vec<f64>, Vec<f64>) {
    let Part { scale, min, .. } = group[0];
    // The scale's two lost bits and its roundings, of 127 steps at most.
    const LOST: f64 = 127.0 * 8.0 * U;
    if scale == 0.0 {
        let unit = significant(min * (1.0 / 127.0));
        return (vec![unit * 127.0; GROUP], vec![unit.abs() * LOST; GROUP]);
    }
    let (ratio, most) = ratio_and_most(dense, &group[0]);
    // The kernel compares what is rounded to 22 bits, and of equal ones takes the largest.
    let off = |factor: &f32| {
        let exact = factor * ratio;
        (exact - exact.round_ties_even()).abs().to_bits() & !3
    };
    let factor = [most, most - 1.0, most - 2.0, most - 3.0].into_iter().min_by_key(off).expect("four");
    let offset = f64::from((factor * ratio).round_ties_even());
    let off = (f64::from(factor) * f64::from(min) / f64::from(scale) - offset).abs();
    let unit = significant(scale / factor);
    let value = |part: &Part| unit * (f64::from(factor) * f64::from(part.code) + offset);
    (group.iter().map(value).collect(), vec![unit.abs() * (off + LOST); GROUP])
}

/// By `Recode::Round`: half a step of each, plus what its factor and offset, of 8 binary places, may add.
fn rounded(dense: &Dense, group: &[Part]) -> (Vec<f64>, Vec<f64>) {
    let [lowest, _] = dense.range;
    let (scale, inverse) = if dense.has_min {
        let ends = group.iter().flat_map(|part| dense.range.map(|code| part.scale * f32::from(code) + part.min));
        let largest = ends.fold(0f32, |largest, x| largest.max(x.abs()));
        (largest * (1.0 / 127.0), 127.0 / largest)
    } else {
        let larger = |a: f32, b: &Part| if b.scale.abs() > a.abs() { b.scale } else { a };
        let largest = group.iter().fold(0f32, larger);
        let steps = -128.0 / f32::from(lowest);
        (largest * (1.0 / steps), steps / largest)
    };
    let fits = scale.abs() * 127.0 > TINY;
    let (scale, inverse) = if fits { (significant(scale), inverse) } else { (0.0, 0.0) };
    let each = group.iter().map(|part| {
        let fixed = |x: f32| (f64::from(x) * 256.0).round_ties_even() as i32;
        let factor = part.scale * inverse;
        // The lowest code may be 1 less than 127 allows.
        let least = if dense.has_min { f32::NEG_INFINITY } else { 127.0 / f32::from(lowest) };
        let cut = f64::from((least - factor).max(0.0)) * f64::from(part.code).abs();
        let code = (i32::from(part.code) * fixed(factor.max(least)) + fixed(part.min * inverse) + 128) >> 8;
        // Half a step; half of 1/256 for each unit of the code and once for the offset; the scale's two lost bits and its
        // rounding, of 127 steps at most.
        let steps = 0.5 + (f64::from(part.code).abs() + 1.0) / 512.0 + 127.0 * 8.0 * U + cut;
        (scale * f64::from(code), scale.abs() * steps + if fits { 0.0 } else { f64::from(TINY) })
    });
    each.unzip()
}

/// What a product sees of its activations.
pub(super) enum Seen {
    /// [rows × cols]
    Floats(Vec<f64>),
    Codes(Quantized),
    Uniform(UniformSeen),
    /// Values of bfloat16 and perhaps residuals of them, each [rows × cols].
    Bf16(Vec<f64>, Option<Vec<f64>>),
}

/// What a kernel is held to.
pub(super) struct Expected {
    /// The exact product.
    pub(super) value: f64,
    /// Σ |x| · size(w).
    pub(super) size: f64,
    /// How far rounding may take it.
    pub(super) rounding: f64,
}

impl Seen {
    /// What weights of `form` see of `acts`, made from `x`.
    pub(super) fn new(form: Form, acts: &Activations, x: &[f32]) -> Self {
        let bf16 = |values| bf16(acts, values).into_iter().map(f64::from).collect();
        match form {
            Form { i8: true, .. } => Self::Codes(Quantized::new(acts, &acts.i8)),
            Form { i8_uniform: true, .. } => Self::Uniform(UniformSeen::new(acts)),
            Form { i16: true, .. } => Self::Codes(Quantized::new(acts, &acts.i16)),
            Form { bf16_residual: true, .. } => Self::Bf16(bf16(&acts.bf16.values), Some(bf16(&acts.bf16.residual))),
            Form { bf16: true, .. } => Self::Bf16(bf16(&acts.bf16.values), None),
            Form { .. } => Self::Floats(x.iter().map(|x| f64::from(*x)).collect()),
        }
    }

    /// The product of what the kernel sees, row `row` by column `column`.
    ///
    /// Codes: the integer sums are exact. Per group: conversion to f32, times the weight scale, min · sum added
    /// (two roundings where that is not fused), times the activation scale: 5 roundings, then one addition per group; one
    /// more for a min that is made of a scale. The oracle's weights carry two roundings more (see [`Block`]). Floats,
    /// whose weights are the oracle's: two roundings for each of the k values where multiply-add is not fused. One more
    /// each for what compounds (k · U is far below 1).
    ///
    /// bfloat16: weights are the oracle's, rounded; products of two are exact in f32, and so are their sums but for one
    /// rounding each, in any order. What is below the normal range, 2^-126, may become zero: values, times a weight within
    /// 8, or sums.
    pub(super) fn product(&self, dense: &Dense, row: usize, column: usize) -> Expected {
        let k = dense.k;
        match self {
            Self::Floats(x) => {
                let (value, size) = dense.dot(&x[row * k..(row + 1) * k], column);
                Expected { value, size, rounding: U * (2 * k + 1) as f64 * size }
            }
            Self::Codes(codes) => {
                let (value, size) = dense.dot(&codes.seen(row, k), column);
                let rounding = U * (k / dense.format.group_len() + 9) as f64 * size;
                Expected { value, size, rounding }
            }
            Self::Uniform(seen) => {
                let (mut value, mut size) = (0.0, 0.0);
                for (x, w) in seen.x[row * k..(row + 1) * k].iter().zip(requantized(dense, column).0) {
                    value += x * w;
                    size += (x * w).abs();
                }
                Expected { value, size, rounding: U * (k.div_ceil(GROUP) + 9) as f64 * size }
            }
            Self::Bf16(values, residuals) => {
                let weights = &dense.values[column * k..(column + 1) * k];
                let (mut value, mut size) = (0.0, 0.0);
                for (i, w) in weights.iter().enumerate() {
                    let bf16 = |x: f32| f64::from(half::bf16::from_f32(x));
                    let (x, w, w_residual) = (values[row * k + i], bf16(*w), bf16(w - bf16(*w) as f32));
                    let more = residuals.as_ref().map_or(0.0, |residuals| x * w_residual + residuals[row * k + i] * w);
                    value += x * w + more;
                    size += (x * w).abs() + more.abs();
                }
                let sums = if residuals.is_some() { 3 * k } else { k } as f64;
                Expected { value, size, rounding: U * (sums + 1.0) * size + 2f64.powi(-126) * 10.0 * sums }
            }
        }
    }

    /// How far the product may be from that of the true activations `x`, a row, because of what the kernel sees of them.
    ///
    /// Codes: half a step for each value, and 4 U for the rounding of scale and inverse. bfloat16: 2^-8 for either
    /// operand, and for both; with residuals, 2^-16 for either and 2^-16 for the product of both.
    pub(super) fn distance(&self, dense: &Dense, x: &[f64], row: usize, column: usize) -> f64 {
        let (_, size) = dense.dot(x, column);
        match self {
            Self::Floats(_) => 0.0,
            Self::Codes(codes) => {
                let groups = x.len() / GROUP;
                dense.quantization(&codes.scales[row * groups..(row + 1) * groups], column) + 4.0 * U * size
            }
            Self::Uniform(seen) => {
                // Half a step of x for each value of w, and for each x what requantizing took from w; of both once more.
                let groups = x.len().div_ceil(GROUP);
                let steps = &seen.scales[row * groups..(row + 1) * groups];
                let range = column * dense.k..(column + 1) * dense.k;
                let (_, errors) = requantized(dense, column);
                let values = x.iter().zip(&dense.values[range]).zip(errors).enumerate();
                let each = values.map(|(i, ((x, w), error))| {
                    let step = f64::from(steps[i / GROUP]) / 2.0;
                    step * (f64::from(*w).abs() + error) + x.abs() * error
                });
                each.sum::<f64>() + 4.0 * U * size
            }
            Self::Bf16(_, None) => (2.0 / 256.0 + 1.0 / 65536.0) * size,
            Self::Bf16(_, Some(_)) => 3.1 / 65536.0 * size,
        }
    }
}
