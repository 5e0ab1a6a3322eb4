//! F32, F16 and BF16: values stored one by one.

use super::f16_to_f32;

/// A way to store a value by itself.
pub(crate) trait Float {
    /// The values of a row; `bytes` holds exactly `out.len()` of them.
    fn dequantize(bytes: &[u8], out: &mut [f32]);
}

/// IEEE 754 single precision.
pub(crate) struct F32;
/// IEEE 754 half precision.
pub(crate) struct F16;
/// The upper half of an F32.
pub(crate) struct BF16;

impl Float for F32 {
    fn dequantize(bytes: &[u8], out: &mut [f32]) {
        convert(bytes, out, f32::from_le_bytes);
    }
}

impl Float for F16 {
    fn dequantize(bytes: &[u8], out: &mut [f32]) {
        convert(bytes, out, |b| f16_to_f32(u16::from_le_bytes(b)));
    }
}

impl Float for BF16 {
    fn dequantize(bytes: &[u8], out: &mut [f32]) {
        convert(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
    }
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], to_f32: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = to_f32(*bytes);
    }
}
