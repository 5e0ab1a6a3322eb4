//! F32, F16 and BF16: values stored one by one.

use super::{Format, f16_to_f32};

/// The values of a row in a float format; `bytes` holds exactly `out.len()` of them.
pub(super) fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) {
    match format {
        Format::F32 => convert(bytes, out, f32::from_le_bytes),
        Format::F16 => convert(bytes, out, |b| f16_to_f32(u16::from_le_bytes(b))),
        Format::BF16 => convert(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        _ => unreachable!("{format} is not a float format"),
    }
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], to_f32: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = to_f32(*bytes);
    }
}
