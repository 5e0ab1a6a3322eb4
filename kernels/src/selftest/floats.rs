//! What is done row by row: lookup, copies, norms, rotary embedding, and the gated product.

use super::operands::{EPS, Matrix, Reader, Rows, begin, place, read, same, within};
use super::product::{Bounds, gains, norm_error};
use super::subject::{Rounding, Subject, Test, U};
use crate::backend::{Backend, Precision};
use crate::formats::Format;
use crate::random::Random;

/// How far reading activations may round them, to the largest of them.
pub(super) fn reading<B: Subject>(backend: &B, cols: usize) -> Result<f64, String> {
    let matrix = Matrix::identity(cols);
    let Rounding { input, weights } = backend.rounding(&matrix.on(backend)?, matrix.format, matrix.precision);
    // Sums of one value and zeros.
    Ok(input.by + weights.by + 2.0 * U)
}

/// Rows of a table, with their bits.
fn lookup<B: Subject>(test: &Test<B>) -> Result<String, String> {
    let (rows, cols, tokens) = (9, 512, [8, 0, 3, 3, 7]);
    for &format in Format::ALL {
        let bytes = Random(4).weights(format, rows, cols);
        let mut values = vec![0.0; rows * cols];
        format.dequantize(&bytes, &mut values);
        begin(test.subject)?;
        let table = test.subject.table(format, bytes.into(), rows, cols).map_err(|error| error.to_string())?;
        let mut out = test.subject.tensor(tokens.len(), cols);
        test.subject.embed(&table, &tokens, &mut out);
        let expected: Vec<f32> =
            tokens.iter().flat_map(|token| &values[*token as usize * cols..][..cols]).copied().collect();
        same(&read(test.subject, &out)?, &expected, place(cols)).map_err(|error| format!("{format}: {error}"))?;
    }
    Ok(format!("{} formats, to the bit", Format::ALL.len()))
}

fn copies<B: Subject>(test: &Test<B>) -> Result<String, String> {
    let (x, to) = (Rows::normal(&mut Random(5), 13, 100), Rows::normal(&mut Random(6), 20, 100));
    begin(test.subject)?;
    let (from, mut out) = (x.tensor(test.subject)?, to.tensor(test.subject)?);
    test.subject.copy_rows(&from, &[12, 0, 0, 5], &mut out, 3);
    let mut expected = to.values.clone();
    for (i, row) in [12, 0, 0, 5].into_iter().enumerate() {
        expected[(3 + i) * 100..(4 + i) * 100].copy_from_slice(x.row(row));
    }
    same(&read(test.subject, &out)?, &expected, place(100))?;
    Ok("to the bit".into())
}

/// Norms of all rows, as the input of a product, and of some, as they are.
fn norms<B: Backend>(backend: &B, x: &Rows, gain: &[f32], rows: &[usize]) -> Result<[Vec<f32>; 2], String> {
    begin(backend)?;
    let reader = Reader::new(backend, x.cols)?;
    let all = reader.read(backend, x.rows(), &x.normed(backend, gain, reader.form)?)?;
    let mut some = backend.tensor(rows.len(), x.cols);
    backend.rms_norm_rows(&x.tensor(backend)?, rows, &backend.vector(gain), EPS, &mut some);
    Ok([all, read(backend, &some)?])
}

fn norm<B: Subject>(test: &Test<B>) -> Result<String, String> {
    let mut worst = 0f64;
    for cols in [32, 96, 1024] {
        for magnitude in [1.0, 1e-12, 1e12] {
            let mut random = Random(7);
            let (mut x, gain) = (Rows::normal(&mut random, 35, cols), gains(&mut random, cols, 1e6));
            x.values.iter_mut().for_each(|x| *x *= magnitude);
            let rows = [34, 0, 34, 2];
            let [ours, ours_some] = norms(test.subject, &x, &gain, &rows)?;
            let [expected, expected_some] = norms(&test.plain, &x, &gain, &rows)?;
            let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
            let off = reading(test.subject, cols)? * f64::from(largest);
            let relative = norm_error(cols);
            let all = |i: usize| relative * f64::from(expected[i].abs()) + off;
            worst = worst.max(within(&ours, &expected, all, place(cols))?);
            let some = |i: usize| relative * f64::from(expected_some[i].abs());
            worst = worst.max(within(&ours_some, &expected_some, some, place(cols))?);
        }
    }
    Ok(format!("worst {:.0} % of its bound", 100.0 * worst))
}

fn rotated<B: Backend>(backend: &B, x: &Rows, gain: &[f32], positions: &[u32]) -> Result<Vec<f32>, String> {
    begin(backend)?;
    let mut x = x.tensor(backend)?;
    backend.norm_rope(&mut x, &backend.vector(gain), EPS, &backend.rope(positions, gain.len(), 1e6));
    read(backend, &x)
}

