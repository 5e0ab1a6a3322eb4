//! `qembed-q quantize` as its user runs it.
#![cfg(feature = "cli")]

mod common;

use qembed_q::gguf::Gguf;
use qembed_q::{EmbedOptions, Embedder, Level};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn quantize(input: &Path, output: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    command.arg("quantize").arg(input).arg(output).args(more).output().expect("the program runs")
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(why), "expected {why:?} in: {said}");
}

/// Names of the folder's entries, sorted.
fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn vectors(path: &Path) -> Vec<Vec<f32>> {
    let texts = ["The capital of China is Beijing.", "fn main() { println!(\"{}\", 1); }", "重力是一种力"];
    let embedder = Embedder::open(path).expect("a model");
    let vectors = embedder.embed(&texts, &EmbedOptions::default()).expect("vectors");
    vectors.iter().map(<[f32]>::to_vec).collect()
}

/// Every level: the file opens, says what it is, keeps the other metadata, and its vectors are near those of the input;
/// the nearer, the more bits.
#[test]
fn every_level() {
    let input = common::model("tiny", "F32");
    let folder = tempfile::tempdir().unwrap();
    let expected = vectors(&input);
    let source = Gguf::open(&input).unwrap();
    let mut cosines = Vec::new();
    for level in Level::ALL.iter().copied() {
        let output = folder.path().join(format!("{level}.gguf"));
        let run = quantize(&input, &output, &["--type", level.name()]);
        assert!(run.status.success(), "{level}: {}", String::from_utf8_lossy(&run.stderr));
        assert!(run.stdout.is_empty(), "stdout is for data");
        let gguf = Gguf::open(&output).unwrap();
        assert_eq!(gguf.u32("general.file_type").unwrap(), Some(level.file_type()));
        assert_eq!(gguf.u32("general.quantization_version").unwrap(), Some(2));
        for (key, value) in source.metadata().filter(|(key, _)| *key != "general.file_type") {
            // Arrays name their file.
            let text = |gguf: &Gguf, path: &Path| format!("{:?}", gguf.get(key)).replace(&format!("{path:?}"), "");
            assert!(value.value_type() == gguf.get(key).expect("the key").value_type(), "{level} {key}");
            assert!(text(&gguf, &output) == text(&source, &input), "{level} {key}");
        }
        let planned = qembed_models::plan(&source, level).unwrap();
        for (name, format) in &planned {
            assert_eq!(gguf.require_tensor(name).unwrap().format, *format, "{level} {name}");
        }
        let worst = vectors(&output)
            .iter()
            .zip(&expected)
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>())
            .fold(1.0, f64::min);
        cosines.push((level, worst));
    }
    let of = |name: &str| cosines.iter().find(|(level, _)| level.name() == name).unwrap().1;
    for pair in ["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"].windows(2) {
        assert!(of(pair[0]) < of(pair[1]), "{} {} and {} {}", pair[0], of(pair[0]), pair[1], of(pair[1]));
    }
}

