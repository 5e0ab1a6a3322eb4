//! The naive product: dequantized weights, a dot product in f64, and the magnitudes that bound a rounding error.

use super::{Activations, Codes, Form, Format, U};
use crate::cpu::activations::{GROUP, UniformCodes};
use crate::cpu::ops::bf16::widen;
use crate::cpu::ops::quantize::TINY;
use crate::cpu::panel::CHUNK;
use crate::cpu::simd::Code;
use crate::formats::{Block, with_block};
use crate::selftest::operands::sizes;

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
        let sizes = sizes(format, bytes, &values);
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

/// Activations as weights see them that have one scale for each [`GROUP`] values and no min, but for its rest.
pub(super) struct UniformSeen {
    /// [rows × cols]: scale · code, exact in f64.
    x: Vec<f64>,
    /// [rows × groups]
    scales: Vec<f32>,
    /// [rows × groups]: the mean of each group, in the same way.
    means: Vec<f64>,
    /// [rows × groups]: its scale.
    mean_scales: Vec<f32>,
}

impl UniformSeen {
    fn new(acts: &Activations) -> Self {
        let UniformCodes { codes, row_stride, scales, .. } = &acts.i8_uniform;
        let places = || (0..acts.rows).flat_map(|row| (0..acts.cols).map(move |k| (row, k)));
        let groups = || places().filter(|(_, k)| k.is_multiple_of(GROUP));
        let scale = |row: usize, group: usize| scales[group * acts.stride + row];
        let code = |row: usize, place: usize| f64::from(codes[row * row_stride + place]);
        let of_value = |(row, k)| f64::from(scale(row, UniformCodes::group(k))) * code(row, UniformCodes::place(k));
        let mean_scale = |(row, k)| {
            let first = k / CHUNK * CHUNK;
            scale(row, UniformCodes::group(first) + (acts.cols - first).min(CHUNK) / GROUP)
        };
        let of_mean = |(row, k)| {
            let first = k / CHUNK * CHUNK;
            let place = UniformCodes::place(first) + (acts.cols - first).min(CHUNK) + (k - first) / GROUP;
            f64::from(mean_scale((row, k))) * code(row, place)
        };
        Self {
            x: places().map(of_value).collect(),
            scales: groups().map(|(row, k)| scale(row, UniformCodes::group(k))).collect(),
            means: groups().map(of_mean).collect(),
            mean_scales: groups().map(mean_scale).collect(),
        }
    }
}

/// A row of weights as `panel::uniform` leaves it.
#[derive(Default)]
struct Requantized {
    /// One after the other, and how far each may be off, rests added.
    values: Vec<f64>,
    errors: Vec<f64>,
    /// Of each group what is to be multiplied by the mean, the true one, and how far the first may be off.
    rests: Vec<f64>,
    true_rests: Vec<f64>,
    rest_errors: Vec<f64>,
}

fn requantized(dense: &Dense, row: usize) -> Requantized {
    let range = row * dense.k..(row + 1) * dense.k;
    let mut to = Requantized::default();
    for part in dense.parts[range].chunks(CHUNK) {
        let mut rests = Vec::new();
        for group in part.chunks(GROUP) {
            let Part { scale, min, .. } = group[0];
            let (values, errors, rest) = if dense.format.group_len() != GROUP {
                rounded(dense, group)
            } else if !dense.has_min {
                let exact = group.iter().map(|part| f64::from(part.scale) * f64::from(part.code)).collect();
                (exact, vec![0.0; GROUP], 0.0)
            } else {
                let (towards, most) = (if scale < 0.0 { -min } else { min }, f32::from(dense.range[1]) + 0.5);
                let far = towards < -most * scale.abs() || towards > 0.5 * scale.abs();
                if far { rounded(dense, group) } else { offset(group) }
            };
            to.values.extend(values);
            to.errors.extend(errors);
            rests.push(rest);
        }
        // As codes with one scale, which also makes up for a mean being a 32nd of a sum.
        let largest = rests.iter().fold(0f32, |largest, rest| largest.max(rest.abs()));
        let scale = if largest > TINY { significant(largest * (GROUP as f32 / 127.0)) } else { 0.0 };
        for rest in rests {
            let code = if largest > TINY { (rest * (127.0 / largest)).round_ties_even() } else { 0.0 };
            to.rests.push(scale * f64::from(code));
            to.true_rests.push(f64::from(rest) * GROUP as f64);
            to.rest_errors.push(scale * (0.5 + 127.0 * 8.0 * U) + GROUP as f64 * f64::from(TINY));
        }
    }
    to
}

/// A scale's 22 significant bits.
fn significant(scale: f32) -> f64 {
    f64::from(f32::from_bits(scale.to_bits() & !3))
}

/// By `Recode::Add`: exact, but for the scale's two lost bits and the rounding of the rest, which is the last.
fn offset(group: &[Part]) -> (Vec<f64>, Vec<f64>, f32) {
    let Part { scale, min, .. } = group[0];
    let whole = if scale == 0.0 { 0.0 } else { (min / scale).round_ties_even() };
    let unit = significant(scale);
    let values = group.iter().map(|part| unit * f64::from(f32::from(part.code) + whole));
    (values.collect(), vec![unit.abs() * 127.0 * 8.0 * U; GROUP], min - whole * scale)
}

/// By `Recode::Round`: half a step of each, plus what its factor and offset, of 8 binary places, may add.
fn rounded(dense: &Dense, group: &[Part]) -> (Vec<f64>, Vec<f64>, f32) {
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
    let (values, errors) = each.unzip();
    (values, errors, 0.0)
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
                let Requantized { values, rests, .. } = requantized(dense, column);
                let means = &seen.means[row * rests.len()..];
                for (x, w) in seen.x[row * k..].iter().zip(values).chain(means.iter().zip(rests)) {
                    value += x * w;
                    size += (x * w).abs();
                }
                Expected { value, size, rounding: U * (k.div_ceil(GROUP) + k.div_ceil(CHUNK) + 9) as f64 * size }
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
                // Half a step of x for each value of w, and for each x what requantizing took from w; of both once more. The same
                // of means and rests, where half a step of x is in the mean already.
                let groups = x.len().div_ceil(GROUP);
                let of_row = row * groups..(row + 1) * groups;
                let (steps, mean_steps) = (&seen.scales[of_row.clone()], &seen.mean_scales[of_row]);
                let range = column * dense.k..(column + 1) * dense.k;
                let Requantized { errors, true_rests, rest_errors, .. } = requantized(dense, column);
                let half = |step: f32| f64::from(step) / 2.0;
                let values = x.iter().zip(&dense.values[range]).zip(errors).enumerate();
                let each = values.map(|(i, ((x, w), error))| {
                    half(steps[i / GROUP]) * (f64::from(*w).abs() + error) + x.abs() * error
                });
                let rests = true_rests.iter().zip(rest_errors).enumerate().map(|(g, (rest, error))| {
                    let mean = x[g * GROUP..(g + 1) * GROUP].iter().sum::<f64>().abs() / GROUP as f64;
                    let off = half(steps[g]) + half(mean_steps[g]) * (1.0 + 127.0 * 8.0 * U);
                    off * (rest.abs() + error) + mean * error
                });
                each.chain(rests).sum::<f64>() + 4.0 * U * size
            }
            Self::Bf16(_, None) => (2.0 / 256.0 + 1.0 / 65536.0) * size,
            Self::Bf16(_, Some(_)) => 3.1 / 65536.0 * size,
        }
    }
}
