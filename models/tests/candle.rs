//! The forward pass against a second, independent implementation: `quantized_qwen3` of candle-transformers.
//!
//! It returns logits, not hidden states. So the file gets an `output.weight` that is the identity: then the logits are
//! the final-normed hidden state of the last token. The engine must ignore that tensor. Two more keys differ from what
//! the generator writes: `general.dtype` 0 makes candle compute rotary angles in f32 (by default in f16, whose 11 bits
//! are wrong from position 2048 on and coarse before), and the rotary base and epsilon are unusual, so that neither can
//! be a constant of the engine.
//!
//! Of the formats, Q4_0 to Q8_0 and the K levels run in both; candle has no IQ4. It panics on rows of Q4_1 and Q5_1 whose
//! number of blocks is odd, so all rows here are a multiple of 64.

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_qwen3::ModelWeights;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::formats::Format;
use qembed_models::gguf::{Gguf, GgufBuilder};
use qembed_models::synth::{Spec, write};
use qembed_models::{Batch, Qwen3};
use std::path::Path;

/// One token, a few, both sides of a block of 64 keys, many blocks.
const LENGTHS: [usize; 6] = [1, 2, 5, 64, 65, 300];

/// Float weights: both compute in f32, so see `golden.rs`: 1 − cos < 1e-8.
///
/// Quantized weights: candle rounds activations to 8 bits itself, so the bound is that of its error and ours together.
/// `golden.rs` derives ε < 0.65 % per product for groups of 32, candle's for Q4_0 to Q8_0 as well. Its K formats share
/// one scale among 256 values, whose largest is 2.8 σ (normal) or 5 σ (gated products): 0.9 % on average. At worst
/// √(0.65² + 0.9²) = 1.1 % for each of four products in two layers: ε < √8 · 1.1 % = 3.1 %, 1 − cos < 4.8e-4.
const FLOATS: f64 = 1.0 - 1e-8;
const QUANTIZED: f64 = 1.0 - 4.8e-4;

#[test]
fn float_weights() {
    compare("F32", "tiny,layers=2,hidden=96,ffn=176,heads=6,kv_heads=3,head_dim=40,vocab=300,context=512", FLOATS);
    compare("F16", "tiny,layers=2,hidden=64,ffn=160,heads=4,kv_heads=1,head_dim=32,vocab=300,context=512", FLOATS);
    compare("BF16", "tiny,layers=1,hidden=64,ffn=160,heads=1,kv_heads=1,head_dim=64,vocab=300,context=512", FLOATS);
}

#[test]
fn quantized_weights() {
    for level in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"] {
        let shape = "tiny,layers=2,hidden=64,ffn=192,heads=4,kv_heads=2,head_dim=32,vocab=300,context=512";
        compare(level, shape, QUANTIZED);
    }
    for level in ["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K"] {
        let shape = "tiny,layers=2,hidden=256,ffn=256,heads=4,kv_heads=2,head_dim=64,vocab=300,context=512";
        compare(level, shape, QUANTIZED);
    }
}

fn compare(level: &str, shape: &str, least: f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let made = folder.path().join("made.gguf");
    write(&Spec { dims: shape.parse().unwrap(), level: level.parse().unwrap(), seed: 9, vocabulary: None }, &made)
        .unwrap();
    rewrite(&Gguf::open(&made).unwrap(), &path);

    let texts: Vec<Vec<u32>> =
        LENGTHS.iter().map(|len| (0..*len).map(|i| (i * i * 7 + i * 31 + len) as u32 % 300).collect()).collect();
    let expected = by_candle(&path, &texts);
    let gguf = Gguf::open(&path).unwrap();
    for isa in Isa::all() {
        let model = Qwen3::load(&gguf, CpuBackend::new(isa, 1), &[]).unwrap();
        let states = model.forward(&Batch::new(&texts)).unwrap();
        for ((state, expected), text) in states.chunks_exact(model.config().hidden).zip(&expected).zip(&texts) {
            let cosine = cosine(state, expected);
            assert!(cosine >= least, "{level}, {}, {} tokens: cosine 1 - {:.2e}", isa.name, text.len(), 1.0 - cosine);
        }
    }
}

/// The file with another rotary base and epsilon, and what makes candle's logits hidden states.
fn rewrite(from: &Gguf, to: &Path) {
    let hidden = from.require_u32("qwen3.embedding_length").unwrap() as usize;
    let mut builder = GgufBuilder::new();
    builder.copy_metadata(from).set("general.dtype", 0u32);
    builder.set("qwen3.rope.freq_base", 50_000f32).set("qwen3.attention.layer_norm_rms_epsilon", 1e-3f32);
    for info in from.tensors() {
        builder.add_tensor(&info.name, &info.shape, info.format.unwrap()).unwrap();
    }
    builder.add_tensor("output.weight", &[hidden, hidden], Format::F32).unwrap();
    let mut writer = builder.begin(Vec::new()).unwrap();
    for info in from.tensors() {
        writer.write_tensor(&info.name, &from.require_tensor(&info.name).unwrap().data).unwrap();
    }
    let identity = (0..hidden * hidden).map(|i| if i / hidden == i % hidden { 1f32 } else { 0.0 });
    writer.write_tensor("output.weight", &identity.flat_map(f32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    std::fs::write(to, writer.finish().unwrap()).unwrap();
}

fn by_candle(path: &Path, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let mut file = std::fs::File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let mut vector = |ids: &Vec<u32>| {
        model.clear_kv_cache();
        let logits = model.forward(&Tensor::new(&ids[..], &Device::Cpu)?.unsqueeze(0)?, 0)?;
        logits.squeeze(0)?.to_vec1::<f32>()
    };
    texts.iter().map(|ids| vector(ids).unwrap()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
