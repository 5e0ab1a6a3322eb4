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
mod subject;

pub use subject::{Check, Rounding, Share, Subject};

use crate::cpu::CpuBackend;
use crate::cpu::isa::Isa;
#[cfg(feature = "metal")]
use crate::metal::{Gpu, GpuError, MetalBackend};
use crate::threads::default_threads;
use subject::Test;

/// Runs all of it; `each` is told of every check when it is done.
pub fn run<B: Subject>(subject: &B, each: &mut dyn FnMut(Check)) {
    let scalar = Isa::select(Some("scalar")).expect("the scalar tier runs everywhere");
    let mut test = Test { subject, plain: CpuBackend::new(scalar, default_threads()), each };
    floats::run(&mut test);
    product::run(&mut test);
    attention::run(&mut test);
    bits::run(&mut test);
}

/// The same of a GPU, whose memory is full of NaN first, and what happens when it fails.
///
/// # Errors
/// When it cannot be used at all.
#[cfg(feature = "metal")]
pub fn run_on_gpu<G: Gpu>(gpu: G, each: &mut dyn FnMut(Check)) -> Result<(), GpuError> {
    let (trial, faults) = metal::Trial::new(gpu);
    let backend = MetalBackend::new(trial)?;
    run(&backend, each);
    metal::failures(&backend, &faults, each);
    Ok(())
}

#[cfg(test)]
mod tests;
