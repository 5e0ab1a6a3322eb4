//! Products with weights of every format.

use super::operands::{Matrix, Rows, begin, place, read, within};
use super::subject::{Rounding, Share, Subject, Test, U};
use crate::backend::{Backend, Precision};
use crate::formats::Format;
use crate::random::Random;

/// How far a product may be off.
pub(super) struct Bounds {
    /// [rows × n]: every operand rounded as unluckily as can be.
    pub(super) worst: Vec<f64>,
    /// Over all of it, in the root of the mean square: roundings that know nothing of each other.
    usual: f64,
}

/// Relative error of a normed row of `n` values on two devices. Squares are summed in at least 8 chains, those in a few steps; the
/// mean, eps, the root, its inverse and two products round once each.
pub(super) fn norm_error(n: usize) -> f64 {
    2.0 * U * (n.div_ceil(8) as f64 + 10.0)
}

/// By how much each value may be off.
fn steps(values: &[f64], cols: usize, Share { run, by }: Share) -> Vec<f64> {
    let of_run = |run: &[f64]| {
        let largest = run.iter().fold(0f64, |most, x| most.max(x.abs()));
        vec![by * largest; run.len()]
    };
    values.chunks(cols).flat_map(|row| row.chunks(run)).flat_map(of_run).collect()
}

impl Bounds {
    /// Of the product of `x` [rows × k], which is what is normed exactly, and a matrix, computed twice: with these roundings, and
    /// with none but those of f32.
    pub(super) fn new(x: &[f64], matrix: &Matrix, rounding: Rounding) -> Self {
        let k = matrix.k;
        let values = matrix.values();
        let sizes = super::operands::sizes(matrix.format, &matrix.bytes, &values);
        let weights: Vec<f64> = values.iter().map(|w| f64::from(w.abs())).collect();
        let (x_steps, w_steps) = (steps(x, k, rounding.input), steps(&weights, k, rounding.weights));
        // Sums in f32, on both: two roundings for each of k terms where they are not fused, a few for scales and their inverses.
        let sums = norm_error(k) + 2.0 * U * (2 * k + 16) as f64;
        let (mut worst, mut squares) = (Vec::with_capacity(x.len() / k * matrix.n), 0.0);
        for (x, x_steps) in x.chunks_exact(k).zip(x_steps.chunks_exact(k)) {
            for ((w, w_steps), sizes) in weights.chunks_exact(k).zip(w_steps.chunks_exact(k)).zip(sizes.chunks_exact(k))
            {
                let (mut size, mut most, mut variance) = (0.0, 0.0, 0.0);
                for i in 0..k {
                    let (of_x, of_w) = (x_steps[i] * w[i], w_steps[i] * x[i].abs());
                    size += sizes[i] * x[i].abs();
                    most += of_x + of_w + x_steps[i] * w_steps[i];
                    // An even error within ± h has a mean square of h² / 3.
                    variance += (of_x * of_x + of_w * of_w) / 3.0;
                }
                worst.push(most + sums * size);
                squares += variance + (sums * size).powi(2);
            }
        }
        let usual = (squares / worst.len().max(1) as f64).sqrt();
        Self { worst, usual }
    }

    /// Holds a product to that: every value to the worst, and all of them together to twice what is usual, which thousands of values
    /// do not miss by chance, and which a single wrong weight in a row exceeds.
    pub(super) fn hold(&self, ours: &[f32], expected: &[f32], cols: usize) -> Result<String, String> {
        let worst = within(ours, expected, |i| self.worst[i], place(cols))?;
        let squares: f64 = ours.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        let share = (squares / ours.len().max(1) as f64).sqrt() / self.usual;
        if share > 2.0 {
            return Err(format!("no value is far off, but all together are {share:.1} times as far as roundings are"));
        }
        Ok(format!("worst {:.0} % of its bound, usual {:.0} %", 100.0 * worst, 100.0 * share / 2.0))
    }
}

/// [rows × n]; with `add`, added to as much in every place.
fn product<B: Backend>(
    backend: &B,
    x: &Rows,
    gain: &[f32],
    matrix: &Matrix,
    add: Option<f32>,
) -> Result<Vec<f32>, String> {
    begin(backend)?;
    let weight = matrix.on(backend)?;
    let input = x.normed(backend, gain, backend.form(&weight))?;
    let start = vec![add.unwrap_or(f32::NAN); x.rows() * matrix.n];
    let mut out = Rows { cols: matrix.n, values: start }.tensor(backend)?;
    match add {
        Some(_) => backend.matmul_add(&input, &weight, &mut out),
        None => backend.matmul(&input, &mut [(&weight, &mut out)]),
    }
    read(backend, &out)
}

