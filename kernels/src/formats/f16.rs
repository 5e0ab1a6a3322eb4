//! f16 to f32, inlined into whatever instruction set calls it: no run-time detection, no call, no branch.

/// The f32 equal to an f16 given by its bits: exact for every finite value and infinity, NaN for NaN.
///
/// Scales of real weights are often subnormal as f16, so this stays clear of subnormal f32 operands, which cost a
/// microcode assist and would be flushed to zero under denormals-are-zero.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    const BIAS: u32 = (127 - 15) << 23;
    const SUBNORMAL_END: u32 = 1 << 10;
    const INFINITY: u32 = 0x7c00;
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    // An infinite or NaN exponent moves on to the f32 one by a second change of bias.
    let normal = (magnitude << 13) + if magnitude >= INFINITY { 2 * BIAS } else { BIAS };
    // The last mantissa bit of 0.5 weighs 2^-24, the unit of subnormal f16.
    let subnormal = (f32::from_bits(0.5f32.to_bits() | magnitude) - 0.5).to_bits();
    f32::from_bits(sign | if magnitude < SUBNORMAL_END { subnormal } else { normal })
}
