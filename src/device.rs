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

/// A model, and what there is to say about where it runs.
type Loaded = (Box<dyn Runner>, Vec<String>);

/// The model of an open file on the device that `options` name, and what there is to say about that choice. `fits` says whether the
/// device holds the model and a pass.
pub(crate) fn load(
    gguf: &Gguf,
    options: &LoadOptions,
    fits: &dyn Fn(&dyn Runner) -> Result<(), Error>,
) -> Result<Loaded, Error> {
    let why = match choose(options.device, metal::tested, metal::passed)? {
        Choice::Cpu(why) => why,
        Choice::Metal(doubt) => match on_metal(gguf, options, doubt) {
            Ok((runner, notes)) => match fits(&*runner) {
                Err(error @ Error::DeviceTooSmall { .. }) if options.device == Device::Auto => Some(on_cpu(&error)),
                _ => return Ok((runner, notes)),
            },
            Err(error) if options.device == Device::Auto => Some(on_cpu(&error)),
            Err(error) => return Err(error),
        },
    };
    Ok((runner(model(gguf, options, cpu(options)?)?, options), why.into_iter().collect()))
}

fn on_metal(gguf: &Gguf, options: &LoadOptions, doubt: Option<String>) -> Result<Loaded, Error> {
    let model = model(gguf, options, metal::backend()?)?;
    // Of a file that is not mapped they always are.
    let copied = gguf.mapped().next().map_or(0, |_| metal::copied(model.backend()));
    let note = (copied > 0).then(|| {
        format!("{copied} bytes of weights are in memory twice: the GPU cannot read them in the file, where they are not aligned")
    });
    Ok((runner(model, options), doubt.into_iter().chain(note).collect()))
}

fn model<B: Backend>(gguf: &Gguf, options: &LoadOptions, backend: B) -> Result<Qwen3<B>, Error> {
    Ok(Qwen3::load(gguf, backend, &options.allow)?)
}

fn runner<B: Backend + 'static>(model: Qwen3<B>, options: &LoadOptions) -> Box<dyn Runner> {
    Box::new(Qwen3Runner::new(model, options.share_prefixes.then_some(options.prefix_cache)))
}

fn cpu(options: &LoadOptions) -> Result<CpuBackend, Error> {
    let threads = options.threads.unwrap_or_else(default_threads);
    if threads > MAX_THREADS {
        return Err(Error::TooManyThreads { threads, limit: MAX_THREADS });
    }
    Ok(CpuBackend::new(Isa::select(options.isa.as_deref())?, threads))
}

/// What of a self-test knows devices: tests the kernels of the one that `options` name, which is Metal for [`Device::Auto`] where it can
/// be used. Gives which it was, and how products with weights in Q8_0, as the built-in model has them, may round there.
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
