//! Stands in for Metal where there can be none: it says so, and whoever heard that asks for nothing else.

use super::choice::{MetalError, Tested};
use qembed_kernels::cpu::CpuBackend;
#[cfg(feature = "selftest")]
use qembed_kernels::selftest::{Check, Rounding};

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

pub(super) fn copied(_: &CpuBackend) -> u64 {
    0
}

#[cfg(feature = "selftest")]
pub(super) fn test(_: &mut dyn FnMut(Check)) -> Result<Rounding, MetalError> {
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