fn rotary<B: Subject>(test: &Test<B>) -> Result<String, String> {
    let mut worst = 0f64;
    for dim in [32, 64, 128] {
        let (heads, rows) = (3, 11);
        let mut random = Random(8);
        let (x, gain) = (Rows::normal(&mut random, rows, heads * dim), random.normals(dim));
        // One row more than there are angles for, which stays as it is.
        let positions: Vec<u32> = (0..rows as u32 - 1).map(|i| i * 3200 + i).collect();
        let ours = rotated(test.subject, &x, &gain, &positions)?;
        let expected = rotated(&test.plain, &x, &gain, &positions)?;
        let last = (rows - 1) * heads * dim;
        same(&ours[last..], x.row(rows - 1), place(heads * dim))
            .map_err(|error| format!("beyond the angles: {error}"))?;
        let norm = x.part(0, rows - 1).values;
        let normed: Vec<f64> =
            norm.chunks(dim).flat_map(|head| Rows { cols: dim, values: head.to_vec() }.normed_exactly(&gain)).collect();
        let bound = |i: usize| {
            if i >= last {
                return 0.0;
            }
            // Two products and a sum on top of the norm, on each. Angles are made on the host by one and the same function.
            let (head, at) = (i / dim * dim, i % (dim / 2));
            let size = normed[head + at].abs() + normed[head + dim / 2 + at].abs();
            (norm_error(dim) + 6.0 * U) * size
        };
        worst = worst.max(within(&ours, &expected, bound, place(heads * dim))?);
    }
    Ok(format!("worst {:.0} % of its bound", 100.0 * worst))
}

/// silu(x · gateᵀ) · (x · upᵀ), as the input of a product, and both products.
fn gate<B: Backend>(backend: &B, x: &Rows, gain: &[f32], of: &[Matrix; 2]) -> Result<[Vec<f32>; 3], String> {
    begin(backend)?;
    let (n, rows) = (of[0].n, x.rows());
    let (gate, up, reader) = (of[0].on(backend)?, of[1].on(backend)?, Reader::new(backend, n)?);
    let input = x.normed(backend, gain, backend.form(&gate) | backend.form(&up))?;
    let mut out = backend.activations(rows, n, reader.form);
    backend.gated(&input, &gate, &up, &mut out);
    let [mut gates, mut ups] = [(); 2].map(|()| backend.tensor(rows, n));
    backend.matmul(&input, &mut [(&gate, &mut gates), (&up, &mut ups)]);
    Ok([reader.read(backend, rows, &out)?, read(backend, &gates)?, read(backend, &ups)?])
}

fn gated<B: Subject>(test: &Test<B>, formats: [Format; 2], precision: Precision) -> Result<String, String> {
    let mut random = Random(9);
    let (rows, n, k) = (41, 96, 256);
    let matrices = formats.map(|format| Matrix::random(&mut random, format, precision, n, k));
    // Gates of the order of 1, where silu is no straight line.
    let (x, gain) = (Rows::normal(&mut random, rows, k), vec![0.02; k]);
    let [ours, ..] = gate(test.subject, &x, &gain, &matrices)?;
    let [expected, gates, ups] = gate(&test.plain, &x, &gain, &matrices)?;
    let mut bounds = Vec::new();
    for matrix in &matrices {
        let rounding = test.subject.rounding(&matrix.on(test.subject)?, matrix.format, precision);
        bounds.push(Bounds::new(&x.normed_exactly(&gain), matrix, rounding).worst);
    }
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let off = reading(test.subject, n)? * f64::from(largest);
    let bound = |i: usize| {
        let (g, u, out) = (f64::from(gates[i]), f64::from(ups[i]), f64::from(expected[i]));
        let silu = g / (1.0 + (-g).exp());
        // silu is nowhere steeper than 1.1. On each: the exponential is off by 4e-7 and by two roundings of the exponent; sum, quotient
        // and product round once.
        let [dg, du] = [bounds[0][i], bounds[1][i]];
        1.1 * dg * (u.abs() + du) + silu.abs() * du + 2.0 * (4e-7 + U * (2.0 * g.abs() + 4.0)) * out.abs() + off
    };
    let worst = within(&ours, &expected, bound, place(n))?;
    Ok(format!("worst {:.0} % of its bound", 100.0 * worst))
}

pub(super) fn run<B: Subject>(test: &mut Test<B>) {
    test.tell("lookup", lookup(test));
    test.tell("copies", copies(test));
    test.tell("norms", norm(test));
    test.tell("norms with rotary embedding", rotary(test));
    for (formats, precision) in [
        ([Format::Q4_K, Format::Q4_K], Precision::Standard),
        ([Format::Q8_0, Format::Q6_K], Precision::High),
        ([Format::F16, Format::F16], Precision::Standard),
        ([Format::F32, Format::BF16], Precision::Standard),
    ] {
        let found = gated(test, formats, precision);
        test.tell(format!("gated product {} and {}", formats[0], formats[1]), found);
    }
}
