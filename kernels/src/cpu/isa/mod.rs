//! Instruction-set tiers of the CPU backend: one set of functions each, chosen once at start-up.
//!
//! `tier` is what a tier offers, `select` the list of them and the choice. A tier's functions are methods of a value that exists
//! only where the CPU, and the operating system, have its instructions: `Token::detect` makes it, and holding it is the proof.
//! A new tier is one file that says how it is detected, implements `simd::Simd`, lays out a panel, multiplies by it and ends
//! with `tier!`, its `mod` below, and its line in `select`.

mod attention;
mod kernel;
mod select;
mod tier;
mod token;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse41;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub(crate) use attention::Attention;
pub(crate) use kernel::Kernel;
pub use select::IsaError;
pub use tier::Isa;
pub(crate) use tier::Tier;
