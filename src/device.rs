//! Devices: the one place that knows which there are.

use crate::error::Error;
use crate::options::{Device, LoadOptions};
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::default_threads;
use qembed_models::gguf::Gguf;
use qembed_models::{Qwen3, Qwen3Runner, Runner};

const MAX_THREADS: usize = 1024;

/// The model of an open file on the device that `options` name.
pub(crate) fn load(gguf: &Gguf, options: &LoadOptions) -> Result<Box<dyn Runner>, Error> {
    let prefixes = options.share_prefixes.then_some(options.prefix_cache);
    match options.device {
        Device::Cpu => {
            let threads = options.threads.unwrap_or_else(default_threads);
            if threads > MAX_THREADS {
                return Err(Error::TooManyThreads { threads, limit: MAX_THREADS });
            }
            let backend = CpuBackend::new(Isa::select(options.isa.as_deref())?, threads);
            Ok(Box::new(Qwen3Runner::new(Qwen3::load(gguf, backend, &options.allow)?, prefixes)))
        }
    }
}
