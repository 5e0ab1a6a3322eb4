//! Models in which every tensor, norms too, has a format of its own, drawn at random of all that its rows can have: whatever
//! made such a file, it runs on every instruction set, near to the plain one, with bits that are each text's own.
//!
//! `QEMBED_TEST_ISA` names the only instruction set to run, for emulators.

use qembed_kernels::Heads;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::formats::Format;
use qembed_models::gguf::{Gguf, GgufBuilder};
use qembed_models::synth::Random;
use qembed_models::{ARCHITECTURE, Batch, Config, Pass, Qwen3, tensor_shapes};
use std::fmt::Write;
use std::sync::Arc;

const VOCABULARY: usize = 100;
const LAYERS: usize = 3;

/// The least cosine to the scalar instruction set, which multiplies dequantized weights in f32.
///
/// Errors that are independent of the vector and of relative size ε turn it by an angle of about ε: 1 − cos ≈ ε² / 2. The
/// coarsest product there is has 8-bit activations and weights requantized to 8 bits. Activations: an error uniform over a
/// step of amax / 127 has the deviation step / √12; the largest of 32 values is 3.2 σ at most on average (a gated product;
/// 2.1 σ of normal ones), so 0.73 %. Weights: a step is that of the largest value that a group's codes can make, twice σ for
/// values spread evenly over the codes' range and 3.5 σ for normal ones that fill it, so 0.8 %. Together 1.1 %; four such
/// products in each of three layers, whose errors add up in quadrature and of which the residual stream keeps all: ε = 3.8 %,
/// 1 − cos = 7.2e-4. bfloat16 and 16-bit codes are finer. Where all weights are floats, products are those of f32 but for less
/// than 2^-14 each: ε < √12 · 2^-14 = 2.1e-4, 1 − cos = 2.2e-8.
fn least_cosine(has_codes: bool) -> f64 {
    1.0 - if has_codes { 7.2e-4 } else { 2.2e-8 }
}

#[test]
fn models_of_any_formats() {
    // Of rows that large blocks can store, only small ones, none, some of each.
    let shapes =
        [(256, 512, 4, 2, 64), (96, 320, 3, 1, 32), (40, 290, 2, 1, 20), (256, 288, 5, 5, 32), (256, 512, 2, 1, 128)];
    let mut random = Random(52);
    for (hidden, ffn, heads, kv_heads, head_dim) in shapes {
        let config = Config {
            layers: LAYERS,
            hidden,
            ffn,
            heads: Heads { heads, kv_heads, head_dim },
            context: 100,
            eps: 1e-6,
            rope_base: 1e6,
        };
        for _ in 0..2 {
            let (gguf, formats) = model(&config, &mut random);
            check(&gguf, &formats);
        }
    }
}

fn check(gguf: &Gguf, formats: &str) {
    let mut random = Random(53);
    let prefix: Vec<u32> = (0..9).map(|_| random.below(VOCABULARY) as u32).collect();
    // Around a block of keys; two with a common prefix.
    let mut texts: Vec<Vec<u32>> =
        [1, 20, 33, 70].map(|len| (0..len).map(|_| random.below(VOCABULARY) as u32).collect()).into();
    texts[1][..9].copy_from_slice(&prefix);
    texts[3][..9].copy_from_slice(&prefix);
    let load = |isa: &'static Isa, threads| Qwen3::load(gguf, CpuBackend::new(isa, threads), &[]).unwrap();
    let scalar = Isa::select(Some("scalar")).unwrap();
    let expected = load(scalar, 2).forward(&Batch::new(&texts)).unwrap();
    let hidden = expected.len() / texts.len();
    for (i, a) in expected.chunks_exact(hidden).enumerate() {
        let alike = expected.chunks_exact(hidden).skip(i + 1).map(|b| cosine(a, b)).fold(0.0, f64::max);
        assert!(alike < 0.95, "vectors too much alike to tell a wrong one: {alike},{formats}");
    }

    let least = least_cosine(gguf.tensors().any(|tensor| tensor.format.is_some_and(|format| !format.is_float())));
    let only = std::env::var("QEMBED_TEST_ISA").ok();
    for isa in Isa::all().filter(|isa| only.as_ref().is_none_or(|only| isa.name == only)) {
        let model = load(isa, 1);
        let together = model.forward(&Batch::new(&texts)).unwrap();
        let what = |what: &str| format!("{} {what},{formats}", isa.name);
        for (i, (a, b)) in together.chunks_exact(hidden).zip(expected.chunks_exact(hidden)).enumerate() {
            let cosine = cosine(a, b);
            assert!(cosine >= least, "{}: cosine 1 - {:.2e}", what(&format!("text {i}")), 1.0 - cosine);
        }
        for threads in [2, 3] {
            let ours = load(isa, threads).forward(&Batch::separate(&texts)).unwrap();
            assert_bits(&what(&format!("{threads} threads, nothing shared")), &ours, &together);
        }
        for (text, together) in texts.iter().zip(together.chunks_exact(hidden)) {
            assert_bits(&what("alone"), &model.forward(&Batch::new(&[text])).unwrap(), together);
        }
        let reversed: Vec<&Vec<u32>> = texts.iter().rev().collect();
        let ours = model.forward(&Batch::new(&reversed)).unwrap();
        for (ours, together) in ours.chunks_exact(hidden).rev().zip(together.chunks_exact(hidden)) {
            assert_bits(&what("in another order"), ours, together);
        }
        let keep = Pass { prefixes: &[], keep: &[(1, &prefix)], wanted: &|| true };
        let kept = Arc::new(model.run(&Batch::new(&texts), &keep).unwrap().kept.pop().unwrap());
        let known = Pass { prefixes: &[kept], keep: &[], wanted: &|| true };
        let ours = model.run(&Batch::continuing(&texts, &[&prefix]), &known).unwrap().states;
        assert_bits(&what("of a known prefix"), &ours, &together);
    }
}

