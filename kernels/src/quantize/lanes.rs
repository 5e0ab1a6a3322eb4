//! Eight floats at a time. Every implementation rounds each operation by itself and adds lanes in the same order.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// What makes eight f32: the proof that the CPU has the instructions.
pub(super) trait Lanes: Copy {
    type V: Vector;
    fn load(self, values: &[f32; 8]) -> Self::V;
    fn splat(self, value: f32) -> Self::V;
}

/// Eight f32.
pub(super) trait Vector: Copy {
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

/// Needs nothing that a CPU may lack.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Lanes for Portable {
    type V = [f32; 8];
    #[inline(always)]
    fn load(self, values: &[f32; 8]) -> Self::V {
        *values
    }
    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; 8]
    }
}

impl Vector for [f32; 8] {
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

/// Proof of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// The proof, where the CPU has it, and the operating system keeps its registers.
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx2 {
    type V = Avx;
    #[inline(always)]
    fn load(self, values: &[f32; 8]) -> Avx {
        // SAFETY: the pointer is that of eight floats; `self` is the proof of AVX.
        Avx(unsafe { _mm256_loadu_ps(values.as_ptr()) })
    }
    #[inline(always)]
    fn splat(self, value: f32) -> Avx {
        // SAFETY: `self` is the proof of AVX.
        Avx(unsafe { _mm256_set1_ps(value) })
    }
}

/// Eight lanes of AVX, which nothing but an [`Avx2`] makes anew: a value is the proof too.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx(__m256);

#[cfg(target_arch = "x86_64")]
impl Vector for Avx {
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: `self` is the proof of AVX.
        Avx(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: `self` is the proof of AVX.
        Avx(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: `self` is the proof of AVX.
        Avx(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: `self` is the proof of AVX. For NaN the instruction gives its second operand, as the comparison does.
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
        // SAFETY: the pointer is that of eight floats; `self` is the proof of AVX.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), self.0) };
        values
    }
}
