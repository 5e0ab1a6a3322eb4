//! Operands of all kinds, and how they get into a backend and out of it again by what every backend has.

use crate::backend::{Backend, Precision};
use crate::formats::{Block, Format, with_block};
use crate::random::Random;
use bytes::Bytes;
use std::cmp::Ordering;

impl Random {
    pub(crate) fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }

    /// Weights [n × k] in any format, without knowing its layout: random blocks, of which those are taken whose values
    /// are finite and whose largest is within 2^-8 ..= 8.
    pub(crate) fn weights(&mut self, format: Format, n: usize, k: usize) -> Vec<u8> {
        let (mut bytes, mut values) = (vec![0; format.block_bytes()], vec![0.0; format.block_len()]);
        let mut out = Vec::new();
        for _ in 0..n * k / format.block_len() {
            loop {
                bytes.iter_mut().for_each(|b| *b = self.next() as u8);
                format.dequantize(&bytes, &mut values);
                let largest =
                    values.iter().fold(0f32, |m, x| if x.is_finite() { m.max(x.abs()) } else { f32::INFINITY });
                if (1.0 / 256.0..=8.0).contains(&largest) {
                    break;
                }
            }
            out.extend_from_slice(&bytes);
        }
        out
    }
}

/// What roundings are relative to: |scale · code| + |min| of each value, as far apart as kernels take them; of floats, their
/// magnitudes.
pub(crate) fn sizes(format: Format, bytes: &[u8], values: &[f32]) -> Vec<f64> {
    with_block!(
        format,
        B => bytes.chunks_exact(B::BYTES).flat_map(block_sizes::<B>).collect(),
        float => values.iter().map(|x| f64::from(x.abs())).collect(),
    )
}

fn block_sizes<B: Block>(block: &[u8]) -> Vec<f64> {
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

/// Rows of floats.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) cols: usize,
    pub(super) values: Vec<f32>,
}

impl Rows {
    pub(super) fn normal(random: &mut Random, rows: usize, cols: usize) -> Self {
        Self { cols, values: random.normals(rows * cols) }
    }

    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.cols
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// Rows `first..first + count`.
    pub(super) fn part(&self, first: usize, count: usize) -> Self {
        let values = self.values[first * self.cols..(first + count) * self.cols].to_vec();
        Self { cols: self.cols, values }
    }

    /// As a tensor: a table of floats, all of whose rows are looked up.
    pub(super) fn tensor<B: Backend>(&self, backend: &B) -> Result<B::Tensor, String> {
        let bytes: Vec<u8> = self.values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let table = backend.table(Format::F32, bytes.into(), self.rows(), self.cols).map_err(|e| e.to_string())?;
        let mut tensor = backend.tensor(self.rows(), self.cols);
        let rows: Vec<u32> = (0..self.rows() as u32).collect();
        backend.embed(&table, &rows, &mut tensor);
        Ok(tensor)
    }

    /// As the input of products with weights of `form`: normed and scaled by `gain`.
    pub(super) fn normed<B: Backend>(
        &self,
        backend: &B,
        gain: &[f32],
        form: B::Form,
    ) -> Result<B::Activations, String> {
        let x = self.tensor(backend)?;
        let mut out = backend.activations(self.rows(), self.cols, form);
        backend.rms_norm(&x, &backend.vector(gain), EPS, &mut out);
        Ok(out)
    }

    /// What [`Rows::normed`] should hold, exactly.
    pub(super) fn normed_exactly(&self, gain: &[f32]) -> Vec<f64> {
        let norm = |row: &[f32]| -> Vec<f64> {
            let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
            let scale = 1.0 / (squares / row.len() as f64 + f64::from(EPS)).sqrt();
            row.iter().zip(gain).map(|(x, gain)| f64::from(*x) * scale * f64::from(*gain)).collect()
        };
        self.values.chunks_exact(self.cols).flat_map(norm).collect()
    }
}

pub(super) const EPS: f32 = 1e-6;

