//! Products of activations at the edges of f32: every kind of group, and values that are not finite.

use super::oracle::{Dense, Expected, Seen};
use super::*;
use crate::cpu::activations::GROUP;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// What a group of activations looks like.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Zeros,
    Normal,
    Denormal,
    /// Next to the threshold below which a group counts as zero.
    Tiny,
    Equal,
    /// One value a million times as large as the others.
    Outlier,
    Large,
    /// The largest finite value, of either sign.
    Max,
}

fn kind() -> impl Strategy<Value = Kind> {
    use Kind::*;
    prop::sample::select(vec![Zeros, Normal, Denormal, Tiny, Equal, Outlier, Large, Max])
}

fn group(kind: Kind, random: &mut Random) -> Vec<f32> {
    let mut x = random.normals(GROUP);
    let at = random.below(GROUP);
    match kind {
        Kind::Zeros => x.iter_mut().for_each(|x| *x *= 0.0),
        Kind::Normal => (),
        Kind::Denormal => x.iter_mut().for_each(|x| *x *= 1e-40),
        Kind::Tiny => x.iter_mut().for_each(|x| *x *= 5e-31),
        Kind::Equal => x = vec![x[0]; GROUP],
        Kind::Outlier => x[at] *= 1e6,
        Kind::Large => x.iter_mut().for_each(|x| *x *= 1e33),
        Kind::Max => x.iter_mut().for_each(|x| *x = f32::MAX.copysign(*x)),
    }
    x
}

/// |x − scale · code| for a value of a group whose largest is `amax`; see `quantize`: half a step, the roundings of scale,
/// inverse and quotient; or all of it in a group that counts as zero.
fn step_error(scale: f32, amax: f32, x: f32) -> f64 {
    if amax < 1e-30 { f64::from(amax) } else { f64::from(scale) / 2.0 + 4.0 * U * f64::from(x.abs()) }
}

