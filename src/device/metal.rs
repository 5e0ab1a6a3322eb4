//! Metal on a Mac: what there is, whether it has passed its self-test, and the backend.

use super::choice::{MetalError, Tested};
use super::stamp;
use qembed_kernels::metal::apple::{self, Apple};
use qembed_kernels::metal::{GpuError, MetalBackend, SOURCE};
#[cfg(feature = "selftest")]
use qembed_kernels::{
    formats::Format,
    selftest::{Check, Rounding, run_on_gpu},
};
use std::path::PathBuf;
use sysinfo::System;

/// What a self-test would speak for; nothing is compiled.
pub(super) fn tested() -> Result<Tested, MetalError> {
    let device = apple::name().map_err(unusable)?;
    let [version, kernel] = [System::os_version(), System::kernel_version()].map(Option::unwrap_or_default);
    Ok(Tested { device, system: format!("macOS {version} ({kernel})"), program: env!("CARGO_PKG_VERSION").into() })
}

/// What the last self-test that passed spoke for.
pub(super) fn passed() -> Option<Tested> {
    stamp::read(&place()?)
}

/// The backend, its kernels compiled.
pub(super) fn backend() -> Result<MetalBackend<Apple>, MetalError> {
    Apple::new(SOURCE).and_then(MetalBackend::new).map_err(unusable)
}

/// Bytes of weights that are not used in place.
pub(super) fn copied(backend: &MetalBackend<Apple>) -> u64 {
    backend.copied_bytes()
}

/// Tests its kernels.
#[cfg(feature = "selftest")]
pub(super) fn test(each: &mut dyn FnMut(Check)) -> Result<Rounding, MetalError> {
    Apple::new(SOURCE).and_then(|gpu| run_on_gpu(gpu, each)).map_err(unusable)?;
    Ok(Rounding::usual(&backend()?, Format::Q8_0))
}

/// Takes the stamp away.
#[cfg(feature = "selftest")]
pub(super) fn forget() -> std::io::Result<()> {
    place().map_or(Ok(()), |place| stamp::remove(&place))
}

/// Leaves a stamp.
#[cfg(feature = "selftest")]
pub(super) fn remember() -> std::io::Result<PathBuf> {
    let place = place().ok_or_else(|| std::io::Error::other("the user has no cache folder"))?;
    let tested = tested().map_err(std::io::Error::other)?;
    stamp::write(&place, &tested)?;
    Ok(place)
}

/// Of this user; nowhere without a cache folder.
fn place() -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("qembed-q").join("metal-selftest"))
}

fn unusable(error: GpuError) -> MetalError {
    MetalError::NoDevice { reason: error.to_string() }
}
