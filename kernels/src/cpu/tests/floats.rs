//! The float operations against f64, on every tier.

use super::*;

/// Lengths with and without tails of 8 and 16 lanes.
const LENGTHS: [usize; 12] = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1024];

/// Relative error of x / rms(x) · weight over n values. The squares are summed in at least 8 chains of n / 8 (plus the
/// tail), the chains in at most 4 steps; a chain that is not fused rounds twice a step (four fused ones of n / 4 once each,
/// which is as much). The square root halves that; the mean, eps, the root, its inverse and two products round once each.
fn norm_error(n: usize) -> f64 {
    U * (n.div_ceil(8) as f64 + 3.0 + 7.0)
}

fn inverse_rms(x: &[f32], eps: f32) -> f64 {
    let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    1.0 / (squares / x.len() as f64 + f64::from(eps)).sqrt()
}

#[test]
fn rms_norm_is_exact_but_for_rounding() {
    for isa in isas() {
        let backend = backend(isa);
        let mut random = Random(11);
        for n in LENGTHS {
            for magnitude in [1.0, 1e-12, 1e12] {
                let rows = 5;
                let values: Vec<f32> = random.normals(rows * n).iter().map(|x| x * magnitude).collect();
                let (x, w) = (tensor(&backend, rows, n, &values), backend.vector(&random.normals(n)));
                let mut all = backend.activations(rows, n, F32);
                backend.rms_norm(&x, &w, 1e-6, &mut all);
                for row in 0..rows {
                    let x = x.row(row);
                    let scale = inverse_rms(x, 1e-6);
                    for i in 0..n {
                        let expected = f64::from(x[i]) * scale * f64::from(w[i]);
                        let what = || format!("{} rms_norm of {n}: row {row} value {i}", isa.name);
                        assert_close(what, all.f32[row * n + i], expected, norm_error(n) * expected.abs());
                    }
                }
                let wanted = [4, 0, 4, 2];
                let mut some = backend.tensor(wanted.len(), n);
                backend.rms_norm_rows(&x, &wanted, &w, 1e-6, &mut some);
                for (i, row) in wanted.into_iter().enumerate() {
                    assert_bits("rms_norm_rows", some.row(i), &all.f32[row * n..(row + 1) * n]);
                }
            }
        }
    }
}

/// A result that is not right must not look right.
#[test]
fn rms_norm_of_what_overflows_is_not_finite() {
    for isa in isas() {
        let backend = backend(isa);
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e30] {
            for at in 0..33 {
                let mut values = Random(12).normals(3 * 33);
                values[33 + at] = poison;
                let (x, w) = (tensor(&backend, 3, 33, &values), backend.vector(&[1.0; 33]));
                let mut out = backend.activations(3, 33, F32);
                backend.rms_norm(&x, &w, 1e-6, &mut out);
                assert!(out.f32[33..66].iter().all(|x| !x.is_finite()), "{} {poison:e} at {at}", isa.name);
                assert!(out.f32[..33].iter().chain(&out.f32[66..]).all(|x| x.is_finite()));
            }
        }
    }
}

#[test]
fn rope_angles_are_those_of_the_formula() {
    let backend = backend(Isa::select(None).unwrap());
    let positions = [0u32, 1, 2, 7, 100, 2047, 2048, 2049, 32767, 40959];
    for (dim, base) in [(2, 1e4f32), (80, 1e6), (128, 1e6)] {
        let rope = backend.rope(&positions, dim, base);
        for (row, position) in positions.into_iter().enumerate() {
            for i in 0..dim / 2 {
                let exponent = 2.0 * i as f64 / dim as f64;
                let angle = f64::from(position) * f64::from(base).powf(-exponent);
                // The exponent's rounding counts ln(base) times; then the power, its inverse and the product.
                let tolerance = angle * U * (f64::from(base).ln() + 4.0) + 2.0 * U;
                let at = row * (dim / 2) + i;
                assert_close(|| format!("cos {position} {i}"), rope.cos[at], angle.cos(), tolerance);
                assert_close(|| format!("sin {position} {i}"), rope.sin[at], angle.sin(), tolerance);
            }
        }
    }
}

/// They decide over the bits of a vector, so they are the same on every operating system and processor.
#[test]
fn rope_angles_have_the_same_bits_everywhere() {
    let positions: Vec<u32> = (0..4096).chain(32000..32768).collect();
    let rope = backend(Isa::select(None).unwrap()).rope(&positions, 128, 1e6);
    // FNV-1a.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for x in rope.cos.iter().chain(&rope.sin) {
        hash =
            x.to_bits().to_le_bytes().iter().fold(hash, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    }
    assert_eq!(hash, 0x3518_2ed0_58b0_791d, "{hash:#x}");
}

