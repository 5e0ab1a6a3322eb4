//! Every operation of a backend on the machine where it will run: beside plain code (the scalar tier of the CPU), and beside
//! itself, whose bits may not depend on what stands beside a row.
//!
//! Nothing here may know how a backend works. What it may round it says by [`Subject`]; every bound is derived from that, from U (the
//! unit roundoff of f32), the number of operations and the operands' magnitudes.

mod attention;
mod bits;
mod cpu;
mod floats;
#[cfg(feature = "metal")]
mod metal;
pub(crate) mod operands;
mod product;

#[cfg(feature = "metal")]
pub use metal::Trial;

use crate::backend::{Backend, Precision};
use crate::cpu::CpuBackend;
use crate::cpu::isa::Isa;
use crate::default_threads;
use crate::formats::Format;

/// Unit roundoff of f32: a rounded result is off by at most this much, relatively.
const U: f64 = f32::EPSILON as f64 / 2.0;

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
struct Test<'a, B> {
    subject: &'a B,
    plain: CpuBackend,
    each: &'a mut dyn FnMut(Check),
}

impl<B> Test<'_, B> {
    fn tell(&mut self, name: impl Into<String>, found: Result<String, String>) {
        (self.each)(Check { name: name.into(), found });
    }
}

/// Runs all of it; `each` is told of every check when it is done.
pub fn run<B: Subject>(subject: &B, each: &mut dyn FnMut(Check)) {
    let scalar = Isa::select(Some("scalar")).expect("the scalar tier runs everywhere");
    let mut test = Test { subject, plain: CpuBackend::new(scalar, default_threads()), each };
    floats::run(&mut test);
    product::run(&mut test);
    attention::run(&mut test);
    bits::run(&mut test);
}

#[cfg(test)]
mod tests;
