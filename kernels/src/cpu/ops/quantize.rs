//! Activation quantization: symmetric integer codes with one scale per group of 32.
//!
//! A group is quantized from its own 32 values alone. Outliers (Qwen3's massive activations) cost precision only inside
//! their own group.

use crate::cpu::simd::{Code, Simd};

/// Activation values that share a scale.
pub(crate) const GROUP: usize = 32;

/// Groups whose largest magnitude is below this become zeros, so that `MAX / amax` stays finite.
const TINY: f32 = 1e-30;

/// Quantizes one row: `x ≈ scale * code` per group. `sums` gets the sum of the codes of each half group (16 codes), as
/// a float; at most 16 · 32767 < 2^24, so exact. A group that holds NaN or infinity gets a NaN scale.
///
/// # Panics
/// When the lengths are not K, K, K / 32 and K / 16 with K divisible by 32.
#[inline(always)]
pub(crate) fn quantize_row<S: Simd, C: Code>(s: S, x: &[f32], codes: &mut [C], scales: &mut [f32], sums: &mut [f32]) {
    let groups = x.len() / GROUP;
    assert!(x.len() == groups * GROUP && codes.len() == x.len() && scales.len() == groups && sums.len() == 2 * groups);
    let zero = s.splat(0.0);
    for g in 0..groups {
        // SAFETY: group g lies inside x and codes, by the assertion above; 32 is a multiple of LANES.
        unsafe {
            let p = x.as_ptr().add(g * GROUP);
            let out = codes.as_mut_ptr().add(g * GROUP);
            let mut amax = zero;
            // Stays 0 for finite values, becomes NaN otherwise: the maximum alone may lose a NaN.
            let mut poison = zero;
            for i in (0..GROUP).step_by(S::LANES) {
                let v = s.load(p.add(i));
                amax = s.max(amax, s.abs(v));
                poison = s.fma(v, zero, poison);
            }
            let amax = s.max_lane(amax);
            let poison = s.sum(poison);
            let inverse = if amax < TINY { 0.0 } else { C::MAX / amax };
            scales[g] = if amax < TINY { poison } else { amax * (1.0 / C::MAX) + poison };
            let inverse = s.splat(if poison == 0.0 { inverse } else { 0.0 });
            for h in 0..2 {
                let mut sum = zero;
                for i in (16 * h..16 * h + 16).step_by(S::LANES) {
                    // |x · MAX / amax| exceeds MAX by less than two roundings, so it rounds to MAX at most.
                    // A poisoned group gets arbitrary codes; its NaN scale is what counts.
                    let code = s.round(s.mul(s.load(p.add(i)), inverse));
                    C::store(s, out.add(i), code);
                    sum = s.add(sum, code);
                }
                sums[2 * g + h] = s.sum(sum);
            }
        }
    }
}
