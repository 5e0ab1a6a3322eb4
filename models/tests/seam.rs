//! What a device is told, in which order, and what becomes of its failures: by one that does what the CPU does and writes down
//! what it was asked.

use bytes::Bytes;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::formats::Format;
use qembed_kernels::{Backend, Device, DeviceError, Heads, Node, Precision, Product, WeightError};
use qembed_models::gguf::Gguf;
use qembed_models::synth::{Spec, write};
use qembed_models::{ModelError, Qwen3, Qwen3Runner, Runner, Text};
use std::sync::{Arc, Mutex};

type Events = Arc<Mutex<Vec<Event>>>;

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Adopt(usize),
    Table,
    Weight,
    Begin,
    /// Tokens to compute.
    Embed(usize),
    Attention,
    Checkpoint,
    Read,
}

/// The CPU, which remembers, and fails where it is to fail.
struct Recorder {
    cpu: CpuBackend,
    events: Events,
    failing: Option<Event>,
}

impl Recorder {
    fn note(&self, event: Event) -> Result<(), DeviceError> {
        let fails = self.failing.as_ref() == Some(&event);
        self.events.lock().unwrap().push(event);
        if fails { Err(DeviceError { device: "recorder", source: "planted".into() }) } else { Ok(()) }
    }
}

type Cpu = CpuBackend;

impl Backend for Recorder {
    type Tensor = <Cpu as Backend>::Tensor;
    type Activations = <Cpu as Backend>::Activations;
    type Weight = <Cpu as Backend>::Weight;
    type Table = <Cpu as Backend>::Table;
    type Vector = <Cpu as Backend>::Vector;
    type Form = <Cpu as Backend>::Form;
    type Rope = <Cpu as Backend>::Rope;

    fn device(&self) -> Device {
        Device::new("recorder", "none", 1)
    }
    fn limit(&self) -> Option<u64> {
        Some(12_345)
    }
    fn adopt(&self, mapping: &Bytes) -> Result<(), DeviceError> {
        self.note(Event::Adopt(mapping.len()))
    }
    fn table(&self, format: Format, bytes: Bytes, rows: usize, cols: usize) -> Result<Self::Table, WeightError> {
        self.note(Event::Table).unwrap();
        self.cpu.table(format, bytes, rows, cols)
    }
    fn weight(
        &self,
        format: Format,
        bytes: Bytes,
        n: usize,
        k: usize,
        precision: Precision,
    ) -> Result<Self::Weight, WeightError> {
        self.note(Event::Weight).unwrap();
        self.cpu.weight(format, bytes, n, k, precision)
    }
    fn begin(&self) -> Result<(), DeviceError> {
        self.note(Event::Begin)?;
        self.cpu.begin()
    }
    fn vector(&self, values: &[f32]) -> Self::Vector {
        self.cpu.vector(values)
    }
    fn form(&self, weight: &Self::Weight) -> Self::Form {
        self.cpu.form(weight)
    }
    fn tensor(&self, rows: usize, cols: usize) -> Self::Tensor {
        self.cpu.tensor(rows, cols)
    }
    fn lasting_tensor(&self, rows: usize, cols: usize) -> Self::Tensor {
        self.cpu.lasting_tensor(rows, cols)
    }
    fn activations(&self, rows: usize, cols: usize, form: Self::Form) -> Self::Activations {
        self.cpu.activations(rows, cols, form)
    }
    fn activations_bytes(&self, cols: usize, form: Self::Form) -> usize {
        self.cpu.activations_bytes(cols, form)
    }
    fn attention_bytes(&self, heads: Heads, tokens: usize, nodes: usize) -> usize {
        self.cpu.attention_bytes(heads, tokens, nodes)
    }
    fn rope(&self, positions: &[u32], head_dim: usize, base: f32) -> Self::Rope {
        self.cpu.rope(positions, head_dim, base)
    }
    fn embed(&self, table: &Self::Table, tokens: &[u32], out: &mut Self::Tensor) {
        self.note(Event::Embed(tokens.len())).unwrap();
        self.cpu.embed(table, tokens, out)
    }
    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Vector, eps: f32, out: &mut Self::Activations) {
        self.cpu.rms_norm(x, weight, eps, out)
    }
    fn copy_rows(&self, from: &Self::Tensor, rows: &[usize], to: &mut Self::Tensor, first: usize) {
        self.cpu.copy_rows(from, rows, to, first)
    }
    fn matmul(&self, input: &Self::Activations, products: &mut [Product<'_, Self>]) {
        let mut products: Vec<Product<'_, Cpu>> = products.iter_mut().map(|(w, out)| (*w, &mut **out)).collect();
        self.cpu.matmul(input, &mut products)
    }
    fn matmul_add(&self, input: &Self::Activations, weight: &Self::Weight, output: &mut Self::Tensor) {
        self.cpu.matmul_add(input, weight, output)
    }
    fn norm_rope(&self, x: &mut Self::Tensor, weight: &Self::Vector, eps: f32, rope: &Self::Rope) {
        self.cpu.norm_rope(x, weight, eps, rope)
    }
    fn attention(
        &self,
        heads: Heads,
        nodes: &[Node],
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        out: &mut Self::Activations,
    ) {
        self.note(Event::Attention).unwrap();
        self.cpu.attention(heads, nodes, q, k, v, out)
    }
    fn gated(&self, input: &Self::Activations, gate: &Self::Weight, up: &Self::Weight, out: &mut Self::Activations) {
        self.cpu.gated(input, gate, up, out)
    }
    fn rms_norm_rows(&self, x: &Self::Tensor, rows: &[usize], weight: &Self::Vector, eps: f32, out: &mut Self::Tensor) {
        self.cpu.rms_norm_rows(x, rows, weight, eps, out)
    }
    fn checkpoint(&self) {
        self.note(Event::Checkpoint).unwrap();
    }
    fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>, DeviceError> {
        self.note(Event::Read)?;
        Ok(self.cpu.read(x))
    }
}

