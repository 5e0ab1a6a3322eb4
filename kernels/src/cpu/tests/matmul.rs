//! Products against the oracle: every tier × every format × ragged shapes.

use super::oracle::{Dense, Expected, Quantized, Seen};
use super::*;
use crate::cpu::activations::{GROUP, UniformCodes};
use crate::cpu::panel::TILE;
use crate::rounding::MAGIC;

/// Values of K: from one block to more than a panel, with every kind of remainder.
fn inner_sizes(format: Format) -> &'static [usize] {
    match format.block_len() {
        1 => &[1, 7, 32, 100, 512, 513, 1056],
        32 => &[32, 64, 96, 256, 512, 544, 768, 1056],
        _ => &[256, 512, 768],
    }
}

/// Operands with what the oracle says about them.
struct Case {
    isa: &'static Isa,
    precision: Precision,
    format: Format,
    n: usize,
    k: usize,
    bytes: Vec<u8>,
    x: Vec<f32>,
    /// [rows × n]: the exact product of what the kernel sees, and how far rounding may take it.
    expected: Vec<(f64, f64)>,
}

impl Case {
    fn new(isa: &'static Isa, precision: Precision, format: Format, rows: usize, n: usize, k: usize) -> Self {
        let mut random = Random((n * 10_000 + k) as u64);
        let bytes = random.weights(format, n, k);
        let x = random.normals(rows * k);
        let dense = Dense::new(format, &bytes, n, k);
        let backend = backend(isa);
        let form = backend.form(&weight(&backend, precision, format, &bytes, n, k));
        let input = acts(&backend, rows, k, form, &x);
        let seen = Seen::new(form, &input, &x);
        let mut expected = Vec::with_capacity(rows * n);
        for row in 0..rows {
            let plain: Vec<f64> = x[row * k..(row + 1) * k].iter().map(|x| f64::from(*x)).collect();
            for column in 0..n {
                let Expected { value, rounding, .. } = seen.product(&dense, row, column);
                // The kernel is held to `value`. That `value` is near the product of the true activations is a matter
                // of what it sees of them.
                let (truth, _) = dense.dot(&plain, column);
                let distance = seen.distance(&dense, &plain, row, column);
                assert!((value - truth).abs() <= distance, "{isa:?} {format} activations of row {row}");
                expected.push((value, rounding));
            }
        }
        Self { isa, precision, format, n, k, bytes, x, expected }
    }

    fn check(&self, rows: usize) {
        let Self { isa, precision, format, n, k, .. } = *self;
        let backend = backend(isa);
        let weight = weight(&backend, precision, format, &self.bytes, n, k);
        let x = &self.x[..rows * k];
        let ours = product(&backend, &weight, rows, x);
        assert_eq!(ours.len(), rows * n);
        for (i, (ours, (expected, tolerance))) in ours.iter().zip(&self.expected).enumerate() {
            let what = || format!("{} {format} M={rows} N={n} K={k}: row {} column {}", isa.name, i / n, i % n);
            assert_close(what, *ours, *expected, *tolerance);
        }

        let mut sum = tensor(&backend, rows, n, &vec![0.75; rows * n]);
        backend.matmul_add(&acts(&backend, rows, k, backend.form(&weight), x), &weight, &mut sum);
        let added: Vec<f32> = ours.iter().map(|product| 0.75 + product).collect();
        assert_bits(&format!("{} {format} M={rows} N={n} K={k}: matmul_add", isa.name), &backend.read(&sum), &added);
    }
}

#[test]
fn every_number_of_rows() {
    for (isa, precision) in tiers() {
        for &format in Format::ALL {
            let k = if format.block_len() == 256 { 256 } else { 96 };
            let case = Case::new(isa, precision, format, 67, 33, k);
            (0..=67).for_each(|rows| case.check(rows));
        }
    }
}

#[test]
fn every_width_and_depth() {
    for (isa, precision) in tiers() {
        for &format in Format::ALL {
            for k in inner_sizes(format) {
                for n in [1, 31, 32, 33, 64, 80] {
                    let case = Case::new(isa, precision, format, 9, n, *k);
                    [1, 5, 9].into_iter().for_each(|rows| case.check(rows));
                }
            }
        }
    }
}

/// Kernels that take several tiles at a time do so only where there are tasks enough.
#[test]
fn several_tiles_a_task() {
    for (isa, precision) in tiers() {
        for &format in Format::ALL {
            let (n, k) = (290, if format.block_len() == 256 { 768 } else { 544 });
            let case = Case::new(isa, precision, format, 3, n, k);
            let backend = backend(isa);
            let weight = weight(&backend, precision, format, &case.bytes, n, k);
            let tiles = weight.kernel.tiles.min(5);
            assert_eq!(weight.width, tiles * TILE, "ten tiles, two tasks at least");
            case.check(3);
        }
    }
}

#[test]
fn no_rows_are_no_work() {
    for (isa, precision) in tiers() {
        for &format in Format::ALL {
            Case::new(isa, precision, format, 0, 40, 768).check(0);
        }
    }
}

