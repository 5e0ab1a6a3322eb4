//! What can be tested, what it may round, and who is told.

use crate::backend::{Backend, Precision};
use crate::cpu::CpuBackend;
use crate::formats::Format;

/// Unit roundoff of f32: a rounded result is off by at most this much, relatively.
pub(super) const U: f64 = f32::EPSILON as f64 / 2.0;

/// How far one operand of a product may be rounded: by so much of the largest of a run of values that begins at a multiple of
/// its length. A run of one value is that value itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Values of a run.
    pub run: usize,
    /// How much of the largest.
    pub by: f64,
}

/// How a product may round before it adds up in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// Of its input.
    pub input: Share,
    /// Of its weights.
    pub weights: Share,
}

impl Rounding {
    /// None.
    pub const NONE: Self = Self { input: Share { run: 1, by: 0.0 }, weights: Share { run: 1, by: 0.0 } };

    /// Of usual products with weights of this format.
    pub fn usual<B: Subject>(backend: &B, format: Format) -> Self {
        let (block, precision) = (vec![0; format.block_bytes()].into(), Precision::Standard);
        let weight = backend.weight(format, block, 1, format.block_len(), precision).expect("a row of one block");
        backend.rounding(&weight, format, precision)
    }
}

/// A backend that can be tested here.
pub trait Subject: Backend {
    /// What products with a weight of this format and precision may round.
    fn rounding(&self, weight: &Self::Weight, format: Format, precision: Precision) -> Rounding;
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Check {
    /// What it was, such as `product Q4_K`.
    pub name: String,
    /// What was found, or what is wrong.
    pub found: Result<String, String>,
}

/// What is tested, and who is told.
pub(super) struct Test<'a, B> {
    pub(super) subject: &'a B,
    pub(super) plain: CpuBackend,
    pub(super) each: &'a mut dyn FnMut(Check),
}

impl<B> Test<'_, B> {
    pub(super) fn tell(&mut self, name: impl Into<String>, found: Result<String, String>) {
        (self.each)(Check { name: name.into(), found });
    }
}