const LAYERS: usize = 3;

fn file() -> (tempfile::TempDir, Gguf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let dims = "tiny,layers=3,hidden=64,ffn=96,heads=2,kv_heads=1,head_dim=32,vocab=300,context=100".parse().unwrap();
    write(&Spec { dims, level: "Q8_0".parse().unwrap(), seed: 3, vocabulary: None }, &path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    (folder, gguf)
}

fn load(gguf: &Gguf, failing: Option<Event>) -> (Result<Qwen3<Recorder>, ModelError>, Events) {
    let events = Events::default();
    let cpu = CpuBackend::new(Isa::select(None).unwrap(), 1);
    (Qwen3::load(gguf, Recorder { cpu, events: Arc::clone(&events), failing }, &[]), events)
}

fn text(tokens: &[u32], prefix: usize) -> Text<'_> {
    Text { tokens, prefix }
}

#[test]
fn a_device_is_told_of_a_file_then_its_parts_then_passes() {
    let (_folder, gguf) = file();
    let (model, events) = load(&gguf, None);
    let runner = Qwen3Runner::new(model.unwrap(), None);
    assert_eq!((runner.device().name, runner.memory().limit), ("recorder", Some(12_345)));
    let loaded = std::mem::take(&mut *events.lock().unwrap());
    assert_eq!(loaded[..2], [Event::Adopt(gguf.file_size() as usize), Event::Table]);
    assert_eq!(loaded[2..], [(); 7 * LAYERS].map(|()| Event::Weight));

    runner.run(&[text(&[1, 2, 3], 0), text(&[1, 2, 4], 0)], &|| true).unwrap();
    let layer = [Event::Attention, Event::Checkpoint];
    let expected =
        [vec![Event::Begin, Event::Embed(6)], [(); LAYERS].map(|()| layer.clone()).concat(), vec![Event::Read]];
    assert_eq!(*events.lock().unwrap(), expected.concat());
}

#[test]
fn failures_of_a_device_are_told_in_its_words() {
    let (_folder, gguf) = file();
    let (model, _) = load(&gguf, Some(Event::Adopt(gguf.file_size() as usize)));
    assert_eq!(model.err().unwrap().to_string(), "recorder: planted");
    for failing in [Event::Begin, Event::Read] {
        let (model, events) = load(&gguf, Some(failing.clone()));
        let runner = Qwen3Runner::new(model.unwrap(), Some(1 << 20));
        let texts = [text(&[1, 2, 3, 4], 2)];
        let error = runner.run(&texts, &|| true).unwrap_err();
        assert!(matches!(&error, ModelError::Device(_)) && error.to_string() == "recorder: planted", "{error}");
        // Nothing of such a pass is kept for the next.
        let _ = runner.run(&texts, &|| true);
        let embedded = |event: &&Event| matches!(event, Event::Embed(_));
        let events = events.lock().unwrap();
        assert!(events.iter().filter(embedded).all(|event| *event == Event::Embed(4)), "{failing:?}");
    }
}

/// A pass over texts of several instructions keeps all of them.
#[test]
fn several_prefixes_are_kept_of_one_pass() {
    let (_folder, gguf) = file();
    let (model, events) = load(&gguf, None);
    let kept = Qwen3Runner::new(model.unwrap(), Some(1 << 20));
    let alone = Qwen3Runner::new(load(&gguf, None).0.unwrap(), None);
    let texts = [text(&[1, 2, 3, 9], 3), text(&[4, 5, 8, 9], 2), text(&[1, 2, 3, 8, 9], 3), text(&[7, 9], 0)];
    for (pass, computed) in [(0, 4 + 4 + 2 + 2), (1, 1 + 2 + 2 + 2)] {
        let states = kept.run(&texts, &|| true).unwrap();
        let expected = alone.run(&texts, &|| true).unwrap();
        assert!(states.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "pass {pass}");
        assert!(std::mem::take(&mut *events.lock().unwrap()).contains(&Event::Embed(computed)), "pass {pass}");
    }
}
