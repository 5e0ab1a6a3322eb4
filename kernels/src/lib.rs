//! Numeric building blocks of qembed-q: GGUF block formats, activation quantization, GEMM per instruction set,
//! attention and float operations, behind one [`Backend`] seam. No I/O, no GGUF parsing, no model names.

mod backend;
mod buffer;
pub mod cpu;
pub mod formats;
#[cfg(all(test, target_os = "linux"))]
#[path = "../tests/common/guard.rs"]
mod guard;
#[cfg(feature = "metal")]
pub mod metal;
mod path;
mod pool;
mod quantize;
#[cfg(any(test, feature = "selftest"))]
mod random;
mod rope;
mod rounding;
#[cfg(any(test, feature = "selftest"))]
pub mod selftest;
mod sync;
mod threads;

pub use backend::{Backend, Device, DeviceError, Heads, Node, Precision, Product, WeightError};
pub use threads::default_threads;
