//! The first promise, where it is made: the bits of a result depend on nothing but its own row (or text), whatever stands
//! beside it, in whichever order, on however many threads.

use super::attention::Batch;
use super::*;
use crate::backend::Heads;

const FORMATS: [Format; 7] =
    [Format::Q4_K, Format::Q8_0, Format::Q6_K, Format::Q2_K, Format::Q4_1, Format::F16, Format::F32];

fn backends(isa: &'static Isa) -> Vec<CpuBackend> {
    [1, 2, 3].map(|threads| CpuBackend::new(isa, threads)).into()
}

#[test]
fn a_row_of_a_product_depends_on_itself_alone() {
    for (isa, precision) in tiers() {
        for format in FORMATS {
            let (rows, n, k) = (29, 80, 768);
            let mut random = Random(31);
            let (bytes, x) = (random.weights(format, n, k), random.normals(rows * k));
            for backend in backends(isa) {
                let weight = weight(&backend, precision, format, &bytes, n, k);
                let all = product(&backend, &weight, rows, &x);
                let what = |what| format!("{} {format} {} threads: {what}", isa.name, backend.threads());
                for row in 0..rows {
                    let alone = product(&self::backend(isa), &weight, 1, &x[row * k..(row + 1) * k]);
                    assert_bits(&what(format!("row {row} alone")), &all[row * n..(row + 1) * n], &alone);
                }
                for first in [1, 2, 3, 5, 7, 11, 23, 27] {
                    let rest = product(&backend, &weight, rows - first, &x[first * k..]);
                    assert_bits(&what(format!("from row {first}")), &rest, &all[first * n..]);
                }
                let order: Vec<usize> = (0..rows).map(|i| i * 12 % rows).collect();
                let shuffled: Vec<f32> = order.iter().flat_map(|r| &x[r * k..(r + 1) * k]).copied().collect();
                let expected: Vec<f32> = order.iter().flat_map(|r| &all[r * n..(r + 1) * n]).copied().collect();
                assert_bits(&what("shuffled".into()), &product(&backend, &weight, rows, &shuffled), &expected);
            }
        }
    }
}

/// A column must not depend on which others the matrix has, nor on where in a tile it stands.
#[test]
fn a_column_of_a_product_depends_on_itself_alone() {
    for (isa, precision) in tiers() {
        let backend = backend(isa);
        for format in FORMATS {
            let (rows, n, k) = (5, 70, 512);
            let mut random = Random(32);
            let (bytes, x) = (random.weights(format, n, k), random.normals(rows * k));
            let all = product(&backend, &weight(&backend, precision, format, &bytes, n, k), rows, &x);
            let row_bytes = bytes.len() / n;
            for (first, count) in [(0, 1), (1, 33), (31, 2), (32, 32), (69, 1)] {
                let part = &bytes[first * row_bytes..(first + count) * row_bytes];
                let ours = product(&backend, &weight(&backend, precision, format, part, count, k), rows, &x);
                let expected: Vec<f32> = all.chunks(n).flat_map(|row| &row[first..first + count]).copied().collect();
                assert_bits(&format!("{} {format} {count} columns from {first}", isa.name), &ours, &expected);
            }
        }
    }
}

/// None of the ARM64 tiers rounds where another does not.
#[cfg(target_arch = "aarch64")]
#[test]
fn products_of_all_arm64_tiers_are_equal() {
    let tiers: Vec<&'static Isa> = Isa::all().filter(|isa| isa.name != "scalar").collect();
    for precision in [Precision::Standard, Precision::High] {
        for &format in Format::ALL {
            let (rows, n, k) = (13, 40, 768);
            let mut random = Random(36);
            let (bytes, x) = (random.weights(format, n, k), random.normals(rows * k));
            let of_tier = |isa: &'static Isa| {
                let backend = backend(isa);
                product(&backend, &weight(&backend, precision, format, &bytes, n, k), rows, &x)
            };
            let expected = of_tier(tiers[0]);
            tiers[1..].iter().for_each(|isa| assert_bits(&format!("{} {format}", isa.name), &of_tier(isa), &expected));
        }
    }
}

#[test]
fn row_wise_operations_depend_on_their_row_alone() {
    for isa in isas() {
        let (rows, cols) = (21, 96);
        let mut random = Random(33);
        let (x, w) = (random.normals(rows * cols), random.normals(cols));
        let positions: Vec<u32> = (0..rows as u32).map(|i| i * 7).collect();
        // Norm and rotary embedding of rows `first..first + count`, with their codes and scales.
        let run = |backend: &CpuBackend, first: usize, count: usize| {
            let part = |x: &[f32]| tensor(backend, count, cols, &x[first * cols..(first + count) * cols]);
            let mut normed = backend.activations(count, cols, ALL);
            backend.rms_norm(&part(&x), &backend.vector(&w), 1e-6, &mut normed);
            let (mut rotated, weight) = (part(&x), backend.vector(&w[..24]));
            backend.norm_rope(&mut rotated, &weight, 1e-6, &backend.rope(&positions[first..first + count], 24, 1e6));
            (normed, backend.read(&rotated))
        };
        for backend in backends(isa) {
            let (normed, rotated) = run(&backend, 0, rows);
            for (first, count) in [(0, 1), (3, 1), (8, 13), (20, 1)] {
                let (n, r) = run(&self::backend(isa), first, count);
                assert_bits("norm_rope", &r, &rotated[first * cols..(first + count) * cols]);
                assert_acts("rms_norm", &n, &normed, first);
            }
        }
    }
}

