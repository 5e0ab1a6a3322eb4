//! The forward pass against vectors of Hugging Face `transformers`, on every instruction set of this machine.
//!
//! `data/golden.json` holds what `scripts/golden.py` computed in float32 from the same dequantized weights. Each model is
//! made anew from its shape, level and seed; a checksum of its weights comes first, so that a changed generator is told
//! apart from a wrong forward pass.

use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_models::gguf::Gguf;
use qembed_models::synth::{Spec, write};
use qembed_models::{Batch, Qwen3};
use serde_json::Value;
use std::path::Path;

struct Golden {
    /// Shape, level and seed, for messages.
    name: String,
    gguf: Gguf,
    cases: Vec<Case>,
    level: String,
    _folder: tempfile::TempDir,
}

struct Case {
    ids: Vec<u32>,
    vector: Vec<f32>,
}

#[test]
fn vectors_are_those_of_the_reference() {
    for golden in models() {
        for isa in Isa::all() {
            let model = Qwen3::load(&golden.gguf, CpuBackend::new(isa, 2), &[]).unwrap();
            let hidden = model.config().hidden;
            let all: Vec<&[u32]> = golden.cases.iter().map(|case| &case.ids[..]).collect();
            let together = model.forward(&Batch::new(&all)).unwrap();
            assert_eq!(together.len(), golden.cases.len() * hidden);

            let mut worst = f64::INFINITY;
            for (case, together) in golden.cases.iter().zip(together.chunks_exact(hidden)) {
                let what = format!("{}, {}, {} tokens", golden.name, isa.name, case.ids.len());
                let alone = model.forward(&Batch::new(&[&case.ids])).unwrap();
                assert!(alone.iter().zip(together).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}: batch");
                let cosine = cosine(&alone, &case.vector);
                let least = least_cosine(&golden.level, isa.name);
                assert!(cosine >= least, "{what}: cosine 1 - {:.3e}, at least 1 - {:.3e}", 1.0 - cosine, 1.0 - least);
                worst = worst.min(cosine);
            }
            println!("{} | {} | 1 - {:.2e}", golden.name, isa.name, 1.0 - worst);
        }
    }
}

/// The least cosine to the reference. Errors that are independent of the vector and of relative size ε turn it by an
/// angle of about ε: 1 − cos ≈ ε²/2. The contract is 0.999999 for float weights and 0.9995 for quantized ones; what
/// follows from the arithmetic is closer.
///
/// * Float weights: both sides compute in f32, unit roundoff u = 2⁻²⁴. A rotary angle of up to 700 rad is rounded to
///   700 u = 4e-5, the largest error there is; a sum of K ≤ 768 products adds √K u = 2e-6. Were every one of the four
///   products of three layers off by 4e-5: ε < √12 · 4e-5 = 1.4e-4, 1 − cos < 1e-8.
/// * Quantized weights on a tier that computes on them in f32 (scalar): the same.
/// * 8-bit weights by 16-bit activations (AVX2, SSE4.1): half a step of amax / 32767 is below those 4e-5 even of a value that is
///   the largest of its group, so the same bound.
/// * 8-bit activations: an error uniform over a step of amax / 127 has the deviation step / √12. The largest of 32 normal
///   values is 2.1 σ on average, so ε = 2.1 / 127 / √12 = 0.5 % for each product; a gated product has heavier tails
///   (largest of 32: 3.2 σ), 0.8 %. Four products a layer, of up to three layers (the first has 16 bits), whose errors
///   add up in quadrature and of which the residual stream keeps all: ε < √12 · 0.65 % = 2.3 %, 1 − cos < 2.6e-4.
/// * bfloat16 (AMX): rounding is uniform over 2⁻⁷ of a power of two, so of either operand's values it takes 2⁻⁷ / √12 at
///   most, on average over a binade three quarters of that: √2 · 0.17 % a product, less than codes. Float weights and the
///   first layer are products of two parts of each operand, within 2⁻¹⁴: far below ε = 1.4e-4 once errors average out.
fn least_cosine(level: &str, isa: &str) -> f64 {
    1.0 - match (level, isa) {
        ("F32" | "F16" | "BF16", _) | (_, "scalar") | ("Q8_0", "avx2" | "sse41") => 1e-8,
        _ => 2.6e-4,
    }
}

