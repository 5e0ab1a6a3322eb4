//! Dequantization of every format against two implementations that share nothing with this one: the `gguf` Python package
//! (by a fixture that `scripts/format_fixtures.py` writes) and candle.
//!
//! All three do the float operations of ggml's reference code in its order, so no tolerance is needed: bits are compared.

mod quantize;
#[path = "../../src/random.rs"]
mod random;

use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device};
use qembed_kernels::formats::Format;
use random::Random;

fn by_name(name: &str) -> Format {
    *Format::ALL.iter().find(|f| f.name() == name).expect("a known format")
}

#[track_caller]
fn assert_same(format: Format, what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{format} {what}");
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
            "{format} {what} value {i}: {ours:e}, expected {theirs:e}"
        );
    }
}

#[test]
fn agrees_with_the_gguf_package() {
    let mut seen = Vec::new();
    for (n, line) in include_str!("data/formats.txt").lines().enumerate() {
        let mut fields = line.split(' ');
        let mut field = || fields.next().expect("three fields");
        let format = by_name(field());
        let bytes: Vec<u8> = hex(field(), 2).map(|b| b as u8).collect();
        let expected: Vec<f32> = hex(field(), 8).map(f32::from_bits).collect();
        assert_eq!(format.row_bytes(expected.len()), Some(bytes.len()));
        let mut values = vec![0.0; expected.len()];
        format.dequantize(&bytes, &mut values);
        assert_same(format, &format!("line {}", n + 1), &values, &expected);
        seen.push(format);
    }
    for &format in Format::ALL {
        assert!(seen.contains(&format), "the fixture has no {format}");
    }
}

fn hex(digits: &str, width: usize) -> impl Iterator<Item = u32> {
    digits
        .as_bytes()
        .chunks(width)
        .map(|d| u32::from_str_radix(std::str::from_utf8(d).expect("ascii"), 16).expect("hex"))
}

/// Every format that candle has (it has neither IQ4 nor MXFP4), on rows of random bytes, infinite and NaN scales among them.
#[test]
fn agrees_with_candle() {
    const FLOATS: [(Format, GgmlDType); 3] =
        [(Format::F32, GgmlDType::F32), (Format::F16, GgmlDType::F16), (Format::BF16, GgmlDType::BF16)];
    const VALUES: usize = 1 << 20;
    let mut random = Random(1);
    for (format, dtype) in FLOATS.into_iter().chain(quantize::FORMATS) {
        let bytes: Vec<u8> =
            (0..format.row_bytes(VALUES).expect("whole blocks")).map(|_| random.next() as u8).collect();
        let theirs = qtensor_from_ggml(dtype, &bytes, vec![VALUES], &Device::Cpu)
            .and_then(|t| t.dequantize(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec1::<f32>())
            .expect("candle dequantizes");
        let mut ours = vec![0.0; VALUES];
        format.dequantize(&bytes, &mut ours);
        assert_same(format, "against candle", &ours, &theirs);
    }
}

/// A few blocks, then the same with one byte less: wrong lengths are the caller's error and are not read past.
#[test]
fn wrong_lengths_panic() {
    for &format in Format::ALL {
        let len = 2 * format.block_len();
        let bytes = vec![0; format.row_bytes(len).expect("whole blocks")];
        let run = |bytes: &[u8], len: usize| {
            std::panic::catch_unwind(|| format.dequantize(bytes, &mut vec![0.0; len])).is_err()
        };
        assert!(!run(&bytes, len), "{format}");
        assert!(run(&bytes[1..], len), "{format}: one byte less");
        assert!(run(&bytes, len - 1), "{format}: one value less");
        assert!(run(&bytes, len / 2), "{format}: one block less");
    }
}