/// Several products of one input, in formats that need different forms of it, at once.
#[test]
fn products_of_one_input_keep_apart() {
    for (isa, precision) in tiers() {
        let (backend, rows, k) = (CpuBackend::new(isa, 2), 7, 768);
        let mut random = Random(3);
        let x = random.normals(rows * k);
        let shapes = [(Format::Q4_K, 80), (Format::F16, 33), (Format::Q6_K, 1), (Format::Q8_0, 64)];
        let weights: Vec<Weight> =
            shapes.iter().map(|(f, n)| weight(&backend, precision, *f, &random.weights(*f, *n, k), *n, k)).collect();
        let form = weights.iter().fold(Form::default(), |form, w| form | backend.form(w));
        let mut outs: Vec<Tensor> = weights.iter().map(|w| backend.tensor(rows, w.n)).collect();
        let mut products: Vec<_> = weights.iter().zip(&mut outs).collect();
        backend.matmul(&acts(&backend, rows, k, form, &x), &mut products);
        for (weight, out) in weights.iter().zip(&outs) {
            assert_bits(weight.format.name(), &backend.read(out), &product(&backend, weight, rows, &x));
        }
    }
}

#[test]
fn codes_and_scales_describe_the_activations() {
    for isa in isas() {
        let (backend, rows, k) = (backend(isa), 3, 96);
        let x = Random(5).normals(rows * k);
        let acts = acts(&backend, rows, k, ALL, &x);
        assert_bits("floats", &acts.f32, &x);
        for form in [I8, I16] {
            let q = if form == I8 { Quantized::new(&acts, &acts.i8) } else { Quantized::new(&acts, &acts.i16) };
            for (g, x) in x.chunks(GROUP).enumerate() {
                let codes = &q.codes[g * GROUP..(g + 1) * GROUP];
                let (scale, amax) = (q.scales[g], x.iter().fold(0f32, |m, x| m.max(x.abs())));
                let expected = f64::from(amax) / f64::from(q.max);
                assert_close(|| format!("{isa:?} scale"), scale, expected, 2.0 * U * f64::from(scale));
                let largest = codes.iter().map(|c| c.abs()).max();
                assert_eq!(largest, Some(q.max), "{isa:?}: the largest value has the largest code");
                for (x, code) in x.iter().zip(codes) {
                    // Half a step, and the roundings of scale (2), inverse and quotient.
                    let tolerance = f64::from(scale) / 2.0 + 4.0 * U * f64::from(x.abs());
                    assert_close(|| format!("{isa:?} code"), *x, f64::from(scale) * f64::from(*code), tolerance);
                }
                let sum = |codes: &[i16]| codes.iter().map(|c| i32::from(*c)).sum::<i32>();
                let halves = [sum(&codes[..16]), sum(&codes[16..])];
                assert_eq!([q.half_sums[2 * g] as i32, q.half_sums[2 * g + 1] as i32], halves);
                assert_eq!(q.sums[g] as i32, sum(codes));
            }
        }
    }
}

#[test]
fn uniform_codes_and_scales_describe_the_activations() {
    for isa in isas() {
        let (backend, rows, k) = (backend(isa), 19, 864);
        let x = Random(5).normals(rows * k);
        let acts = acts(&backend, rows, k, I8_UNIFORM, &x);
        let uniform = &acts.i8_uniform;
        assert!(
            uniform.row_stride >= k + 32 && uniform.row_stride.is_multiple_of(64) && (uniform.row_stride / 64) % 2 == 1
        );
        for (row, x) in x.chunks(k).enumerate() {
            let codes = &uniform.codes[row * uniform.row_stride..(row + 1) * uniform.row_stride];
            for (g, x) in x.chunks(GROUP).enumerate() {
                let place = UniformCodes::group(g * GROUP) * acts.stride + row;
                let (codes, scale) = (&codes[UniformCodes::place(g * GROUP)..][..x.len()], uniform.scales[place]);
                let amax = x.iter().fold(0f32, |m, x| m.max(x.abs()));
                assert_close(|| format!("{isa:?} scale"), scale, f64::from(amax) / 127.0, 2.0 * U * f64::from(scale));
                assert_eq!(codes.iter().map(|c| c.unsigned_abs()).max(), Some(127), "{isa:?}");
                for (x, code) in x.iter().zip(codes) {
                    // Half a step, and the roundings of scale (2), inverse and quotient.
                    let tolerance = f64::from(scale) / 2.0 + 4.0 * U * f64::from(x.abs());
                    assert_close(|| format!("{isa:?} code"), *x, f64::from(scale) * f64::from(*code), tolerance);
                }
                let sum: i32 = codes.iter().map(|c| i32::from(*c)).sum();
                assert_eq!(uniform.biases[place], MAGIC.to_bits() as i32 - 128 * sum, "{isa:?}");
            }
            // Behind 16 groups and behind the last 11, codes of their means.
            for (first, groups, place, group) in [(0, 16, 512, 16), (512, 11, 528 + 352, 17 + 11)] {
                let mean_of = |x: &[f32]| x.iter().map(|x| f64::from(*x)).sum::<f64>() / 32.0;
                let means: Vec<f64> = x[first..][..32 * groups].chunks(32).map(mean_of).collect();
                let (codes, at) = (&codes[place..place + 16], group * acts.stride + row);
                let scale = f64::from(uniform.scales[at]);
                for (i, mean) in means.iter().enumerate() {
                    // Half a step of the mean, and half a step of each value.
                    let step = f64::from(uniform.scales[UniformCodes::group(first + 32 * i) * acts.stride + row]);
                    let tolerance = (scale + step) / 2.0 + 8.0 * U * mean.abs();
                    let seen = scale * f64::from(codes[i]);
                    assert!((seen - mean).abs() <= tolerance, "{isa:?} mean {i}: {seen} {mean}");
                }
                assert_eq!(codes.iter().map(|c| c.unsigned_abs()).max(), Some(127), "{isa:?}");
                assert!(codes[groups..].iter().all(|code| *code == 0), "{isa:?}");
                let sum: i32 = codes.iter().map(|c| i32::from(*c)).sum();
                assert_eq!(uniform.biases[at], MAGIC.to_bits() as i32 - 128 * sum, "{isa:?}");
            }
        }
    }
}