fn check<B: Subject>(test: &Test<B>, x: &Rows, gain: &[f32], matrix: &Matrix) -> Result<String, String> {
    let weight = matrix.on(test.subject)?;
    let rounding = test.subject.rounding(&weight, matrix.format, matrix.precision);
    let bounds = Bounds::new(&x.normed_exactly(gain), matrix, rounding);
    let expected = product(&test.plain, x, gain, matrix, None)?;
    let ours = product(test.subject, x, gain, matrix, None)?;
    let found = bounds.hold(&ours, &expected, matrix.n)?;
    // Added to what there is.
    let sum = product(test.subject, x, gain, matrix, Some(0.75))?;
    let expected: Vec<f32> = expected.iter().map(|x| x + 0.75).collect();
    let bound = |i: usize| bounds.worst[i] + 2.0 * U * f64::from(expected[i].abs() + 0.75);
    within(&sum, &expected, bound, place(matrix.n)).map_err(|error| format!("added to 0.75: {error}"))?;
    Ok(found)
}

/// Scales of a norm: of the order of 1, save for one in 64, which is `outlier`.
pub(super) fn gains(random: &mut Random, k: usize, outlier: f32) -> Vec<f32> {
    let gain = |i: usize| if i % 64 == 7 { outlier } else { 0.5 + random.normal().abs() };
    (0..k).map(gain).collect()
}

/// Several products of one input are each as it is alone.
fn together<B: Subject>(test: &Test<B>) -> Result<String, String> {
    let (backend, mut random) = (test.subject, Random(3));
    let (rows, k) = (21, 768);
    let (x, gain) = (Rows::normal(&mut random, rows, k), gains(&mut random, k, 30.0));
    let shapes = [(Format::Q4_K, 80), (Format::F16, 33), (Format::Q6_K, 1), (Format::Q8_0, 64), (Format::F32, 40)];
    let matrices = shapes.map(|(format, n)| Matrix::random(&mut random, format, Precision::Standard, n, k));
    let alone: Vec<Vec<f32>> =
        matrices.iter().map(|matrix| product(backend, &x, &gain, matrix, None)).collect::<Result<_, _>>()?;
    begin(backend)?;
    let weights: Vec<B::Weight> = matrices.iter().map(|matrix| matrix.on(backend)).collect::<Result<_, _>>()?;
    let form = weights.iter().fold(B::Form::default(), |form, weight| form | backend.form(weight));
    let input = x.normed(backend, &gain, form)?;
    let mut outs: Vec<B::Tensor> = matrices.iter().map(|matrix| backend.tensor(rows, matrix.n)).collect();
    backend.matmul(&input, &mut weights.iter().zip(&mut outs).collect::<Vec<_>>());
    for ((out, alone), matrix) in outs.iter().zip(&alone).zip(&matrices) {
        super::operands::same(&read(backend, out)?, alone, place(matrix.n))
            .map_err(|error| format!("{}: {error}", matrix.name()))?;
    }
    Ok("each as it is alone, to the bit".into())
}

pub(super) fn run<B: Subject>(test: &mut Test<B>) {
    for &format in Format::ALL {
        for precision in [Precision::Standard, Precision::High] {
            let mut random = Random(1);
            // More than one tile of rows and of columns, and parts of one.
            let matrix = Matrix::random(&mut random, format, precision, 97, 768);
            let (x, gain) = (Rows::normal(&mut random, 67, 768), gains(&mut random, 768, 3.0));
            test.tell(format!("product {}", matrix.name()), check(test, &x, &gain, &matrix));
        }
    }
    for format in [Format::Q4_K, Format::Q8_0, Format::F16] {
        let mut random = Random(2);
        let matrix = Matrix::random(&mut random, format, Precision::Standard, 96, 1024);
        let (x, gain) = (Rows::normal(&mut random, 1000, 1024), gains(&mut random, 1024, 1e6));
        let name = format!("product {}, a million inputs of up to millions", matrix.name());
        test.tell(name, check(test, &x, &gain, &matrix));
    }
    test.tell("products of one input", together(test));
}