/// A model of such dimensions in memory, and which formats it has, for messages.
fn model(config: &Config, random: &mut Random) -> (Gguf, String) {
    let Heads { heads, kv_heads, head_dim } = config.heads;
    let mut builder = GgufBuilder::new();
    builder.set("general.architecture", ARCHITECTURE);
    for (key, value) in [
        ("block_count", config.layers),
        ("context_length", config.context),
        ("embedding_length", config.hidden),
        ("feed_forward_length", config.ffn),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
    ] {
        builder.set(&format!("{ARCHITECTURE}.{key}"), value as u32);
    }
    builder.set(&format!("{ARCHITECTURE}.rope.freq_base"), config.rope_base);
    builder.set(&format!("{ARCHITECTURE}.attention.layer_norm_rms_epsilon"), config.eps);

    let (mut tensors, mut formats) = (Vec::new(), String::new());
    for (name, mut shape) in tensor_shapes(config) {
        if name == "token_embd.weight" {
            shape[1] = VOCABULARY;
        }
        let fitting: Vec<Format> =
            Format::ALL.iter().copied().filter(|format| format.row_bytes(shape[0]).is_some()).collect();
        let format = fitting[random.below(fitting.len())];
        write!(formats, " {name} {format}").unwrap();
        builder.add_tensor(&name, &shape, format).unwrap();
        // Norms around 1, matrices as Qwen3 is initialized.
        let (mean, deviation) = if shape.len() == 1 { (1.0, 0.1) } else { (0.0, 0.02) };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| mean + deviation * random.normal()).collect();
        tensors.push((name, stored(format, &values, random)));
    }
    let mut writer = builder.begin(Vec::new()).unwrap();
    for (name, bytes) in tensors {
        writer.write_tensor(&name, &bytes).unwrap();
    }
    (Gguf::from_bytes(writer.finish().unwrap().into()).unwrap(), formats)
}

/// Values in a format; where that has no quantizer, random blocks of nearly their size.
fn stored(format: Format, values: &[f32], random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
    if format.can_quantize() {
        format.quantize(values, &mut bytes);
        return bytes;
    }
    let size = rms(values);
    let mut block_values = vec![0.0; format.block_len()];
    let mut block = || {
        let mut block = vec![0; format.block_bytes()];
        loop {
            block.iter_mut().for_each(|byte| *byte = random.next_u64() as u8);
            format.dequantize(&block, &mut block_values);
            if (size / 2.0..size * 2.0).contains(&rms(&block_values)) {
                return block;
            }
        }
    };
    let pool: Vec<Vec<u8>> = (0..64).map(|_| block()).collect();
    bytes.chunks_exact_mut(format.block_bytes()).for_each(|to| to.copy_from_slice(&pool[random.below(pool.len())]));
    bytes
}

fn rms(values: &[f32]) -> f32 {
    (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[track_caller]
fn assert_bits(what: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!(a.to_bits() == b.to_bits(), "{what}: value {i} is {a:e}, expected {b:e}");
    }
}