/// A weight matrix [n × k] as it lies in a file.
pub(super) struct Matrix {
    pub(super) format: Format,
    pub(super) precision: Precision,
    pub(super) bytes: Bytes,
    pub(super) n: usize,
    pub(super) k: usize,
}

impl Matrix {
    pub(super) fn random(random: &mut Random, format: Format, precision: Precision, n: usize, k: usize) -> Self {
        Self { format, precision, bytes: random.weights(format, n, k).into(), n, k }
    }

    /// By which a product gives its input as it is, in f32.
    pub(super) fn identity(cols: usize) -> Self {
        let one = |i: usize| if i / cols == i % cols { 1f32 } else { 0.0 };
        let bytes: Vec<u8> = (0..cols * cols).flat_map(|i| one(i).to_le_bytes()).collect();
        Self { format: Format::F32, precision: Precision::High, bytes: bytes.into(), n: cols, k: cols }
    }

    pub(super) fn on<B: Backend>(&self, backend: &B) -> Result<B::Weight, String> {
        let Self { format, precision, n, k, .. } = *self;
        backend.weight(format, self.bytes.clone(), n, k, precision).map_err(|error| error.to_string())
    }

    pub(super) fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.n * self.k];
        self.format.dequantize(&self.bytes, &mut values);
        values
    }

    pub(super) fn name(&self) -> String {
        let precision = if self.precision == Precision::High { ", finely" } else { "" };
        format!("{}{precision}", self.format)
    }
}

/// A weight by which activations of some width are read.
pub(super) struct Reader<B: Backend> {
    weight: B::Weight,
    pub(super) form: B::Form,
    cols: usize,
}

impl<B: Backend> Reader<B> {
    pub(super) fn new(backend: &B, cols: usize) -> Result<Self, String> {
        let weight = Matrix::identity(cols).on(backend)?;
        Ok(Self { form: backend.form(&weight), weight, cols })
    }

    pub(super) fn read(&self, backend: &B, rows: usize, acts: &B::Activations) -> Result<Vec<f32>, String> {
        let mut out = backend.tensor(rows, self.cols);
        backend.matmul(acts, &mut [(&self.weight, &mut out)]);
        read(backend, &out)
    }
}

pub(super) fn begin<B: Backend>(backend: &B) -> Result<(), String> {
    backend.begin().map_err(|error| error.to_string())
}

pub(super) fn read<B: Backend>(backend: &B, x: &B::Tensor) -> Result<Vec<f32>, String> {
    backend.read(x).map_err(|error| error.to_string())
}

/// Every value within its bound; then the worst as a share of that.
pub(super) fn within(
    ours: &[f32],
    expected: &[f32],
    bound: impl Fn(usize) -> f64,
    place: impl Fn(usize) -> String,
) -> Result<f64, String> {
    if ours.len() != expected.len() {
        return Err(format!("{} values, not {}", ours.len(), expected.len()));
    }
    let mut worst = 0f64;
    for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        let (error, bound) = ((f64::from(*ours) - f64::from(*expected)).abs(), bound(i));
        // NaN is never within.
        if error.partial_cmp(&bound).is_none_or(Ordering::is_gt) {
            return Err(format!("{}: {ours:e}, not {expected:e}; rounding explains {bound:.1e}", place(i)));
        }
        worst = worst.max(if error > 0.0 { error / bound } else { 0.0 });
    }
    Ok(worst)
}

/// Every value the same, to the bit.
pub(super) fn same(ours: &[f32], expected: &[f32], place: impl Fn(usize) -> String) -> Result<(), String> {
    if ours.len() != expected.len() {
        return Err(format!("{} values, not {}", ours.len(), expected.len()));
    }
    match ours.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits()) {
        None => Ok(()),
        Some(i) => Err(format!("{}: {:e}, not {:e}", place(i), ours[i], expected[i])),
    }
}

/// Where value `i` of rows of `cols` stands.
pub(super) fn place(cols: usize) -> impl Fn(usize) -> String {
    move |i| format!("row {} column {}", i / cols, i % cols)
}
