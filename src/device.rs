//! Devices: the one place that knows which there are.

mod choice;
#[cfg(all(feature = "metal", target_os = "macos"))]
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
    Precision,
    formats::Format,
    selftest::{Check as KernelCheck, Rounding, Subject},
};
use qembed_models::gguf::Gguf;
use qembed_models::{Qwen3, Qwen3Runner, Runner};

/// Stands in where there can be no Metal: nothing of it is ever called but `tested`, which says so.
#[cfg(not(all(feature = "metal", target_os = "macos")))]
mod metal {
    use super::choice::{MetalError, Tested};
    use qembed_kernels::cpu::CpuBackend;

    const NONE: MetalError = if cfg!(feature = "metal") { MetalError::NotMacos } else { MetalError::NotBuilt };

    pub(super) fn tested() -> Result<Tested, MetalError> {
        Err(NONE)
    }

    pub(super) fn passed() -> Option<Tested> {
        None
    }

    pub(super) fn backend() -> Result<CpuBackend, MetalError> {
        Err(NONE)
    }

    #[cfg(feature = "selftest")]
    pub(super) fn test(_: &mut dyn FnMut(super::KernelCheck)) -> Result<super::Rounding, MetalError> {
        Err(NONE)
    }

    #[cfg(feature = "selftest")]
    pub(super) fn forget() -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(feature = "selftest")]
    pub(super) fn remember() -> std::io::Result<std::path::PathBuf> {
        Err(std::io::Error::other(NONE))
    }
}

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
/// be used. Gives which it was, and how products of the built-in model may round there.
#[cfg(feature = "selftest")]
pub(crate) fn test_kernels(
    options: &LoadOptions,
    each: &mut dyn FnMut(KernelCheck),
) -> Result<(Device, Rounding), Error> {
    match options.device {
        Device::Metal => Ok((Device::Metal, metal::test(each)?)),
        Device::Auto if metal::tested().is_ok() => Ok((Device::Metal, metal::test(each)?)),
        Device::Cpu | Device::Auto => {
            let backend = cpu(options)?;
            qembed_kernels::selftest::run(&backend, each);
            Ok((Device::Cpu, usual_rounding(&backend)))
        }
    }
}

/// Of products with weights in Q8_0, as the built-in model has them.
#[cfg(feature = "selftest")]
fn usual_rounding<B: Subject>(backend: &B) -> Rounding {
    let (format, precision) = (Format::Q8_0, Precision::Standard);
    let block = vec![0; format.block_bytes()].into();
    let weight = backend.weight(format, block, 1, format.block_len(), precision).expect("a row of one block");
    backend.rounding(&weight, format, precision)
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
