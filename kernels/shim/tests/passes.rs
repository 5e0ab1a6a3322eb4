//! Whole forward passes of tiny models through the shipped kernels, against the CPU's.

mod common;

use common::{Metal, bits, metal, shim};
use qembed_kernels::Backend;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::metal::{MetalBackend, SOURCE};
use qembed_metal_shim::{Counts, Order, Shim};
use qembed_models::gguf::Gguf;
use qembed_models::synth::{Spec, write};
use qembed_models::{Batch, ModelError, Qwen3, Qwen3Runner, Runner, Text};
use std::cell::Cell;

const WIDE: &str = "tiny,layers=2,hidden=256,ffn=256,heads=4,kv_heads=2,head_dim=64,vocab=300,context=400";
const LONG_HEADS: &str = "tiny,layers=2,hidden=96,ffn=160,heads=3,kv_heads=1,head_dim=128,vocab=300,context=400";
const SMALL: &str = "tiny,layers=3,hidden=64,ffn=96,heads=2,kv_heads=1,head_dim=64,vocab=300,context=400";

fn model(dims: &str, level: &str) -> (tempfile::TempDir, Gguf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let (dims, level) = (dims.parse().unwrap(), level.parse().unwrap());
    write(&Spec { dims, level, seed: 3, vocabulary: None }, &path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    (folder, gguf)
}

/// A text of so many tokens, of which the first are those of every other.
fn text(tokens: u32, common: u32, seed: u32) -> Vec<u32> {
    let own = |i: u32| (i * 7 + seed * 31 + 5) % 290;
    (0..tokens).map(|i| if i < common { i % 290 } else { own(i) }).collect()
}

/// Short and long, some with a prefix in common, of which two end within a block of keys, one text twice.
fn texts() -> Vec<Vec<u32>> {
    [(1, 0, 1), (150, 0, 2), (40, 37, 3), (45, 37, 4), (38, 37, 5), (2, 0, 6), (70, 64, 7), (71, 64, 8), (1, 0, 1)]
        .map(|(tokens, common, seed)| text(tokens, common, seed))
        .to_vec()
}

fn run<B: Backend>(gguf: &Gguf, backend: B, texts: &[Vec<u32>]) -> Vec<f32> {
    Qwen3::load(gguf, backend, &[]).unwrap().forward(&Batch::new(texts)).unwrap()
}

fn cpu() -> CpuBackend {
    CpuBackend::new(Isa::all().find(|isa| isa.name == "scalar").unwrap(), 1)
}

/// The smallest cosine of a text's two vectors.
fn cosine(a: &[f32], b: &[f32], texts: usize) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let len = a.len() / texts;
    assert!(a.len() == b.len() && len > 0);
    let of = |(a, b): (&[f32], &[f32])| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    // `f64::min` would pass over a NaN.
    let smaller = |least: f64, cosine: f64| if cosine >= least { least } else { cosine };
    a.chunks_exact(len).zip(b.chunks_exact(len)).map(of).fold(1.0, smaller)
}

#[test]
fn vectors_are_those_of_the_cpu() {
    for (dims, level, least) in [(WIDE, "F32", 0.99999), (LONG_HEADS, "F32", 0.99999), (WIDE, "F16", 0.99999)] {
        let (_folder, gguf) = model(dims, level);
        let want = run(&gguf, cpu(), &texts());
        for order in Order::ALL {
            let got = run(&gguf, metal(order), &texts());
            let cosine = cosine(&got, &want, texts().len());
            assert!(cosine >= least, "{dims} {level} {order:?}: {cosine}");
        }
    }
}

/// Of quantized weights, one layer with floats and one with halves of 11 bits: each is off by at most 2^-11 of it, at random, and so
/// is each product, by less than the step of 8 bits that is enough elsewhere.
#[test]
fn vectors_of_quantized_models_are_those_of_the_cpu() {
    for level in ["Q8_0", "Q4_K_M", "Q6_K"] {
        let (_folder, gguf) = model(WIDE, level);
        let cosine = cosine(&run(&gguf, metal(Order::Shuffled), &texts()), &run(&gguf, cpu(), &texts()), texts().len());
        assert!(cosine >= 0.99999, "{level}: {cosine}");
    }
}

/// A text has the bits that it has alone, in a new backend and in one that has run others before.
#[test]
fn bits_do_not_depend_on_the_batch() {
    let (_folder, gguf) = model(SMALL, "Q8_0");
    let used = Qwen3::load(&gguf, metal(Order::Forward), &[]).unwrap();
    let together = used.forward(&Batch::new(&texts())).unwrap();
    let separate = used.forward(&Batch::separate(&texts())).unwrap();
    assert_eq!(bits(&together), bits(&separate));
    assert_eq!(bits(&together), bits(&run(&gguf, metal(Order::Shuffled), &texts())));
    for (text, together) in texts().iter().zip(together.chunks_exact(64)) {
        let one = std::slice::from_ref(text);
        assert_eq!(bits(&used.forward(&Batch::new(one)).unwrap()), bits(together));
    }
}

/// Prefixes that are kept and used again, and texts of other lengths in between, which have the same memory.
#[test]
fn known_prefixes_change_no_bit() {
    let (_folder, gguf) = model(SMALL, "F32");
    let kept = Qwen3Runner::new(Qwen3::load(&gguf, metal(Order::Forward), &[]).unwrap(), Some(1 << 20));
    let texts = texts();
    let batch: Vec<Text<'_>> =
        texts.iter().zip([0, 0, 37, 37, 37, 0, 64, 64, 0]).map(|(tokens, prefix)| Text { tokens, prefix }).collect();
    let want = bits(&run(&gguf, metal(Order::Forward), &texts));
    for pass in 0..3 {
        assert_eq!(bits(&kept.run(&batch, &|| true).unwrap()), want, "pass {pass}");
        kept.run(&batch[pass..pass + 2], &|| true).unwrap();
    }
}

