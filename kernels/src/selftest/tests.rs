//! The self-test itself: it passes on every tier, and finds faults.

use super::*;
use crate::backend::*;
use crate::cpu::{Activations, Form, Rope, Tensor, Weight};
use crate::formats::Format;
use bytes::Bytes;

fn failures<B: Subject>(backend: &B) -> (usize, Vec<Check>) {
    let mut checks = Vec::new();
    run(backend, &mut |check| checks.push(check));
    let count = checks.len();
    checks.retain(|check| check.found.is_err());
    (count, checks)
}

#[test]
fn every_tier_passes() {
    for isa in Isa::all() {
        let (count, failed) = failures(&CpuBackend::new(isa, 2));
        assert!(count > 50 && failed.is_empty(), "{}: {failed:#?}", isa.name);
    }
}

/// What is wrong with a backend, and the checks that find it: those whose names begin so.
const FAULTS: [(Fault, &[&str]); 9] = [
    (Fault::Weight, &["product", "gated"]),
    (Fault::Precision, &["product Q6_K, finely"]),
    (Fault::Rows, &["product", "rows of"]),
    (Fault::Eps, &["norms"]),
    (Fault::Positions, &["norms with rotary embedding"]),
    (Fault::Gate, &["gated product"]),
    (Fault::Parents, &["attention of 4 on 1 heads of 128, bits"]),
    (Fault::Keys, &["attention of 4 on 1 heads of 128"]),
    (Fault::Device, &["lookup", "copies", "norms", "product", "attention", "rows of", "spoilt memory"]),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// A code of each row is another.
    Weight,
    /// Fine products are not.
    Precision,
    /// The second row of many is the first.
    Rows,
    /// That of norms is a hundredth.
    Eps,
    /// Everything is a token further on.
    Positions,
    /// It is up, and up is gate.
    Gate,
    /// What texts have in common is not looked at.
    Parents,
    /// The values of keys are a row off.
    Keys,
    /// Nothing can be read.
    Device,
}

#[test]
fn faults_are_found() {
    let best = Isa::all().next().unwrap();
    // The scalar tier has but one precision.
    for (fault, names) in FAULTS.into_iter().filter(|(fault, _)| best.name != "scalar" || *fault != Fault::Precision) {
        let (_, failed) = failures(&Faulty { inner: CpuBackend::new(best, 2), fault });
        for name in names {
            assert!(failed.iter().any(|check| check.name.starts_with(name)), "{fault:?} {name}: {failed:#?}");
        }
    }
}

/// The CPU with a fault.
struct Faulty {
    inner: CpuBackend,
    fault: Fault,
}

impl Subject for Faulty {
    fn rounding(&self, weight: &Weight, format: Format, precision: Precision) -> Rounding {
        // As it should be.
        let bytes = vec![0; format.block_bytes()].into();
        let right = self.inner.weight(format, bytes, 1, format.block_len(), precision).expect("a block");
        let _ = weight;
        self.inner.rounding(&right, format, precision)
    }
}

impl Backend for Faulty {
    type Tensor = Tensor;
    type Activations = Activations;
    type Weight = Weight;
    type Table = Weight;
    type Vector = Vec<f32>;
    type Form = Form;
    type Rope = Rope;