#[test]
fn overrides_choose_by_name() {
    let input = common::model("tiny", "F16");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let run =
        quantize(&input, &output, &["--type", "q4_k_m", "--tensor-type", "attn_v=Q8_0", "--tensor-type", "attn_=F16"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let gguf = Gguf::open(&output).unwrap();
    let format = |name: &str| gguf.require_tensor(name).unwrap().format.name();
    assert_eq!(format("blk.0.attn_v.weight"), "Q8_0", "the first match counts");
    assert_eq!(format("blk.0.attn_q.weight"), "F16");
    assert_eq!(format("blk.0.ffn_up.weight"), "Q4_K");
    assert_eq!(format("blk.0.attn_norm.weight"), "F32", "norms stay, which engines expect");
}

#[test]
fn overrides_that_cannot_be() {
    let input = common::model(common::SHAPE, "F16");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let said = |choice: &str, code: i32| {
        let run = quantize(&input, &output, &["--type", "Q8_0", "--tensor-type", choice]);
        assert_eq!((run.status.code(), entries(folder.path()).len()), (Some(code), 0), "{choice}");
        String::from_utf8(run.stderr).unwrap()
    };
    assert!(said("ffn_up=Q4_K", 1).contains("rows of 64 values, which Q4_K cannot store: its blocks have 256"));
    assert!(said("ffn_up=IQ4_NL", 1).contains("can be read but not written"));
    assert!(said("fnn_up=Q8_0", 2).contains("no tensor has such a name"));
    assert!(said("ffn_up=Q9", 2).contains("unknown format \"Q9\": choose one of"));
    assert!(said("ffn_up", 2).contains("expected REGEX=FORMAT"));
    assert!(said("(=Q8_0", 2).contains("invalid value '(=Q8_0'"));
}

#[test]
fn nothing_is_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    fs::copy(common::model("tiny", "F16"), &input).unwrap();

    fs::write(&output, "mine").unwrap();
    refused(&quantize(&input, &output, &["--type", "Q8_0"]), "--force");
    assert_eq!(fs::read(&output).unwrap(), b"mine");
    assert!(quantize(&input, &output, &["--type", "Q8_0", "--force"]).status.success());
    Gguf::open(&output).expect("replaced");

    refused(&quantize(&input, &input, &["--type", "Q8_0", "--force"]), "is an input");
    refused(&quantize(&input, &folder.path().join("none/out.gguf"), &["--type", "Q8_0"]), "cannot write");
    refused(&quantize(&folder.path().join("none.gguf"), &output, &["--type", "Q8_0", "--force"]), "none.gguf");
    assert_eq!(quantize(&input, &output, &["--type", "Q9"]).status.code(), Some(2));
    assert_eq!(entries(folder.path()), ["in.gguf", "out.gguf"]);
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    let mut bytes = fs::read(common::model("tiny", "F32")).unwrap();
    // The last tensor of the file is a norm, which is copied; the value lies in the middle, in a matrix.
    let at = bytes.len() / 2 / 4 * 4;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&input, bytes).unwrap();
    let run = quantize(&input, &output, &["--type", "Q4_K_M"]);
    refused(&run, "is NaN");
    refused(&run, "blk.");
    assert_eq!(entries(folder.path()), ["in.gguf"], "no part of the output is left");
}

/// A weight that the level has no number for is no infinity: it is named, and so is what holds it.
#[test]
fn weights_that_are_too_large_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    let with = |value: f32| {
        let mut parts = common::Parts::of(&common::model("tiny", "F32"));
        let tensor = parts.tensor("blk.0.ffn_up.weight");
        tensor.data[4 * 777..][..4].copy_from_slice(&value.to_le_bytes());
        parts.write(&input);
    };
    let written = |level: &str| {
        let run = quantize(&input, &output, &["--type", level, "--force"]);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.success(), output.exists(), "{level}: {said}");
        let _ = fs::remove_file(&output);
        run.status.success().then_some(()).ok_or(said)
    };
    for (value, level, fitting) in [
        (1e6, "F16", "BF16, F32 or Q8_0"),
        (-65520.0, "F16", "BF16, F32 or Q8_0"),
        (1e6, "Q4_0", "BF16, F32 or Q8_0"),
        (-1e7, "Q8_0", "BF16 or F32"),
        (1e7, "F16", "BF16 or F32"),
        (1e9, "Q4_K_M", "BF16 or F32"),
        (1e30, "Q6_K", "BF16 or F32"),
        (3.4e38, "BF16", "F32"),
    ] {
        with(value);
        let said = written(level).unwrap_err();
        let expected =
            format!("tensor blk.0.ffn_up.weight: value 777 is {value}, too large for {}; {fitting} can hold it", {
                let input = Gguf::open(&input).unwrap();
                let plan = qembed_models::plan(&input, level.parse().unwrap()).unwrap();
                plan.into_iter().find(|(name, _)| name == "blk.0.ffn_up.weight").unwrap().1
            });
        assert!(said.contains(&expected), "expected {expected:?} in: {said}");
        for level in ["F32", "BF16", "Q8_0"] {
            assert_eq!(written(level).is_ok(), fitting.contains(level), "{value} as {level}");
        }
    }
    with(65519.0);
    for level in Level::ALL {
        written(level.name()).unwrap();
    }
}