fn metered(work: u64) -> Metal {
    MetalBackend::metered(shim(Order::Forward), work).unwrap()
}

/// Command buffers of bounded work, of which two are in flight, give the same bits as one of all.
#[test]
fn work_is_metered() {
    let (_folder, gguf) = model(SMALL, "F32");
    let counted = |work| {
        let be = metered(work);
        let model = Qwen3::load(&gguf, be, &[]).unwrap();
        let before = model.backend().gpu().counts();
        let states = model.forward(&Batch::new(&texts())).unwrap();
        (bits(&states), before, model.backend().gpu().counts())
    };
    let (want, before, after) = counted(1 << 50);
    assert_eq!(after.commits - before.commits, 1);
    let (got, before, after) = counted(4_000_000);
    assert!(got == want);
    // Two products of one layer, at least, are as much as that.
    let Counts { commits, in_flight, .. } = after;
    assert!(commits - before.commits > 6 && in_flight == 2, "{before:?} {after:?}");
}

/// What is called off ends with what is in flight, and the next pass is none the worse for it.
#[test]
fn a_pass_is_called_off() {
    let (_folder, gguf) = model(SMALL, "F32");
    let want = bits(&run(&gguf, metal(Order::Forward), &texts()));
    let runner = Qwen3Runner::new(Qwen3::load(&gguf, metered(4_000_000), &[]).unwrap(), None);
    let texts = texts();
    let batch: Vec<Text<'_>> = texts.iter().map(|tokens| Text { tokens, prefix: 0 }).collect();
    for layers in 0..3 {
        let asked = Cell::new(0);
        let wanted = || asked.replace(asked.get() + 1) < layers;
        assert!(matches!(runner.run(&batch, &wanted), Err(ModelError::Unwanted)));
        assert_eq!(bits(&runner.run(&batch, &|| true).unwrap()), want, "after {layers} layers");
    }
}

/// Wherever a command buffer fails, its pass says so, and the next one does not.
#[test]
fn a_failed_command_buffer_fails_its_pass_alone() {
    let (_folder, gguf) = model(SMALL, "F32");
    let want = bits(&run(&gguf, metal(Order::Forward), &texts()));
    // The first one is the probe.
    for commit in [1, 2, 5] {
        let be = MetalBackend::metered(shim(Order::Forward).failing(commit), 4_000_000).unwrap();
        let model = Qwen3::load(&gguf, be, &[]).unwrap();
        let error = model.forward(&Batch::new(&texts())).unwrap_err();
        assert!(matches!(&error, ModelError::Device(_)), "{error}");
        assert_eq!(error.to_string(), "metal: the GPU gave up (out of memory: planted): try again, or run on the CPU");
        assert_eq!(bits(&model.forward(&Batch::new(&texts())).unwrap()), want, "after commit {commit}");
    }
    let probed = MetalBackend::new(shim(Order::Forward).failing(0));
    assert!(probed.is_err(), "a GPU that does not get through the probe is not used");
}

/// Memory that is not to be had in the middle of a pass is an error that says so.
#[test]
fn too_little_memory_is_an_error() {
    let (_folder, gguf) = model(SMALL, "F32");
    let texts = texts();
    let shim = Shim::new(SOURCE, Order::Forward).unwrap().with_limit(600_000);
    let model = Qwen3::load(&gguf, MetalBackend::new(shim).unwrap(), &[]).unwrap();
    let few = model.forward(&Batch::new(&texts[5..6])).unwrap();
    let error = model.forward(&Batch::new(&texts)).unwrap_err().to_string();
    assert!(error.starts_with("metal: the GPU does not give "), "{error}");
    assert_eq!(bits(&model.forward(&Batch::new(&texts[5..6])).unwrap()), bits(&few));
}

/// Weights are used where the file is mapped; of a file that was read into memory they are copied, and that is told.
#[test]
fn mapped_weights_are_not_copied() {
    let (folder, gguf) = model(SMALL, "Q4_0");
    let mapped = Qwen3::load(&gguf, metal(Order::Forward), &[]).unwrap();
    assert_eq!(mapped.backend().copied_bytes(), 0);
    // Norms, and what the probe needed.
    let small = mapped.backend().gpu().counts().bytes;
    assert!(small < 40_000, "{small}");
    let bytes = bytes::Bytes::from(std::fs::read(folder.path().join("model.gguf")).unwrap());
    let read = Gguf::from_bytes(bytes).unwrap();
    let copied = Qwen3::load(&read, metal(Order::Forward), &[]).unwrap();
    let weights = 3 * (2 * 128 * 64 + 2 * 64 * 64 + 3 * 96 * 64) / 32 * 18;
    assert_eq!(copied.backend().copied_bytes(), weights as u64);
    let batch = Batch::new(&texts());
    assert_eq!(bits(&mapped.forward(&batch).unwrap()), bits(&copied.forward(&batch).unwrap()));
}

/// Nothing is left on the device when a model is dropped, and passes do not take more and more.
#[test]
fn memory_is_given_back() {
    let (_folder, gguf) = model(SMALL, "F32");
    let model = Qwen3::load(&gguf, metal(Order::Forward), &[]).unwrap();
    let counts = model.backend().gpu().counter();
    let pass = || {
        model.forward(&Batch::new(&texts())).unwrap();
        counts().bytes
    };
    let (first, second) = (pass(), pass());
    assert!(second <= first + first / 4 && pass() == second, "{first} {second}");
    drop(model);
    assert_eq!(counts().bytes, 0);
}

#[test]
fn all_of_it_under_address_sanitizer() {
    common::sanitizer::all_again();
}