#[test]
fn attention_of_a_text_is_the_same_alone_and_in_a_batch() {
    for threads in 1..=3 {
        for (backend, form) in attention::backends(threads) {
            for (heads, kv_heads, head_dim) in [(4, 2, 24), (3, 1, 64), (2, 2, 80)] {
                let heads = Heads { heads, kv_heads, head_dim };
                let lengths = [5, 130, 1, 64, 5, 65, 17];
                let batch = Batch::new(heads, &lengths, 2.0, 34);
                let all = batch.run(&backend, form);
                for (text, len) in lengths.into_iter().enumerate() {
                    let alone = batch.alone(text, len).run(&self::backend(backend.isa), form);
                    let rows = batch.offsets[text] * batch.q_cols()..batch.offsets[text + 1] * batch.q_cols();
                    let what = format!("{} {heads:?} {form:?} {threads} threads: text {text}", backend.isa.name);
                    assert_bits(&what, &all[rows], &alone);
                }
            }
        }
    }
}

/// What lets texts share the work on a common prefix: a token's row does not depend on what follows it.
#[test]
fn attention_of_a_prefix_is_the_same_whatever_follows() {
    for (backend, form) in attention::backends(1) {
        let heads = Heads { heads: 4, kv_heads: 2, head_dim: attention::small_dim(form) };
        let batch = Batch::new(heads, &[200], 2.0, 35);
        let all = batch.run(&backend, form);
        for len in [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100, 128, 129, 199] {
            let ours = batch.alone(0, len).run(&backend, form);
            assert_bits(
                &format!("{} {form:?} first {len} of 200", backend.isa.name),
                &ours,
                &all[..len * batch.q_cols()],
            );
        }
    }
}

/// The gated product rounds as its parts do one after the other, and each row alone as in a batch.
#[test]
fn gated_products_are_those_of_their_parts() {
    for isa in isas() {
        for (format, precision) in [(Format::Q4_K, Precision::Standard), (Format::Q8_0, Precision::High)] {
            // More than one block of rows; columns that end inside of a pair of tiles.
            let (rows, k, n) = (101, 512, 96);
            let mut random = Random(34);
            let x = random.normals(rows * k);
            let weights = [random.weights(format, n, k), random.weights(format, n, k)];
            let run = |backend: &CpuBackend, first: usize, count: usize| {
                let [gate, up] = weights
                    .each_ref()
                    .map(|w| backend.weight(format, Bytes::from(w.clone()), n, k, precision).expect("a weight"));
                let mut input = backend.activations(count, k, backend.form(&gate));
                let x = tensor(backend, count, k, &x[first * k..(first + count) * k]);
                backend.rms_norm(&x, &backend.vector(&vec![1.0; k]), 1e-6, &mut input);
                let mut out = backend.activations(count, n, ALL);
                backend.gated(&input, &gate, &up, &mut out);
                let (mut gates, mut ups) = (backend.tensor(count, n), backend.tensor(count, n));
                backend.matmul(&input, &mut [(&gate, &mut gates), (&up, &mut ups)]);
                let mut parts = vec![0.0; count * n];
                isa.tier.silu_mul(&backend.read(&gates), &backend.read(&ups), &mut parts);
                (out, parts)
            };
            for backend in backends(isa) {
                let (all, parts) = run(&backend, 0, rows);
                assert_bits(isa.name, &all.f32, &parts);
                for (first, count) in [(0, 1), (47, 3), (100, 1)] {
                    assert_acts(isa.name, &run(&backend, first, count).0, &all, first);
                }
            }
        }
    }
}

/// `part` is, in every form, rows `first..` of `all`.
fn assert_acts(what: &str, part: &Activations, all: &Activations, first: usize) {
    let range = |len: usize| first * len..(first + part.rows) * len;
    let cols = part.cols;
    assert_bits(what, &part.f32, &all.f32[range(cols)]);
    let bf16 = range(all.bf16.row_stride);
    assert_eq!(part.bf16.values[..], all.bf16.values[bf16.clone()], "{what}");
    assert_eq!(part.bf16.residual[..], all.bf16.residual[bf16], "{what}");
    let codes = |acts: &Activations| [oracle::Quantized::new(acts, &acts.i8), oracle::Quantized::new(acts, &acts.i16)];
    for (part, all) in codes(part).into_iter().zip(codes(all)) {
        assert_bits(what, &part.scales, &all.scales[range(cols / 32)]);
        assert_bits(what, &part.sums, &all.sums[range(cols / 32)]);
        assert_bits(what, &part.half_sums, &all.half_sums[range(cols / 16)]);
        assert_eq!(part.codes[..], all.codes[range(cols)], "{what}");
    }
}
