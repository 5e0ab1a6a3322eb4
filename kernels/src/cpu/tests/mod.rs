//! Tests of the CPU backend. Every test walks all tiers that the machine has; `QEMBED_REQUIRE_ISA` names the ones that it
//! must have (a comma list), so that a run on a lesser machine fails instead of passing by skipping. `QEMBED_TEST_ISA` names
//! the only one to walk, for emulators, which are slow.
//!
//! Every tolerance is derived where it stands, from U (the unit roundoff of f32), the number of operations and the
//! operands' magnitudes.

mod attention;
mod bits;
mod extremes;
mod floats;
mod matmul;
mod mixed;
mod oracle;

use super::activations::Codes;
use super::isa::Isa;
use super::quantize::{ActivationParts, RowGroups};
use super::{Activations, CpuBackend, Form, Tensor, Weight};
use crate::backend::{Backend, Precision};
use crate::formats::Format;
use crate::random::Random;
use bytes::Bytes;

/// Unit roundoff of f32: a rounded result is off by at most this much, relatively.
const U: f64 = f32::EPSILON as f64 / 2.0;

#[test]
fn required_tiers_run() {
    let ran = Isa::available();
    eprintln!("tiers that the tests run on: {}", ran.join(", "));
    let required = std::env::var("QEMBED_REQUIRE_ISA").unwrap_or_default();
    for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        assert!(ran.contains(&name), "QEMBED_REQUIRE_ISA lists {name:?}, but only {ran:?} can run here");
    }
    assert_eq!(ran.last(), Some(&"scalar"));
}

#[test]
fn selection_refuses_what_is_not_there() {
    for isa in Isa::all() {
        assert_eq!(Isa::select(Some(isa.name)).map(|isa| isa.name), Ok(isa.name));
    }
    let unknown = Isa::select(Some("sse9")).expect_err("no such tier").to_string();
    assert!(unknown.contains("sse9") && unknown.contains("scalar"), "{unknown}");
}

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn backend(isa: &'static Isa) -> CpuBackend {
    CpuBackend::new(isa, 1)
}

/// Every tier that this machine has, or the one that `QEMBED_TEST_ISA` names.
fn isas() -> impl Iterator<Item = &'static Isa> {
    let only = std::env::var("QEMBED_TEST_ISA").ok().map(|name| Isa::select(Some(&name)).expect("QEMBED_TEST_ISA"));
    Isa::all().filter(move |isa| only.is_none_or(|only| only.name == isa.name))
}

/// Every tier under test, with every precision of its products.
fn tiers() -> impl Iterator<Item = (&'static Isa, Precision)> {
    isas().flat_map(|isa| [Precision::Standard, Precision::High].map(|precision| (isa, precision)))
}

fn weight(backend: &CpuBackend, precision: Precision, format: Format, bytes: &[u8], n: usize, k: usize) -> Weight {
    backend.weight(format, Bytes::copy_from_slice(bytes), n, k, precision).expect("the bytes hold the matrix")
}

fn tensor(backend: &CpuBackend, rows: usize, cols: usize, values: &[f32]) -> Tensor {
    let mut tensor = backend.tensor(rows, cols);
    for (row, values) in values.chunks_exact(cols).enumerate() {
        // SAFETY: one row at a time.
        unsafe { tensor.parts().part(row, 0..cols) }.copy_from_slice(values);
    }
    tensor
}

const F32: Form = Form { f32: true, ..Form::NONE };
const I8: Form = Form { i8: true, ..Form::NONE };
const I8_UNIFORM: Form = Form { i8_uniform: true, ..Form::NONE };
const I16: Form = Form { i16: true, ..Form::NONE };
const BF16: Form = Form { bf16: true, ..Form::NONE };
const ALL: Form = Form { f32: true, i8: true, i8_uniform: true, i16: true, bf16: true, bf16_residual: true };

/// The input of a product, from given rows.
fn acts(backend: &CpuBackend, rows: usize, cols: usize, form: Form, values: &[f32]) -> Activations {
    let mut acts = backend.activations(rows, cols, form);
    let parts = ActivationParts::new(&mut acts, backend.tier());
    let mut groups = RowGroups::default();
    for (row, values) in values.chunks_exact(cols).enumerate() {
        // SAFETY: one row at a time.
        unsafe { parts.set(row, 0, values, &mut groups) };
    }
    backend.finish(&mut acts);
    acts
}

/// A [rows × n] product of freshly made operands.
fn product(backend: &CpuBackend, weight: &Weight, rows: usize, values: &[f32]) -> Vec<f32> {
    let input = acts(backend, rows, weight.k, backend.form(weight), values);
    let mut out = backend.tensor(rows, weight.n);
    // What was in the output before must not matter.
    out.data.fill(f32::NAN);
    backend.matmul(&input, &mut [(weight, &mut out)]);
    backend.read(&out)
}

#[track_caller]
fn assert_bits(what: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!(a.to_bits() == b.to_bits(), "{what}: value {i} is {a:e}, expected {b:e}");
    }
}

/// Fails when `value` is not within `tolerance` of `expected`; NaN never is.
#[track_caller]
fn assert_close(what: impl Fn() -> String, value: f32, expected: f64, tolerance: f64) {
    let error = (f64::from(value) - expected).abs();
    assert!(error <= tolerance, "{}: {value:e}, expected {expected:e}; off by {error:.2e} > {tolerance:.2e}", what());
}
