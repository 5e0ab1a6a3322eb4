//! Does a device compute what it should? Its kernels beside plain code, then the built-in model beside the same in plain code.
//!
//! For machines that nobody has tried: Metal is trusted by [`Device::Auto`] only where this has passed, whole, on the same GPU, system
//! and version of the program.

#[cfg(feature = "builtin")]
mod model;
mod result;

pub use result::{Outcome, Pace, Selftest, SelftestCheck};

use crate::device::{forget_selftest, remember_selftest, test_kernels};
use crate::error::Error;
use crate::options::{Device, LoadOptions};
use qembed_kernels::selftest::Check;

/// Tests the device that `options` name, which takes a minute or so; `each` is told of every check when it is done. Where Metal has
/// passed, a stamp in the user's cache folder says so to those who load a model later.
///
/// # Errors
/// When the device cannot be used at all. What it computes wrongly is a failed check.
pub fn selftest(options: &LoadOptions, each: &mut dyn FnMut(&SelftestCheck)) -> Result<Selftest, Error> {
    let mut result = Selftest { checks: Vec::new(), paces: Vec::new() };
    let mut tell = |check: SelftestCheck| {
        each(&check);
        result.checks.push(check);
    };
    // One that is stopped, or that ends the program, has not passed.
    if options.device != Device::Cpu
        && let Err(error) = forget_selftest()
    {
        tell(SelftestCheck::new("stamp", Err(format!("that of an earlier self-test cannot be removed: {error}"))));
    }
    let mut of_kernels = |Check { name, found, .. }: Check| tell(SelftestCheck::new(name, found));
    let (device, rounding) = test_kernels(options, &mut of_kernels)?;
    #[cfg(feature = "builtin")]
    let paces = model::test(&options.clone().device(device), rounding, &mut tell);
    #[cfg(not(feature = "builtin"))]
    let paces = {
        let _ = rounding;
        tell(SelftestCheck::skipped("built-in model", "this program was built without it (feature `builtin`)"));
        Vec::new()
    };
    result.paces = paces;
    if device == Device::Metal && result.passed() {
        let written = remember_selftest().map(|place| place.display().to_string());
        let check = SelftestCheck::new("stamp", written.map_err(|error| format!("cannot be left: {error}")));
        each(&check);
        result.checks.push(check);
    }
    Ok(result)
}
