//! Devices: the one place that knows which there are.

mod choice;
#[cfg(all(feature = "metal", target_os = "macos"))]
mod metal;
#[cfg(not(all(feature = "metal", target_os = "macos")))]
#[path = "device/no_metal.rs"]
mod metal;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod stamp;

pub use choice::MetalError;

use crate::error::Error;
use crate::options::{Device, LoadOptions};
use choice::{Choice, choose, on_cpu};
use qembed_kernels::Backend;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::default_threads;
#[cfg(feature = "selftest")]
use qembed_kernels::{
    formats::Format,
    selftest::{Check, Rounding, run},
};
use qembed_models::gguf::Gguf;
use qembed_models::{Qwen3, Qwen3Runner, Runner};

const MAX_THREADS: usize = 1024;

/// The model of an open file on the device that `options` name, and what there is to say about that choice. `fits` says whether the
/// device holds the model and a pass.
pub(crate) fn load(
    gguf: &Gguf,
    options: &LoadOptions,
    fits: &dyn Fn(&dyn Runner) -> Result<(), Error>,
) -> Result<(Box<dyn Runner>, Option<String>), Error> {
    let note = match choose(options.device, metal::tested, metal::passed)? {
        Choice::Cpu(note) => note,
        Choice::Metal(note) => match on_metal(gguf, options) {
            Err(error) if options.device == Device::Auto => Some(on_cpu(&error)),
            Ok(runner) if options.device == Device::Auto => match fits(&*runner) {
                Err(error @ Error::DeviceTooSmall { .. }) => Some(on_cpu(&error)),
                _ => return Ok((runner, note)),
            },
            runner => return Ok((runner?, note)),
        },
    };
    Ok((runner(gguf, options, cpu(options)?)?, note))
}

fn cpu(options: &LoadOptions) -> Result<CpuBackend, Error> {
    let threads = options.threads.unwrap_or_else(default_threads);
    if threads > MAX_THREADS {
        return Err(Error::TooManyThreads { threads, limit: MAX_THREADS });
    }
    Ok(CpuBackend::new(Isa::select(options.isa.as_deref())?, threads))
}

fn on_metal(gguf: &Gguf, options: &LoadOptions) -> Result<Box<dyn Runner>, Error> {
    runner(gguf, options, metal::backend()?)
}

fn runner<B: Backend + 'static>(gguf: &Gguf, options: &LoadOptions, backend: B) -> Result<Box<dyn Runner>, Error> {
    let prefixes = options.share_prefixes.then_some(options.prefix_cache);
    Ok(Box::new(Qwen3Runner::new(Qwen3::load(gguf, backend, &options.allow)?, prefixes)))
}

/// What of a self-test knows devices: tests the kernels of the one that `options` name, which is Metal for [`Device::Auto`] where it can
/// be used. Gives which it was, and how products with weights in Q8_0, as the
/// built-in model has them, may round there.
#[cfg(feature = "selftest")]
pub(crate) fn test_kernels(options: &LoadOptions, each: &mut dyn FnMut(Check)) -> Result<(Device, Rounding), Error> {
    match options.device {
        Device::Metal => Ok((Device::Metal, metal::test(each)?)),
        Device::Auto if metal::tested().is_ok() => Ok((Device::Metal, metal::test(each)?)),
        Device::Cpu | Device::Auto => {
            let backend = cpu(options)?;
            run(&backend, each);
            Ok((Device::Cpu, Rounding::usual(&backend, Format::Q8_0)))
        }
    }
}

/// From now on Metal has passed no self-test.
#[cfg(feature = "selftest")]
pub(crate) fn forget_selftest() -> std::io::Result<()> {
    metal::forget()
}

/// From now on Metal has passed its self-test; where that is written.
#[cfg(feature = "selftest")]
pub(crate) fn remember_selftest() -> std::io::Result<std::path::PathBuf> {
    metal::remember()
}