    fn device(&self) -> Device {
        self.inner.device()
    }
    fn weight(&self, f: Format, bytes: Bytes, n: usize, k: usize, p: Precision) -> Result<Weight, WeightError> {
        let mut bytes = bytes.to_vec();
        if self.fault == Fault::Weight && !f.is_float() {
            let row = bytes.len() / n;
            bytes.chunks_exact_mut(row).for_each(|row| row[f.block_bytes() / 2] ^= 0x88);
        }
        let precision = if self.fault == Fault::Precision { Precision::Standard } else { p };
        self.inner.weight(f, bytes.into(), n, k, precision)
    }
    fn table(&self, format: Format, bytes: Bytes, rows: usize, cols: usize) -> Result<Weight, WeightError> {
        self.inner.table(format, bytes, rows, cols)
    }
    fn vector(&self, values: &[f32]) -> Vec<f32> {
        self.inner.vector(values)
    }
    fn form(&self, weight: &Weight) -> Form {
        self.inner.form(weight)
    }
    fn tensor(&self, rows: usize, cols: usize) -> Tensor {
        self.inner.tensor(rows, cols)
    }
    fn lasting_tensor(&self, rows: usize, cols: usize) -> Tensor {
        self.inner.lasting_tensor(rows, cols)
    }
    fn activations(&self, rows: usize, cols: usize, form: Form) -> Activations {
        self.inner.activations(rows, cols, form)
    }
    fn activations_bytes(&self, cols: usize, form: Form) -> usize {
        self.inner.activations_bytes(cols, form)
    }
    fn attention_bytes(&self, heads: Heads, tokens: usize, nodes: usize) -> usize {
        self.inner.attention_bytes(heads, tokens, nodes)
    }
    fn rope(&self, positions: &[u32], head_dim: usize, base: f32) -> Rope {
        let later = u32::from(self.fault == Fault::Positions);
        let positions: Vec<u32> = positions.iter().map(|position| position + later).collect();
        self.inner.rope(&positions, head_dim, base)
    }
    fn embed(&self, table: &Weight, tokens: &[u32], out: &mut Tensor) {
        self.inner.embed(table, tokens, out);
    }
    fn rms_norm(&self, x: &Tensor, weight: &Vec<f32>, eps: f32, out: &mut Activations) {
        let eps = if self.fault == Fault::Eps { 0.01 } else { eps };
        self.inner.rms_norm(x, weight, eps, out);
    }
    fn copy_rows(&self, from: &Tensor, rows: &[usize], to: &mut Tensor, first: usize) {
        self.inner.copy_rows(from, rows, to, first);
    }
    fn matmul(&self, input: &Activations, products: &mut [Product<'_, Self>]) {
        for (weight, out) in products {
            self.inner.matmul(input, &mut [(weight, out)]);
            if self.fault == Fault::Rows && out.rows > 1 {
                let mut first = self.inner.tensor(1, out.cols);
                self.inner.copy_rows(out, &[0], &mut first, 0);
                self.inner.copy_rows(&first, &[0], out, 1);
            }
        }
    }
    fn matmul_add(&self, input: &Activations, weight: &Weight, output: &mut Tensor) {
        self.inner.matmul_add(input, weight, output);
    }
    fn norm_rope(&self, x: &mut Tensor, weight: &Vec<f32>, eps: f32, rope: &Rope) {
        self.inner.norm_rope(x, weight, eps, rope);
    }
    fn attention(&self, h: Heads, nodes: &[Node], q: &Tensor, k: &Tensor, v: &Tensor, out: &mut Activations) {
        let mut nodes = nodes.to_vec();
        if self.fault == Fault::Parents {
            nodes.iter_mut().for_each(|node| node.parent = None);
        }
        let mut values = self.inner.tensor(v.rows, v.cols);
        let off = usize::from(self.fault == Fault::Keys);
        let rows: Vec<usize> = (0..v.rows).map(|row| (row + off) % v.rows).collect();
        self.inner.copy_rows(v, &rows, &mut values, 0);
        self.inner.attention(h, &nodes, q, k, &values, out);
    }
    fn gated(&self, input: &Activations, gate: &Weight, up: &Weight, out: &mut Activations) {
        let (gate, up) = if self.fault == Fault::Gate { (up, gate) } else { (gate, up) };
        self.inner.gated(input, gate, up, out);
    }
    fn rms_norm_rows(&self, x: &Tensor, rows: &[usize], weight: &Vec<f32>, eps: f32, out: &mut Tensor) {
        self.inner.rms_norm_rows(x, rows, weight, eps, out);
    }
    fn read(&self, x: &Tensor) -> Result<Vec<f32>, DeviceError> {
        if self.fault == Fault::Device {
            return Err(DeviceError { device: "faulty", source: "it is".into() });
        }
        Backend::read(&self.inner, x)
    }
}