fn check(
    isa: &'static Isa,
    precision: Precision,
    format: Format,
    kinds: &[Vec<Kind>],
    seed: u64,
) -> Result<(), TestCaseError> {
    let (backend, n) = (backend(isa), 33);
    let (rows, k) = (kinds.len(), kinds[0].len() * GROUP);
    let mut random = Random(seed);
    let bytes = random.weights(format, n, k);
    let x: Vec<f32> = kinds.iter().flatten().flat_map(|kind| group(*kind, &mut random)).collect();
    let weight = weight(&backend, precision, format, &bytes, n, k);
    let form = backend.form(&weight);
    let seen = Seen::new(form, &acts(&backend, rows, k, form, &x), &x);
    if let Seen::Codes(q) = &seen {
        for (g, x) in x.chunks(GROUP).enumerate() {
            let (scale, amax) = (q.scales[g], x.iter().fold(0f32, |m, x| m.max(x.abs())));
            prop_assert!(scale.is_finite() && scale >= 0.0, "{isa:?} scale {scale:e} of {x:?}");
            for (i, x) in x.iter().enumerate() {
                let error = f64::from(*x) - f64::from(scale) * f64::from(q.codes[g * GROUP + i]);
                prop_assert!(error.abs() <= step_error(scale, amax, *x), "{isa:?} {x:e} of a group up to {amax:e}");
            }
        }
    }
    let dense = Dense::new(format, &bytes, n, k);
    let ours = product(&backend, &weight, rows, &x);
    for row in 0..rows {
        for column in 0..n {
            let Expected { value: expected, size, rounding } = seen.product(&dense, row, column);
            let value = ours[row * n + column];
            if size < f64::from(f32::MAX) {
                // Products below the normal range are off by up to its smallest step each, times a weight within 8.
                let tolerance = rounding + 1e-44 * 8.0 * k as f64;
                let error = (f64::from(value) - expected).abs();
                prop_assert!(
                    error <= tolerance,
                    "{} {format} {:?}: {value:e}, expected {expected:e}; off by {error:.2e} > {tolerance:.2e}",
                    isa.name,
                    kinds[row]
                );
            } else {
                // Some part of it overflows, whichever: then the sum may, or may come back as a finite value.
                prop_assert!(!value.is_finite() || (f64::from(value) - expected).abs() <= 2.0 * rounding);
            }
        }
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(17), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn any_kind_of_group_stays_within_its_own_error(
        kinds in prop::collection::vec(prop::collection::vec(kind(), 8), 1..7),
        format in prop::sample::select(Format::ALL.to_vec()),
        seed in any::<u64>(),
    ) {
        for (isa, precision) in tiers() {
            check(isa, precision, format, &kinds, seed)?;
        }
    }

    #[test]
    fn a_row_that_is_not_finite_stays_so_and_alone(
        format in prop::sample::select(Format::ALL.to_vec()),
        rows in 1usize..14,
        poisoned in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        poison in prop::sample::select(vec![f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        quiet in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (n, k) = (40, 768);
        let (poisoned, at) = (poisoned.index(rows), at.index(k));
        let mut random = Random(seed);
        let (bytes, good) = (random.weights(format, n, k), random.normals(rows * k));
        let mut bad = good.clone();
        if quiet {
            // Among zeros and tiny values, where the largest magnitude says nothing.
            bad[poisoned * k..(poisoned + 1) * k].iter_mut().for_each(|x| *x *= 1e-35);
        }
        bad[poisoned * k + at] = poison;
        for (isa, precision) in tiers() {
            let backend = backend(isa);
            let weight = weight(&backend, precision, format, &bytes, n, k);
            let (good, bad) = (product(&backend, &weight, rows, &good), product(&backend, &weight, rows, &bad));
            for (i, (good, bad)) in good.iter().zip(&bad).enumerate() {
                if i / n == poisoned {
                    prop_assert!(!bad.is_finite(), "{} {format} {poison} at {at} of row {poisoned}: {bad:e}", isa.name);
                } else {
                    prop_assert_eq!(good.to_bits(), bad.to_bits(), "{} {} row {}", isa.name, format, i / n);
                }
            }
        }
    }
}

/// Any bytes are weights. A column of broken ones is not finite; it must not reach its neighbours.
#[test]
fn broken_weights_stay_in_their_column() {
    for (isa, precision) in tiers() {
        let backend = backend(isa);
        for &format in Format::ALL {
            let (rows, n, k) = (7, 40, 512);
            let mut random = Random(41);
            let (good, x) = (random.weights(format, n, k), random.normals(rows * k));
            let row_bytes = good.len() / n;
            for column in [0, 15, 16, 31, 39] {
                let mut bad = good.clone();
                // Every field of the last block is all ones: NaN where it is a float, the largest power of two of MXFP4.
                bad[(column + 1) * row_bytes - format.block_bytes()..(column + 1) * row_bytes].fill(0xff);
                let good = product(&backend, &weight(&backend, precision, format, &good, n, k), rows, &x);
                let bad = product(&backend, &weight(&backend, precision, format, &bad, n, k), rows, &x);
                for (i, (good, bad)) in good.iter().zip(&bad).enumerate() {
                    if i % n == column {
                        assert!(!bad.is_finite(), "{} {format} column {column}: {bad:e}", isa.name);
                    } else {
                        assert_eq!(good.to_bits(), bad.to_bits(), "{} {format} column {}", isa.name, i % n);
                    }
                }
            }
        }
    }
}

/// A block as near to all `fill` as it can be while its values stay of a usual size: codes at an end of their range.
fn filled(format: Format, fill: u8, random: &mut Random) -> Vec<u8> {
    let mut block = random.weights(format, 1, format.block_len());
    let mut values = vec![0.0; format.block_len()];
    for i in 0..block.len() {
        let before = std::mem::replace(&mut block[i], fill);
        format.dequantize(&block, &mut values);
        // Not zeros either, as a scale of all zeros makes.
        if !values.iter().all(|x| x.abs() < 1e4) || values.iter().all(|x| x.abs() < 1e-4) {
            block[i] = before;
        }
    }
    block
}

/// Sums of nothing but the largest codes, of one sign, are what narrow accumulators must have room for.
#[test]
fn sums_of_the_largest_codes_are_exact() {
    for (isa, precision) in tiers() {
        let backend = backend(isa);
        for format in Format::ALL.iter().copied().filter(|format| !format.is_float()) {
            for fill in [0x00, 0x7f, 0x80, 0xff] {
                let (n, k, rows) = (33, 512, 9);
                let mut random = Random(u64::from(fill));
                let blocks = n * k / format.block_len();
                let bytes: Vec<u8> = (0..blocks).flat_map(|_| filled(format, fill, &mut random)).collect();
                let x: Vec<f32> = (0..rows * k).map(|i| if i / k % 2 == 0 { 1.0 } else { -1.0 }).collect();
                let weight = weight(&backend, precision, format, &bytes, n, k);
                let form = backend.form(&weight);
                let seen = Seen::new(form, &acts(&backend, rows, k, form, &x), &x);
                let dense = Dense::new(format, &bytes, n, k);
                for (i, ours) in product(&backend, &weight, rows, &x).into_iter().enumerate() {
                    let Expected { value, rounding, .. } = seen.product(&dense, i / n, i % n);
                    let what = || format!("{} {format} of {fill:#x}: row {} column {}", isa.name, i / n, i % n);
                    assert_close(what, ours, value, rounding);
                }
            }
        }
    }
}

/// Float weights at the edges of what their format holds: a product is right, or it is not finite.
#[test]
fn float_weights_at_the_edges_of_their_range() {
    let formats = [
        (Format::F32, [f32::MAX, f32::MIN_POSITIVE, 1e-40]),
        (Format::BF16, [f32::from_bits(0x7f7f_0000), f32::MIN_POSITIVE, f32::from_bits(0x0001_0000)]),
        (Format::F16, [65504.0, 2f32.powi(-14), 2f32.powi(-24)]),
    ];
    let (rows, k) = (5, 96);
    for (format, [most, least, denormal]) in formats {
        let mut random = Random(43);
        let sign = |i: usize| if i.is_multiple_of(3) { -1.0 } else { 1.0 };
        let one_of = |odd: f32| move |i: usize| if i == 50 { odd } else { sign(i) };
        // Each a row of weights: value i of k.
        let columns: [&dyn Fn(usize) -> f32; 11] = [
            &|i| most * sign(i),
            &|i| most / 512.0 * sign(i),
            &|i| least * sign(i),
            &|i| denormal * sign(i),
            &|i| if i.is_multiple_of(2) { most / 512.0 } else { denormal },
            &|i| if i == 7 { most } else { 0.0 },
            &one_of(most / 4.0),
            &one_of(f32::NAN),
            &one_of(f32::INFINITY),
            &one_of(f32::NEG_INFINITY),
            &|_| -0.0,
        ];
        let n = columns.len();
        let values: Vec<f32> = columns.iter().flat_map(|column| (0..k).map(column)).collect();
        let mut bytes = vec![0; n * format.row_bytes(k).unwrap()];
        format.quantize(&values, &mut bytes);
        let (dense, x) = (Dense::new(format, &bytes, n, k), random.normals(rows * k));
        for (isa, precision) in tiers() {
            let backend = backend(isa);
            let weight = weight(&backend, precision, format, &bytes, n, k);
            let form = backend.form(&weight);
            let seen = Seen::new(form, &acts(&backend, rows, k, form, &x), &x);
            for (i, ours) in product(&backend, &weight, rows, &x).into_iter().enumerate() {
                let Expected { value, size, rounding } = seen.product(&dense, i / n, i % n);
                // Otherwise some part overflows, or is not finite in the first place. The rest as in `check`.
                let finite = size < f64::from(f32::MAX);
                let right = (f64::from(ours) - value).abs() <= rounding + 1e-44 * 8.0 * k as f64;
                assert!(
                    if finite { right } else { !ours.is_finite() || right },
                    "{} {format} column {}: {ours:e}, expected {value:e}, size {size:e}",
                    isa.name,
                    i % n
                );
            }
        }
    }
}
