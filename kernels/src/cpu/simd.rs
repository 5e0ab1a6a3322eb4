//! Vectors of f32 behind one trait, so that every float operation is written once and instantiated per instruction set.
//!
//! A value of a type that implements [`Simd`] is the proof that the CPU has the instructions: it is made only by
//! detection (see `isa`). Methods are `#[inline(always)]` and meant to be inlined into a `#[target_feature]` function.

use crate::buffer::Plain;
use crate::rounding::MAGIC;

/// The float vector operations of one instruction set.
///
/// `max` and `min` return their second operand when either is NaN (as x86 does), or NaN (as ARM does), which the callers
/// rely on to let NaN through: clamp with `max(limit, x)`.
pub(crate) trait Simd: Copy {
    /// One vector of [`Simd::LANES`] floats.
    type F: Copy;
    const LANES: usize;
    /// Rows of the register tile of [`super::ops::matmul`].
    const ROWS: usize;

    fn splat(self, x: f32) -> Self::F;
    /// Loads `LANES` floats.
    ///
    /// # Safety
    /// `p` is readable for that many.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Stores `LANES` floats.
    ///
    /// # Safety
    /// `p` is writable for that many.
    unsafe fn store(self, p: *mut f32, x: Self::F);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`; fused where the instruction set has it.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even. Defined for |a| < 2^22.
    fn round(self, a: Self::F) -> Self::F;
    /// The bits shifted left by 23: the lowest nine become sign and exponent.
    fn shift_to_exponent(self, a: Self::F) -> Self::F;
    fn sum(self, a: Self::F) -> f32;
    fn max_lane(self, a: Self::F) -> f32;
    /// Stores integral floats in -127..=127 as bytes.
    ///
    /// # Safety
    /// `p` is writable for `LANES` of them.
    unsafe fn store_i8(self, p: *mut i8, x: Self::F);
    /// Stores integral floats in -32767..=32767.
    ///
    /// # Safety
    /// `p` is writable for `LANES` of them.
    unsafe fn store_i16(self, p: *mut i16, x: Self::F);

    /// Loads `n` < `LANES` floats, zeros after them.
    ///
    /// # Safety
    /// `p` is readable for `n`.
    #[inline(always)]
    unsafe fn load_tail(self, p: *const f32, n: usize) -> Self::F {
        let mut lanes = [0f32; 16];
        // SAFETY: `p` is readable for n < LANES <= 16 floats.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            self.load(lanes.as_ptr())
        }
    }

    /// Stores the first `n` < `LANES` floats.
    ///
    /// # Safety
    /// `p` is writable for `n`.
    #[inline(always)]
    unsafe fn store_tail(self, p: *mut f32, n: usize, x: Self::F) {
        let mut lanes = [0f32; 16];
        // SAFETY: `p` is writable for n < LANES <= 16 floats.
        unsafe {
            self.store(lanes.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }

    /// 2^x, relative error below 2e-7 (tested); 0 below -126.5, infinity above 127.5, NaN for NaN.
    #[inline(always)]
    fn exp2(self, x: Self::F) -> Self::F {
        self.exp2_by(&EXP2, self.min(self.splat(128.0), x))
    }

    /// 2^x for x <= 128, as exactly as `coefficients` of 2^f have it; 0 below -126.5, NaN for NaN.
    ///
    /// x = n + f with n integral and |f| <= 1/2. Beside [`MAGIC`] a float has no place for f: it rounds x to n, whose bits
    /// are then the lowest of the sum's. 127 more, and they are the exponent of 2^n.
    #[inline(always)]
    fn exp2_by<const N: usize>(self, coefficients: &[f32; N], x: Self::F) -> Self::F {
        let magic = self.splat(MAGIC + 127.0);
        let x = self.max(self.splat(-127.0), x);
        let sum = self.add(x, magic);
        let f = self.sub(x, self.sub(sum, magic));
        let mut p = self.splat(coefficients[N - 1]);
        for c in coefficients[..N - 1].iter().rev() {
            p = self.fma(p, f, self.splat(*c));
        }
        self.mul(p, self.shift_to_exponent(sum))
    }
}

/// Coefficients of 2^f, constant term first: `numpy.polynomial.chebyshev.Chebyshev.interpolate(numpy.exp2, 6, [-0.5,
/// 0.5]).convert(kind=numpy.polynomial.Polynomial).coef`, with the constant term set to 1 so that 2^n is exact. The
/// polynomial is off by 2·(ln2/4)^7/7! = 2e-9 at most, less than rounding.
#[allow(clippy::excessive_precision)]
pub(crate) const EXP2: [f32; 7] = [
    1.0,
    0.6931471824645996,
    0.24022650718688965,
    0.05550327152013779,
    0.009618056938052177,
    0.0013400427997112274,
    0.00015461444854736328,
];

/// As [`EXP2`], by a polynomial of degree 4, off by 4e-6 at most: for what is rounded to 12 bits or fewer.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::excessive_precision)]
pub(crate) const EXP2_COARSE: [f32; 5] =
    [1.0, 0.6931210160255432, 0.2402234971523285, 0.055921975523233414, 0.00966636836528778];

/// [`Simd::exp2`] of whole vectors of up to 16 lanes, in place.
#[cfg(test)]
#[inline(always)]
pub(crate) fn exp2_all<S: Simd>(s: S, x: &mut [f32]) {
    for x in x.as_chunks_mut::<16>().0 {
        for i in (0..16).step_by(S::LANES) {
            let p = x[i..].as_mut_ptr();
            // SAFETY: 16 floats are whole vectors.
            unsafe { s.store(p, s.exp2(s.load(p))) }
        }
    }
}

/// Vectors of 32-bit integers, with as many lanes as those of floats.
#[cfg(target_arch = "x86_64")]
pub(crate) trait IntLanes: Simd {
    type I: Copy;
    /// LANES of them.
    type Square: AsRef<[Self::I]>;

    fn splat_int(self, x: i32) -> Self::I;
    /// Loads LANES integers.
    ///
    /// # Safety
    /// `p` is readable for that many.
    unsafe fn load_int(self, p: *const i32) -> Self::I;
    /// Loads LANES integers from each of the first LANES places: the first of each, the second, and so on.
    ///
    /// # Safety
    /// All are readable for that many.
    unsafe fn load_transposed(self, places: &[*const i32; 16]) -> Self::Square;
    /// The same for four integers from each place.
    ///
    /// # Safety
    /// All are readable for that many.
    unsafe fn load_four_transposed(self, places: &[*const i32; 16]) -> [Self::I; 4];
    /// Loads 2 · LANES signed bytes as 16-bit integers.
    ///
    /// # Safety
    /// `p` is readable for that many.
    unsafe fn load_i8_as_i16(self, p: *const i8) -> Self::I;
    /// Stores LANES integers.
    ///
    /// # Safety
    /// `p` is writable for that many.
    unsafe fn store_int(self, p: *mut i32, x: Self::I);
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// Sums of bytes, their low 8 bits.
    fn add_i8(self, a: Self::I, b: Self::I) -> Self::I;
    /// Sums of 16-bit integers, their low 16 bits.
    fn add_i16(self, a: Self::I, b: Self::I) -> Self::I;
    /// Products of 16-bit integers, their low 16 bits.
    fn mul_i16(self, a: Self::I, b: Self::I) -> Self::I;
    /// Each lane shifted, zeros coming in.
    fn shift_right(self, a: Self::I, bits: u32) -> Self::I;
    fn shift_left(self, a: Self::I, bits: u32) -> Self::I;
    /// The upper byte of each 16-bit integer.
    fn upper_bytes(self, a: Self::I) -> Self::I;
    /// The nearest floats.
    fn to_float(self, x: Self::I) -> Self::F;
    /// Transposes LANES vectors.
    fn transpose(self, square: &mut [Self::I]);
}

/// Products of 16-bit codes. As with [`Simd`], a value is the proof that the CPU has them.
#[cfg(target_arch = "x86_64")]
pub(crate) trait DotI16: Copy {
    /// The vectors of its operands.
    type S: IntLanes;

    fn simd(self) -> Self::S;
    /// `acc + a · b`, two products a lane.
    fn dot(self, acc: Int<Self>, a: Int<Self>, b: Int<Self>) -> Int<Self>;
}

/// The vectors of integers that a [`DotI16`] multiplies.
#[cfg(target_arch = "x86_64")]
pub(crate) type Int<W> = <<W as DotI16>::S as IntLanes>::I;

/// Defines methods of a token that are instructions alone.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! instructions {
    ($(fn $name:ident($self:ident $(, $x:ident: $of:ty)*) $(-> $result:ty)? $body:block)*) => {$(
        #[inline(always)]
        fn $name($self $(, $x: $of)*) $(-> $result)? {
            // SAFETY: `self` is the proof that the CPU has these instructions.
            unsafe { $body }
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use instructions;

/// An integer type of activation codes.
pub(crate) trait Code: Plain {
    /// Largest code; the smallest is its negative, so that the range is symmetric.
    const MAX: f32;
    /// Stores integers in -MAX..=MAX.
    ///
    /// # Safety
    /// `p` is writable for `S::LANES` codes.
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, x: S::F);
}

impl Code for i8 {
    const MAX: f32 = 127.0;
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, x: S::F) {
        // SAFETY: the caller's contract is the same.
        unsafe { simd.store_i8(p, x) }
    }
}

impl Code for i16 {
    /// 256 · 127 + 127: a code is 256 times a byte plus a byte, both signed, which is how ARM64 multiplies it.
    const MAX: f32 = 32639.0;
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, x: S::F) {
        // SAFETY: the caller's contract is the same.
        unsafe { simd.store_i16(p, x) }
    }
}

/// Repeats a body for `i` in `0..$n`, at most 16, or in a list, written out: left as a loop of so many instructions it stays one. Within
/// another, a list: the other form is compiled 16 times.
#[cfg(target_arch = "x86_64")]
macro_rules! unroll {
    ([$($step:literal)*], $i:ident => $body:block) => {
        $({
            let $i: usize = $step;
            $body
        })*
    };
    ($n:expr, $i:ident => $body:block) => {
        unroll!(@ $n, $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $n:expr, $i:ident, $body:block, $($step:literal)*) => {
        $(if $step < $n {
            let $i: usize = $step;
            $body
        })*
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use unroll;