#[test]
fn norm_rope_rotates_normed_heads() {
    for isa in isas() {
        let backend = CpuBackend::new(isa, 2);
        let mut random = Random(13);
        for dim in [2, 6, 16, 24, 32, 34, 80, 96, 128] {
            let (rows, heads, half) = (11, 3, dim / 2);
            let cols = heads * dim;
            let values = random.normals(rows * cols);
            let w = backend.vector(&random.normals(dim));
            let rope = backend.rope(&(0..rows as u32).map(|i| i * 37).collect::<Vec<_>>(), dim, 1e6);
            let mut x = tensor(&backend, rows, cols, &values);
            backend.norm_rope(&mut x, &w, 1e-6, &rope);
            for (head, (ours, x)) in backend.read(&x).chunks(dim).zip(values.chunks(dim)).enumerate() {
                let scale = inverse_rms(x, 1e-6);
                let normed = |i: usize| f64::from(x[i]) * scale * f64::from(w[i]);
                for i in 0..half {
                    let at = head / heads * half + i;
                    let (cos, sin) = (f64::from(rope.cos[at]), f64::from(rope.sin[at]));
                    let (a, b) = (normed(i), normed(half + i));
                    // Two products and a sum on top of the norm.
                    let error = norm_error(dim) + 3.0 * U;
                    let what = |part| move || format!("{} norm_rope of {dim}: head {head} {part} {i}", isa.name);
                    let size = (a * cos).abs() + (b * sin).abs();
                    assert_close(what("first"), ours[i], a * cos - b * sin, error * size);
                    let size = (b * cos).abs() + (a * sin).abs();
                    assert_close(what("second"), ours[half + i], b * cos + a * sin, error * size);
                }
            }
        }
    }
}

#[test]
fn silu_mul_is_exact_but_for_rounding() {
    // A length that has a tail on every tier, and a step that hits no round numbers.
    let gate: Vec<f32> = (-20003..20004).map(|i| i as f32 * 0.005).collect();
    let cols = gate.len();
    let up = Random(14).normals(cols);
    for isa in isas() {
        let mut out = vec![0.0; cols];
        isa.tier.silu_mul(&gate, &up, &mut out);
        for i in 0..cols {
            let (g, u) = (f64::from(gate[i]), f64::from(up[i]));
            let expected = g / (1.0 + (-g).exp()) * u;
            // The exponent g · log2(e) is off by two roundings (constant and product), which e^−g multiplies by
            // |g|; exp2 by 2e-7; sum, quotient and product by one rounding each. Below −88.3 e^−g overflows to infinity.
            let absolute = if g < -88.3 { 89.0 * u.abs() * (-88.3f64).exp() } else { 1e-44 };
            let tolerance = expected.abs() * (2.0 * U * g.abs() + 2e-7 + 3.0 * U) + absolute;
            assert_close(|| format!("{} silu({g}) · {u}", isa.name), out[i], expected, tolerance);
        }
    }
}

#[test]
fn silu_mul_lets_through_what_is_not_finite() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for isa in isas() {
        for cols in [16, 19] {
            for at in 0..cols {
                for (gate, up) in odd.iter().flat_map(|x| [(*x, 1.0), (1.0, *x), (*x, *x), (-1.0, *x)]) {
                    let (mut gates, mut ups) = (vec![0.5; cols], vec![0.25; cols]);
                    (gates[at], ups[at]) = (gate, up);
                    let mut out = vec![0.0; cols];
                    isa.tier.silu_mul(&gates, &ups, &mut out);
                    for (i, x) in out.iter().enumerate() {
                        assert_eq!(x.is_finite(), i != at, "{} silu({gate}) · {up} at {at} of {cols}: {i}", isa.name);
                    }
                }
            }
        }
    }
}

/// The claim of `Simd::exp2`: 2e-7.
#[test]
fn exp2_is_as_accurate_as_it_says() {
    for isa in isas() {
        let mut worst = 0f64;
        // 2^21 values over the whole range, and every f32 next to a half and to an integer, where rounding turns.
        let mut x: Vec<f32> = (0..1 << 21).map(|i| -126.5 + 254.0 * (i as f32 / (1 << 21) as f32)).collect();
        for n in -253..=254 {
            let mut y = (n as f32 / 2.0).next_down().next_down();
            for _ in 0..5 {
                x.push(y);
                y = y.next_up();
            }
        }
        x.retain(|x| (-126.49..=127.49).contains(x));
        x.resize(x.len().next_multiple_of(16), 0.0);
        let mut ours = x.clone();
        isa.tier.exp2(&mut ours);
        for (x, ours) in x.iter().zip(&ours) {
            let expected = f64::from(*x).exp2();
            let error = (f64::from(*ours) / expected - 1.0).abs();
            assert!(error < 2e-7, "{} exp2({x}) = {ours:e}, expected {expected:e}: off by {error:e}", isa.name);
            worst = worst.max(error);
        }
        eprintln!("{}: worst relative error of exp2 {worst:.2e}", isa.name);

        let edges = [
            (-127.0, 0.0),
            (-126.51, 0.0),
            (-1e30, 0.0),
            (f32::NEG_INFINITY, 0.0),
            (127.51, f32::INFINITY),
            (128.0, f32::INFINITY),
            (1e30, f32::INFINITY),
            (f32::INFINITY, f32::INFINITY),
            (0.0, 1.0),
            (-0.0, 1.0),
            (10.0, 1024.0),
        ];
        for (x, expected) in edges {
            let mut ours = [x; 16];
            isa.tier.exp2(&mut ours);
            assert_bits(&format!("{} exp2({x})", isa.name), &ours, &[expected; 16]);
        }
        let mut nan = [f32::NAN; 16];
        isa.tier.exp2(&mut nan);
        assert!(nan.iter().all(|x| x.is_nan()), "{} exp2(NaN)", isa.name);
    }
}