#[test]
fn bf16_and_residual_are_the_activations_in_two_parts() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0, 1e-40, f32::MIN_POSITIVE];
    // Halfway between two values of bfloat16, the lower one even and odd.
    let ties = [0x3f80_8000, 0x3f81_8000, 0xbf80_8000, 0xbf81_8000, 0x3f80_7fff, 0x3f80_8001].map(f32::from_bits);
    for isa in isas() {
        let (backend, rows, k) = (backend(isa), 3, 77);
        let mut x = Random(6).normals(rows * k);
        x[..odd.len()].copy_from_slice(&odd);
        x[k..k + ties.len()].copy_from_slice(&ties);
        let acts = acts(&backend, rows, k, Form { bf16: true, bf16_residual: true, ..Form::NONE }, &x);
        assert!(
            acts.bf16.row_stride >= 96
                && acts.bf16.row_stride.is_multiple_of(32)
                && (acts.bf16.row_stride / 32) % 2 == 1
        );
        for row in 0..rows {
            let of_row = |values: &[u16]| values[row * acts.bf16.row_stride..(row + 1) * acts.bf16.row_stride].to_vec();
            let (values, residuals) = (of_row(&acts.bf16.values), of_row(&acts.bf16.residual));
            for (i, x) in x[row * k..(row + 1) * k].iter().enumerate() {
                let value = half::bf16::from_f32(*x);
                let residual = half::bf16::from_f32(x - value.to_f32());
                let same = |bits: u16, expected: half::bf16| {
                    bits == expected.to_bits() || half::bf16::from_bits(bits).is_nan() && expected.is_nan()
                };
                assert!(
                    same(values[i], value) && same(residuals[i], residual),
                    "{isa:?} {x:e}: {:04x} {:04x}",
                    values[i],
                    residuals[i]
                );
            }
            assert!(
                values[k..].iter().chain(&residuals[k..]).all(|bits| *bits == 0),
                "{isa:?}: zeros up to the stride"
            );
        }
    }
}

/// Rows of a table, looked up.
#[test]
fn embed_dequantizes_the_rows_of_the_tokens() {
    let (backend, n, k) = (CpuBackend::new(Isa::select(None).unwrap(), 2), 50, 512);
    for &format in Format::ALL {
        let bytes = Random(7).weights(format, n, k);
        let table = weight(&backend, Precision::Standard, format, &bytes, n, k);
        let dense = Dense::new(format, &bytes, n, k);
        let tokens: Vec<u32> = (0..23).map(|i| i * 31 % 50).chain([0, 49, 49]).collect();
        let mut out = backend.tensor(tokens.len(), k);
        backend.embed(&table, &tokens, &mut out);
        let expected: Vec<f32> =
            tokens.iter().flat_map(|t| &dense.values[*t as usize * k..(*t as usize + 1) * k]).copied().collect();
        assert_bits(format.name(), &backend.read(&out), &expected);
    }
}

#[test]
fn weights_must_fit_their_bytes() {
    let backend = backend(Isa::select(None).unwrap());
    let try_weight = |format, bytes: usize, n, k| {
        backend.weight(format, Bytes::from(vec![0; bytes]), n, k, Precision::Standard).is_ok()
    };
    assert!(try_weight(Format::Q8_0, 68, 2, 32));
    assert!(!try_weight(Format::Q8_0, 67, 2, 32));
    assert!(!try_weight(Format::Q8_0, 69, 2, 32));
    assert!(!try_weight(Format::Q8_0, 68, 2, 33));
    assert!(!try_weight(Format::Q8_0, 0, 2, 0));
    assert!(!try_weight(Format::F32, 0, usize::MAX, 1 << 40));
}
