//! `qembed-q verify` and `qembed-q inspect`: what they say of whole files and of damaged ones.
#![cfg(feature = "cli")]

mod common;

use common::{Parts, SHAPE, model, scratch};
use qembed_models::gguf::Gguf;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(arguments).output().unwrap()
}

/// Exit code and lines of `verify`.
fn verify(path: &Path) -> (Option<i32>, String) {
    let output = run(&["verify", "--gguf", path.to_str().unwrap()]);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// A model with a fault; the check that must find it; words of its line.
#[track_caller]
fn finds(name: &str, plant: impl FnOnce(&mut Parts), check: &str, words: &str) {
    let path = scratch(name).join("damaged.gguf");
    let mut parts = Parts::of(&model(SHAPE, "F32"));
    plant(&mut parts);
    parts.write(&path);
    let (code, lines) = verify(&path);
    assert_eq!(code, Some(1), "{lines}");
    let fails: Vec<_> = lines.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(fails.iter().any(|line| line.contains(check) && line.contains(words)), "{lines}");
}

#[test]
fn whole_files_pass() {
    for level in ["F32", "Q8_0", "Q4_0"] {
        let (code, lines) = verify(&model(SHAPE, level));
        assert_eq!(code, Some(0), "{lines}");
        assert!(
            lines.contains("pass  weights") && lines.contains("pass  tensors") && !lines.contains("FAIL"),
            "{lines}"
        );
        assert!(lines.contains(&format!("{level}, as llama.cpp mixes it")), "{lines}");
    }
}

#[test]
fn damage_is_found() {
    finds(
        "nan",
        |m| m.tensor("blk.1.ffn_up.weight").data[400..404].copy_from_slice(&f32::NAN.to_le_bytes()),
        "weights",
        "blk.1.ffn_up.weight: 1 values",
    );
    finds(
        "missing",
        |m| m.tensors.retain(|t| t.name != "blk.1.attn_k_norm.weight"),
        "tensors",
        "attn_k_norm.weight is missing",
    );
    finds(
        "extra",
        |m| m.tensor("output_norm.weight").name = "output_norm.bias".into(),
        "understood",
        "output_norm.bias [64]: Qwen3 models have no biases",
    );
    finds("shape", |m| m.tensor("blk.0.attn_q.weight").shape.reverse(), "tensors", "blk.0.attn_q.weight is");
    finds("pooling", |m| _ = m.metadata.set("qwen3.pooling_type", 1u32), "understood", "pooling_type is 1");
    finds("architecture", |m| _ = m.metadata.set("general.architecture", "bert"), "metadata", "bert");
    finds("layers", |m| _ = m.metadata.set("qwen3.block_count", u32::MAX), "metadata", "so many layers");
    finds("rope", |m| _ = m.metadata.set("qwen3.rope.freq_base", 0f32), "metadata", "rope.freq_base");
    finds("pre", |m| _ = m.metadata.set("tokenizer.ggml.pre", "llama-bpe"), "tokenizer", "llama-bpe");
    finds("end", |m| _ = m.metadata.set("tokenizer.ggml.add_eos_token", false), "tokenizer", "no token ends a text");
}

/// A level's formats in another mix are told, and are no fault.
#[test]
fn another_mix_is_no_fault() {
    let path = scratch("mix").join("mix.gguf");
    let mut parts = Parts::of(&model(SHAPE, "Q8_0"));
    parts.metadata.set("general.file_type", 2u32);
    parts.write(&path);
    let (code, lines) = verify(&path);
    assert!(code == Some(0) && lines.contains("Q4_0 with a mix of its own"), "{lines}");
    assert!(!lines.contains("as llama.cpp mixes it"), "{lines}");
}

#[test]
fn files_that_are_none() {
    let folder = scratch("none");
    let path = folder.join("cut.gguf");
    let whole = std::fs::read(model(SHAPE, "Q8_0")).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let (code, lines) = verify(&path);
    assert_eq!(code, Some(1));
    assert!(lines.starts_with("FAIL  header"), "{lines}");
    assert_eq!(run(&["verify"]).status.code(), Some(2), "no file is named");
}

#[test]
fn inspect_shows_what_the_file_has() {
    let path = model(SHAPE, "Q8_0");
    let gguf = Gguf::open(&path).unwrap();
    let output = run(&["inspect", path.to_str().unwrap(), "--json"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["bytes"].as_u64(), Some(gguf.file_size()));
    assert_eq!(json["metadata"]["qwen3.block_count"], 2);
    assert_eq!(json["metadata"]["tokenizer.ggml.tokens"]["length"], 300);
    for (info, shown) in gguf.tensors().zip(json["tensors"].as_array().unwrap()) {
        assert_eq!(shown["name"], info.name);
        assert_eq!(shown["type"], info.format.unwrap().name());
        assert_eq!(shown["bytes"].as_u64(), info.bytes().map(|bytes| bytes as u64));
        assert_eq!(
            shown["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect::<Vec<_>>(),
            info.shape[..]
        );
    }
    assert_eq!(json["tensors"].as_array().unwrap().len(), gguf.tensors().len());

    let output = run(&["inspect", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    for words in ["general.architecture", "qwen3.rope.freq_base", "blk.1.ffn_down.weight", "Q8_0"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(run(&["inspect", "none.gguf"]).status.code(), Some(1));
}
