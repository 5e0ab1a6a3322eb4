//! What the tests of kernels and of passes share.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod faults;
pub(crate) mod sanitizer;

use bytes::Bytes;
use qembed_kernels::Backend;
use qembed_kernels::formats::Format;
use qembed_kernels::metal::{MetalBackend, SOURCE, Tensor};
use qembed_metal_shim::{Order, Shim};

#[path = "../../../src/random.rs"]
mod random;
pub(crate) use random::Random;

pub(crate) type Metal = MetalBackend<Shim>;

/// What parts the two texts of [`FAULT`].
pub(crate) const ARROW: &str = " => ";
/// The environment variable by which a test runs with a fault in the kernels: a piece of the source, and what stands there instead.
pub(crate) const FAULT: &str = "SHIM_FAULT";

/// The shipped kernels, or those with a planted fault.
pub(crate) fn source() -> String {
    match std::env::var(FAULT) {
        Err(_) => SOURCE.to_string(),
        Ok(fault) => {
            let (right, wrong) = fault.split_once(ARROW).unwrap();
            assert_eq!(SOURCE.matches(right).count(), 1, "{right}");
            SOURCE.replace(right, wrong)
        }
    }
}

pub(crate) fn shim(order: Order) -> Shim {
    Shim::new(&source(), order).unwrap()
}

pub(crate) fn metal(order: Order) -> Metal {
    MetalBackend::new(shim(order)).unwrap()
}

/// A matrix of these values.
pub(crate) fn tensor(be: &Metal, cols: usize, values: &[f32]) -> Tensor<Shim> {
    let rows = values.len() / cols;
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let table = be.table(Format::F32, Bytes::from(bytes), rows, cols).unwrap();
    let mut tensor = be.tensor(rows, cols);
    be.embed(&table, &(0..rows as u32).collect::<Vec<_>>(), &mut tensor);
    tensor
}

pub(crate) fn normal(random: &mut Random, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.normal()).collect()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Half the distance from 1 to the next float: how far a rounded value may be off, in parts of it.
pub(crate) const UNIT: f64 = f32::EPSILON as f64 / 2.0;
