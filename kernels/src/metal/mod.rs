//! GPUs of Apple: the same passes as on the CPU, in kernels of Metal Shading Language.

mod gpu;

pub use gpu::{Dispatch, Fault, Gpu, GpuError};

/// All kernels, as one library of source.
pub const SOURCE: &str = "";
