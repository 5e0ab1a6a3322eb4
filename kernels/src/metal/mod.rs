//! GPUs of Apple: the same passes as on the CPU, in kernels of Metal Shading Language.

#[cfg(target_os = "macos")]
pub mod apple;
mod gpu;
mod probe;

pub use gpu::{Dispatch, Fault, Gpu, GpuError};
pub use probe::{PROBE, probe};

/// All kernels, as one library of source.
pub const SOURCE: &str = "";
