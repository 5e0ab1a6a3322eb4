//! The float beside which others have no fraction.

/// 1.5 · 2^23. A float added to it is rounded to an integer, to nearest and halves to even, if it lies within ±2^22; and its bits
/// plus an integer n, |n| <= 2^22, are the bits of the float `MAGIC + n`.
pub(crate) const MAGIC: f32 = 12_582_912.0;
