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
    let threads = options.threads.unwrap_or_else(default_threads);
    if threads > MAX_THREADS {
        return Err(Error::TooManyThreads { threads, limit: MAX_THREADS });
    }
    let backend = CpuBackend::new(Isa::select(options.isa.as_deref())?, threads);
    Ok((runner(gguf, options, backend)?, note))
}

fn on_metal(gguf: &Gguf, options: &LoadOptions) -> Result<Box<dyn Runner>, Error> {
    runner(gguf, options, metal::backend()?)
}

fn runner<B: Backend + 'static>(gguf: &Gguf, options: &LoadOptions, backend: B) -> Result<Box<dyn Runner>, Error> {
    let prefixes = options.share_prefixes.then_some(options.prefix_cache);
    Ok(Box::new(Qwen3Runner::new(Qwen3::load(gguf, backend, &options.allow)?, prefixes)))
}