fn models() -> Vec<Golden> {
    let json: Value = serde_json::from_str(include_str!("data/golden.json")).unwrap();
    json["models"].as_array().unwrap().iter().map(model).collect()
}

fn model(json: &Value) -> Golden {
    let text = |key: &str| json[key].as_str().unwrap();
    let (shape, level, seed) = (text("shape"), text("type"), json["seed"].as_u64().unwrap());
    let name = format!("{level} {shape} seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let spec = Spec { dims: shape.parse().unwrap(), level: level.parse().unwrap(), seed, vocabulary: None };
    write(&spec, &path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(
        u64::from(weights_crc32(&gguf)),
        json["weights_crc32"].as_u64().unwrap(),
        "{name}: the generator writes other weights than it did for the golden vectors; if that is meant, make them \
         anew with scripts/golden.py"
    );
    let vocab = json["vocab"].as_u64().unwrap();
    let cases: Vec<Case> = json["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| Case {
            ids: token_ids(case["seed"].as_u64().unwrap(), case["length"].as_u64().unwrap(), vocab),
            vector: case["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect(),
        })
        .collect();
    let lengths: Vec<_> = cases.iter().map(|case| case.ids.len()).collect();
    assert_eq!(lengths, [1, 2, 7, 33, 64, 65, 129, 700]);
    Golden { name, level: level.into(), gguf, cases, _folder: folder }
}

/// `token_ids` of scripts/golden.py.
fn token_ids(seed: u64, length: u64, vocab: u64) -> Vec<u32> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % vocab) as u32
        })
        .collect()
}

/// CRC-32 (IEEE 802.3, reflected) of the data of all tensors, in the order of their names.
fn weights_crc32(gguf: &Gguf) -> u32 {
    let mut names: Vec<_> = gguf.tensors().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    let table: Vec<u32> =
        (0..256u32).map(|byte| (0..8).fold(byte, |c, _| (c >> 1) ^ (0xedb8_8320 * (c & 1)))).collect();
    let mut crc = !0;
    for name in names {
        for byte in gguf.require_tensor(name).unwrap().data.iter() {
            crc = (crc >> 8) ^ table[usize::from(crc as u8 ^ byte)];
        }
    }
    !crc
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The oracle is only as good as its spread: where vectors of different texts were alike, wrong ones would pass too.
#[test]
fn the_golden_vectors_differ_from_each_other() {
    let json: Value = serde_json::from_str(include_str!("data/golden.json")).unwrap();
    for model in json["models"].as_array().unwrap() {
        let floats = |case: &Value| -> Vec<f32> {
            case["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
        };
        let vectors: Vec<_> = model["cases"].as_array().unwrap().iter().map(floats).collect();
        for (i, a) in vectors.iter().enumerate() {
            for b in &vectors[..i] {
                assert!(cosine(a, b) < 0.9);
            }
        }
    }
}

/// What a forward pass must refuse instead of computing on it.
#[test]
fn batches_that_cannot_be_run_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = &folder.path().join("model.gguf");
    let dims = "tiny,layers=1,hidden=32,ffn=32,heads=2,kv_heads=1,head_dim=16,vocab=300,context=8".parse().unwrap();
    write(&Spec { dims, level: "F32".parse().unwrap(), seed: 1, vocabulary: None }, path).unwrap();
    let isa = Isa::select(None).unwrap();
    let model = Qwen3::load(&Gguf::open(path).unwrap(), CpuBackend::new(isa, 1), &[]).unwrap();
    let run = |texts: &[&[u32]]| model.forward(&Batch::new(texts)).map_err(|error| error.to_string());
    assert!(run(&[]).unwrap().is_empty());
    assert!(model.forward(&Batch::default()).unwrap().is_empty());
    assert_eq!(run(&[&[299; 8]]).unwrap().len(), 32);
    assert_eq!(model.forward(&Batch::separate(&[[1], [1]])).unwrap(), run(&[&[1], &[1]]).unwrap());
    for (texts, words) in [
        (&[&[1, 2][..], &[]][..], ["text 2 ", "empty"]),
        (&[&[300]], ["token 300", "ends at 300"]),
        (&[&[1], &[1; 9]], ["text 2 ", "9 tokens, the limit of the model's context is 8"]),
    ] {
        let message = run(texts).unwrap_err();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}
