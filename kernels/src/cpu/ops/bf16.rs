//! bfloat16: the upper half of an f32, eight significant bits.

/// Rounds to the nearest bfloat16, ties to even; NaN stays NaN. Returns its bits.
#[inline(always)]
fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A NaN keeps its upper half, with a bit set that makes sure that it stays one.
    (if x.is_nan() { bits | 0x40_0000 } else { rounded } >> 16) as u16
}

/// The f32 of the same value.
#[inline(always)]
pub(crate) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounds a row to bfloat16. `residual`, if it is not empty, gets what that took away, rounded likewise: both together are
/// within 2^-16 of a value, relatively.
///
/// # Panics
/// When a length is not that of the row.
#[inline(always)]
pub(crate) fn round_row(x: &[f32], values: &mut [u16], residual: &mut [u16]) {
    assert!(values.len() == x.len() && (residual.is_empty() || residual.len() == x.len()));
    for (value, x) in values.iter_mut().zip(x) {
        *value = round(*x);
    }
    for ((residual, value), x) in residual.iter_mut().zip(values).zip(x) {
        *residual = round(x - widen(*value));
    }
}
