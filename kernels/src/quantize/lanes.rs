//! Eight floats at a time. Every implementation rounds each operation by itself and adds lanes in the same order.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Eight f32.
pub(super) trait Lanes: Copy {
    fn load(values: &[f32; 8]) -> Self;
    fn splat(value: f32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Lanes of `self` where they are larger, else of `other`.
    fn max(self, other: Self) -> Self;
    /// Lanes of `self` where they are smaller, else of `other`.
    fn min(self, other: Self) -> Self;
    fn store(self) -> [f32; 8];

    /// The sum of the lanes.
    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.store();
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

#[inline(always)]
fn zip(a: [f32; 8], b: [f32; 8], op: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|i| op(a[i], b[i]))
}

impl Lanes for [f32; 8] {
    #[inline(always)]
    fn load(values: &[f32; 8]) -> Self {
        *values
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; 8]
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        zip(self, other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        zip(self, other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        zip(self, other, |a, b| a * b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        zip(self, other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        zip(self, other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn store(self) -> [f32; 8] {
        self
    }
}

/// Lanes of AVX: made only where the CPU has it.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx(__m256);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx {
    #[inline(always)]
    fn load(values: &[f32; 8]) -> Self {
        // SAFETY: the pointer is that of eight floats; AVX is there.
        Avx(unsafe { _mm256_loadu_ps(values.as_ptr()) })
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX is there.
        Avx(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: AVX is there.
        Avx(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: AVX is there.
        Avx(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: AVX is there.
        Avx(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: AVX is there. For NaN the instruction gives its second operand, as the comparison does.
        Avx(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: as in `max`.
        Avx(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn store(self) -> [f32; 8] {
        let mut values = [0.0; 8];
        // SAFETY: the pointer is that of eight floats; AVX is there.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), self.0) };
        values
    }
}
