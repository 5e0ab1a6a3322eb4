//! F32, F16 and BF16: values stored one by one.

use super::f16::f16_to_f32;
use half::{bf16, f16};

/// A way to store a value by itself.
pub(crate) trait Float {
    /// Bytes of a value.
    const BYTES: usize;

    /// The values of a row; `bytes` holds exactly `out.len()` of them.
    fn dequantize(bytes: &[u8], out: &mut [f32]);
    /// The nearest bytes of values; `bytes` holds room for exactly `values.len()` of them.
    fn quantize(values: &[f32], bytes: &mut [u8]);
    /// Whether a finite value would become infinite.
    fn is_too_large(value: f32) -> bool;
}

/// IEEE 754 single precision.
pub(crate) struct F32;
/// IEEE 754 half precision.
pub(crate) struct F16;
/// The upper half of an F32.
pub(crate) struct BF16;

impl Float for F32 {
    const BYTES: usize = 4;

    fn dequantize(bytes: &[u8], out: &mut [f32]) {
        convert(bytes, out, f32::from_le_bytes);
    }

    fn quantize(values: &[f32], bytes: &mut [u8]) {
        store(values, bytes, f32::to_le_bytes);
    }

    fn is_too_large(_: f32) -> bool {
        false
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    fn dequantize(bytes: &[u8], out: &mut [f32]) {
        convert(bytes, out, |b| f16_to_f32(u16::from_le_bytes(b)));
    }

    fn quantize(values: &[f32], bytes: &mut [u8]) {
        store(values, bytes, |x| f16::from_f32(x).to_le_bytes());
    }

    fn is_too_large(value: f32) -> bool {
        f16::from_f32(value).is_infinite()
    }
}

impl Float for BF16 {
    const BYTES: usize = 2;

    fn dequantize(bytes: &[u8], out: &mut [f32]) {
        convert(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
    }

    fn quantize(values: &[f32], bytes: &mut [u8]) {
        store(values, bytes, |x| bf16::from_f32(x).to_le_bytes());
    }

    fn is_too_large(value: f32) -> bool {
        bf16::from_f32(value).is_infinite()
    }
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], to_f32: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = to_f32(*bytes);
    }
}

fn store<const N: usize>(values: &[f32], bytes: &mut [u8], to_bytes: impl Fn(f32) -> [u8; N]) {
    for (value, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
        *bytes = to_bytes(*value);
    }
}
