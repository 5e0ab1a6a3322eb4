//! Activation quantization: symmetric integer codes with one scale per group of 32.
//!
//! A group is quantized from its own 32 values alone. Outliers (Qwen3's massive activations) cost precision only inside
//! their own group.

use crate::cpu::activations::{GROUP, MEANS, ROWS_PER_LINE};
use crate::cpu::simd::{Code, Simd};
use crate::rounding::MAGIC;

/// Groups whose largest magnitude is below this become zeros, so that `MAX / amax` stays finite.
pub(crate) const TINY: f32 = 1e-30;

/// Quantizes one row: `x ≈ scale * code` per group. `sums` gets the sum of the codes of each half group (16 codes), as
/// a float; at most 16 · 32767 < 2^24, so exact. A group that holds NaN or infinity gets a NaN scale.
///
/// # Panics
/// When the lengths are not K, K, K / 32 and K / 16 with K divisible by 32.
#[inline(always)]
pub(crate) fn quantize_row<S: Simd, C: Code>(s: S, x: &[f32], codes: &mut [C], scales: &mut [f32], sums: &mut [f32]) {
    let groups = x.len() / GROUP;
    assert!(x.len() == groups * GROUP && codes.len() == x.len() && scales.len() == groups && sums.len() == 2 * groups);
    for g in 0..groups {
        // SAFETY: group g lies inside x and codes, by the assertion above; 16 is a multiple of LANES.
        unsafe {
            let (p, out) = (x.as_ptr().add(g * GROUP), codes.as_mut_ptr().add(g * GROUP));
            let (scale, inverse) = scale_of(s, p, GROUP, C::MAX);
            scales[g] = scale;
            for h in 0..2 {
                sums[2 * g + h] = round_codes(s, p.add(16 * h), inverse, out.add(16 * h), 16);
            }
        }
    }
}

/// [`quantize_row`] to 8-bit codes, with one sum for each group.
///
/// # Panics
/// When the lengths are not K, K, K / 32 and K / 32, with K divisible by 32.
#[inline(always)]
pub(crate) fn quantize_uniform<S: Simd>(s: S, x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32]) {
    let groups = x.len() / GROUP;
    assert!(x.len() == groups * GROUP && codes.len() == x.len() && scales.len() == groups && sums.len() == groups);
    for g in 0..groups {
        // SAFETY: group g lies inside x and codes, by the assertion above; 32 is a multiple of LANES.
        unsafe {
            let (p, out) = (x.as_ptr().add(g * GROUP), codes.as_mut_ptr().add(g * GROUP));
            let (scale, inverse) = scale_of(s, p, GROUP, <i8 as Code>::MAX);
            scales[g] = scale;
            sums[g] = round_codes(s, p, inverse, out, GROUP);
        }
    }
}

/// Means of the groups of a part, each of [`ROWS_PER_LINE`] rows.
pub(crate) type Means = [[f32; ROWS_PER_LINE]; MEANS];

/// [`Means`] as 8-bit codes, those of a row side by side, with one scale and the sum for each row.
#[derive(Default)]
pub(crate) struct MeanCodes {
    pub(crate) codes: [[i8; MEANS]; ROWS_PER_LINE],
    pub(crate) scales: [f32; ROWS_PER_LINE],
    pub(crate) sums: [i32; ROWS_PER_LINE],
}

/// Quantizes the means of a part's groups, of each row by itself: `mean ≈ scale * code`. The scale of a row that has a NaN may be any: its
/// groups have that, too.
#[inline(always)]
pub(crate) fn quantize_means(means: &Means, to: &mut MeanCodes) {
    let mut largest = [0f32; ROWS_PER_LINE];
    for means in means {
        for (largest, mean) in largest.iter_mut().zip(means) {
            *largest = if mean.abs() > *largest { mean.abs() } else { *largest };
        }
    }
    let inverses = largest.map(|largest| if largest < TINY { 0.0 } else { <i8 as Code>::MAX / largest });
    to.scales = largest.map(|largest| if largest < TINY { 0.0 } else { largest * (1.0 / <i8 as Code>::MAX) });
    to.sums = [0; ROWS_PER_LINE];
    for (word, means) in means.as_chunks::<4>().0.iter().enumerate() {
        let mut words = [0; ROWS_PER_LINE];
        for (i, means) in means.iter().enumerate() {
            for row in 0..ROWS_PER_LINE {
                // The low bits of a sum that has no others: as in `round_codes`, at most MAX. Of NaN any code.
                let code = (means[row] * inverses[row] + MAGIC).to_bits() as i32;
                words[row] |= (code & 0xff) << (8 * i);
                to.sums[row] += code << 24 >> 24;
            }
        }
        for (row, bytes) in words.iter().enumerate() {
            to.codes[row][4 * word..][..4].copy_from_slice(&bytes.to_le_bytes().map(|byte| byte as i8));
        }
    }
}

/// The scale of `len` values, and the factor that takes them to codes of at most `max`.
///
/// # Safety
/// They can be read; `len` is a multiple of LANES.
#[inline(always)]
pub(crate) unsafe fn scale_of<S: Simd>(s: S, p: *const f32, len: usize, max: f32) -> (f32, f32) {
    let zero = s.splat(0.0);
    let mut amax = zero;
    // Stays 0 for finite values, becomes NaN otherwise: the maximum alone may lose a NaN.
    let mut poison = zero;
    for i in (0..len).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        let v = unsafe { s.load(p.add(i)) };
        amax = s.max(amax, s.abs(v));
        poison = s.fma(v, zero, poison);
    }
    let amax = s.max_lane(amax);
    let poison = s.sum(poison);
    let inverse = if amax < TINY { 0.0 } else { max / amax };
    let scale = if amax < TINY { poison } else { amax * (1.0 / max) + poison };
    // A poisoned group gets arbitrary codes; its NaN scale is what counts.
    (scale, if poison == 0.0 { inverse } else { 0.0 })
}

/// Stores the codes of `len` values, and gives their sum.
///
/// # Safety
/// Values can be read, codes written; `len` is a multiple of LANES.
#[inline(always)]
pub(crate) unsafe fn round_codes<S: Simd, C: Code>(s: S, p: *const f32, inverse: f32, out: *mut C, len: usize) -> f32 {
    let inverse = s.splat(inverse);
    let mut sum = s.splat(0.0);
    for i in (0..len).step_by(S::LANES) {
        // |x · MAX / amax| exceeds MAX by less than two roundings, so it rounds to MAX at most.
        // SAFETY: the caller's promise.
        unsafe {
            let code = s.round(s.mul(s.load(p.add(i)), inverse));
            C::store(s, out.add(i), code);
            sum = s.add(sum, code);
        }
    }
    s.sum(sum)
}
