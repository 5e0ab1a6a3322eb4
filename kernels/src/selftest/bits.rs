//! The promise of the whole engine: what comes of a row has the same bits whatever stands beside it, and whatever its memory held
//! before.

use super::attention::{Operands, texts};
use super::operands::{EPS, Matrix, Reader, Rows, begin, place, read, same};
use super::product::gains;
use super::subject::{Subject, Test};
use crate::backend::{Backend, Heads, Precision};
use crate::formats::Format;
use crate::random::Random;

/// A product and a gated product of rows.
fn products<B: Backend>(backend: &B, x: &Rows, gain: &[f32], of: &[Matrix; 2]) -> Result<[Vec<f32>; 2], String> {
    begin(backend)?;
    let (n, rows) = (of[0].n, x.rows());
    let (gate, up, reader) = (of[0].on(backend)?, of[1].on(backend)?, Reader::new(backend, n)?);
    let input = x.normed(backend, gain, backend.form(&gate) | backend.form(&up))?;
    let mut product = backend.tensor(rows, n);
    backend.matmul(&input, &mut [(&gate, &mut product)]);
    let mut gated = backend.activations(rows, n, reader.form);
    backend.gated(&input, &gate, &up, &mut gated);
    Ok([read(backend, &product)?, reader.read(backend, rows, &gated)?])
}

fn of_a_format<B: Subject>(test: &Test<B>, format: Format, precision: Precision) -> Result<String, String> {
    let mut random = Random(31);
    let (rows, n, k) = (37, 80, 512);
    let of = [(); 2].map(|()| Matrix::random(&mut random, format, precision, n, k));
    let (x, gain) = (Rows::normal(&mut random, rows, k), gains(&mut random, k, 3.0));
    let all = products(test.subject, &x, &gain, &of)?;
    // Single rows, and as many as kernels for few rows take, and one more.
    for (first, count) in [(0, 1), (5, 1), (36, 1), (3, 8), (2, 9), (1, 16), (20, 17), (1, 33), (4, 33)] {
        let part = products(test.subject, &x.part(first, count), &gain, &of)?;
        for ((all, part), what) in all.iter().zip(&part).zip(["product", "gated product"]) {
            same(part, &all[first * n..(first + count) * n], place(n))
                .map_err(|error| format!("{what} of {count} rows from {first}, {error}"))?;
        }
    }
    Ok("the bits of each row alone".into())
}

/// Norms, with and without rotary embedding.
fn of_norms<B: Subject>(test: &Test<B>) -> Result<String, String> {
    let (backend, mut random) = (test.subject, Random(33));
    let (rows, cols, dim) = (21, 96, 32);
    let (x, gain) = (Rows::normal(&mut random, rows, cols), random.normals(cols));
    let positions: Vec<u32> = (0..rows as u32).map(|i| i * 7).collect();
    let run = |first: usize, count: usize| -> Result<[Vec<f32>; 2], String> {
        begin(backend)?;
        let part = x.part(first, count);
        let reader = Reader::new(backend, cols)?;
        let normed = reader.read(backend, count, &part.normed(backend, &gain, reader.form)?)?;
        let mut rotated = part.tensor(backend)?;
        let rope = backend.rope(&positions[first..first + count], dim, 1e6);
        backend.norm_rope(&mut rotated, &backend.vector(&gain[..dim]), EPS, &rope);
        Ok([normed, read(backend, &rotated)?])
    };
    let all = run(0, rows)?;
    for (first, count) in [(0, 1), (3, 1), (8, 13), (20, 1)] {
        for (all, part) in all.iter().zip(run(first, count)?) {
            same(&part, &all[first * cols..(first + count) * cols], place(cols))?;
        }
    }
    Ok("the bits of each row alone".into())
}

/// Fills memory with what is not a number and gives it back, so that what comes next may get it.
fn spoil<B: Backend>(backend: &B, rows: usize, widths: &[usize]) -> Result<(), String> {
    begin(backend)?;
    for cols in widths {
        let nan = Rows { cols: *cols, values: vec![f32::NAN; rows * cols] };
        let reader = Reader::new(backend, *cols)?;
        let tensors: Vec<B::Tensor> = (0..6).map(|_| nan.tensor(backend)).collect::<Result<_, _>>()?;
        let inputs: Vec<B::Activations> =
            (0..4).map(|_| nan.normed(backend, &vec![1.0; *cols], reader.form)).collect::<Result<_, _>>()?;
        let out = reader.read(backend, rows, &inputs[0])?;
        if out.iter().chain(&read(backend, &tensors[0])?).any(|x| x.is_finite()) {
            return Err("a product of what is not a number is one".into());
        }
    }
    Ok(())
}

fn of_spoilt_memory<B: Subject>(test: &Test<B>) -> Result<String, String> {
    let mut random = Random(35);
    let (rows, n, k) = (37, 96, 256);
    let of = [(); 2].map(|()| Matrix::random(&mut random, Format::Q4_K, Precision::Standard, n, k));
    let (x, gain) = (Rows::normal(&mut random, rows, k), gains(&mut random, k, 3.0));
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 64 };
    let operands = Operands::new(heads, rows, 1.0, 36);
    let run = || -> Result<[Vec<f32>; 3], String> {
        let [product, gated] = products(test.subject, &x, &gain, &of)?;
        Ok([product, gated, operands.run(test.subject, &texts(&[20, 17]))?])
    };
    let before = run()?;
    spoil(test.subject, rows, &[n, k, 4 * 64, 2 * 64])?;
    for ((before, after), what) in before.iter().zip(run()?).zip(["product", "gated product", "attention"]) {
        same(&after, before, place(before.len() / rows)).map_err(|error| format!("{what}: {error}"))?;
    }
    Ok("the same bits in memory full of NaN".into())
}

pub(super) fn run<B: Subject>(test: &mut Test<B>) {
    for &format in Format::ALL {
        for precision in [Precision::Standard, Precision::High] {
            let fine = if precision == Precision::High { ", finely" } else { "" };
            test.tell(format!("rows of {format}{fine}, bits"), of_a_format(test, format, precision));
        }
    }
    test.tell("norms, bits", of_norms(test));
    test.tell("spoilt memory", of_spoilt_memory(test));
}
