//! The self-test of a Mac's user, on the shipped kernels: it passes. That it sees faults is tested beside it, on the CPU.

mod common;

use common::source;
use qembed_kernels::selftest::{Check, run_on_gpu};
use qembed_metal_shim::{Order, Shim};

fn failed(source: &str) -> (usize, Vec<Check>) {
    let mut checks = Vec::new();
    run_on_gpu(Shim::new(source, Order::Shuffled).unwrap(), &mut |check| checks.push(check)).unwrap();
    let count = checks.len();
    checks.retain(|check| check.found.is_err());
    (count, checks)
}

#[test]
fn the_shipped_kernels_pass() {
    let (count, failed) = failed(&source());
    assert!(count > 80 && failed.is_empty(), "{failed:#?}");
}
