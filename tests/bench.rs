//! `qembed-q bench` as its user runs it, on small models. What it measures of time and memory is not judged here.
#![cfg(feature = "cli")]

mod common;

use common::{Parts, SHAPE_K, model, scratch};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    command.arg("bench").args(arguments).args(["--rounds", "1", "--threads", "2"]);
    if !arguments.contains(&"--tokens") {
        command.args(["--tokens", "16"]);
    }
    command.output().unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], code: i32, why: &str) {
    let output = bench(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && said.contains(why), "expected {why:?} in: {said}");
    assert!(output.stdout.is_empty());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The built-in model is in the program as Q8_0, which is better than all that can be made of it.
#[cfg(feature = "builtin")]
#[test]
fn without_arguments_the_built_in_levels() {
    let output = bench(&["--levels", "F16,Q4_K_M", "--dims", "256", "--format", "json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("made of its Q8_0, which they are held against"), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["reference"], "Q8_0");
    let levels = found["levels"].as_array().unwrap();
    let names: Vec<_> = levels.iter().map(|row| row["level"].as_str().unwrap()).collect();
    assert_eq!(names, ["Q8_0", "F16", "Q4_K_M"]);
    let cosine = |level: usize| levels[level]["quality"][0]["cosine_mean"].as_f64().unwrap();
    assert!((cosine(0) - 1.0).abs() < 1e-9 && cosine(1) > 0.9999 && cosine(2) < 0.9999, "{found}");
}

/// The built-in model's levels come out in their order, in every measure of quality.
#[test]
fn levels_of_the_master_of_the_built_in_model() {
    let master = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin/qembed-builtin-f16.gguf");
    let arguments = ["--levels", "Q2_K,Q4_K_M,Q8_0", "--dims", "256,128", "--format", "json"];
    let found: Value = serde_json::from_str(&succeeds(&[&["--from", text(&master)], &arguments[..]].concat())).unwrap();
    assert_eq!(found["reference"], "F16");
    let levels = found["levels"].as_array().unwrap();
    let names: Vec<_> = levels.iter().map(|row| row["level"].as_str().unwrap()).collect();
    assert_eq!(names, ["F16", "Q2_K", "Q4_K_M", "Q8_0"]);
    let of = |level: usize, dims: usize, key: &str| levels[level]["quality"][dims][key].as_f64().unwrap();
    for key in ["cosine_mean", "cosine_p1", "spearman", "overlap"] {
        assert!((of(0, 0, key) - 1.0).abs() < 1e-9, "{key}: the reference equals itself");
        assert!(of(1, 0, key) < of(2, 0, key) && of(2, 0, key) < of(3, 0, key) && of(3, 0, key) < 1.0, "{key}");
    }
    assert!(
        of(0, 1, "spearman") < 0.99 && (of(0, 1, "cosine_mean") - 1.0).abs() < 1e-9,
        "a cut costs, but not the same text"
    );
    // 211 passages: at random 0.05.
    assert!(of(3, 0, "recall") > 0.5 && of(3, 0, "recall") <= 1.0 && of(3, 0, "ndcg") < of(3, 0, "recall"));
    assert!(levels[1]["bytes"].as_u64() < levels[2]["bytes"].as_u64());
    for row in levels {
        assert!(row["resident"].as_u64().unwrap() > row["bytes"].as_u64().unwrap() / 2, "{row}");
        assert!(row["speeds"][0]["tokens_per_second"].as_f64().unwrap() > 0.0);
    }
    assert!(found["recommendation"].as_str().unwrap().starts_with("On this machine: "));
}

/// Files, lines of a text file, every form of output, and the page.
#[test]
fn files_forms_and_report() {
    let folder = scratch("forms");
    let lines = folder.join("lines.txt");
    std::fs::write(&lines, "one\ntwo words\n\nthree more words\nfour\n").unwrap();
    let page = folder.join("out.html");
    let (a, b) = (folder.join("small.gguf"), folder.join("large.gguf"));
    std::fs::copy(model(SHAPE_K, "Q4_0"), &a).unwrap();
    std::fs::copy(model(SHAPE_K, "F16"), &b).unwrap();
    let all =
        |form| succeeds(&[text(&a), text(&b), "--texts", text(&lines), "--format", form, "--report", text(&page)]);

    let table = all("table");
    assert!(
        table.contains("0 queries and 4 passages") && table.contains("On this machine:") && !table.contains("nDCG"),
        "{table}"
    );
    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!(html.matches("<svg").count(), 3);
    assert_eq!(html.matches("<table").count(), 2);
    assert!(!html.contains("src=") && !html.contains("@import") && !html.contains("url("), "nothing is fetched");
    assert!(all("md").contains("|---"));
    let csv = all("csv");
    // Two levels at 256, 128 and 64 dimensions, and the head.
    assert_eq!(csv.lines().count(), 7, "{csv}");
    let commas = csv.lines().next().unwrap().matches(',').count();
    assert!(csv.lines().all(|line| line.matches(',').count() == commas));
    let rows: Vec<Value> = all("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    let reference = rows.iter().max_by_key(|row| row["bytes"].as_u64()).unwrap();
    assert!(
        (reference["quality"][0]["cosine_worst"].as_f64().unwrap() - 1.0).abs() < 1e-9,
        "the largest is the reference"
    );
}

#[test]
fn made_from_a_file() {
    let from = model(SHAPE_K, "F16");
    let csv = succeeds(&["--from", text(&from), "--levels", "Q6_K", "--dims", "256", "--format", "csv"]);
    let levels: Vec<_> = csv.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(levels, ["F16", "Q6_K"]);
}

/// The check that a timer runs.
#[test]
fn a_loss_against_a_baseline_is_a_failure() {
    let folder = scratch("baseline");
    let from = model(SHAPE_K, "F16");
    let arguments = ["--from", text(&from), "--levels", "Q4_0", "--dims", "256", "--format", "json"];
    let mut stored: Value = serde_json::from_str(&succeeds(&arguments)).unwrap();
    let path = folder.join("baseline.json");
    let check = |stored: &Value, more: &[&str]| {
        std::fs::write(&path, stored.to_string()).unwrap();
        bench(&[&arguments[..], &["--baseline", text(&path)], more].concat())
    };
    assert!(check(&stored, &["--max-loss", "0"]).status.success(), "vectors are the same, so quality is");
    let mean = &mut stored["levels"][1]["quality"][0]["cosine_mean"];
    let was = mean.as_f64().unwrap() + 0.02;
    *mean = was.into();
    let output = check(&stored, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("Q4_0 at 256 dimensions: mean cosine"), "{said}");
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok(), "what was found is written all the same");
    assert!(check(&stored, &["--max-loss", "0.03"]).status.success());
    refused(&[&arguments[..], &["--baseline", text(&from)]].concat(), 1, "is not what `bench --format json` writes");
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = scratch("refused");
    let file = model(SHAPE_K, "Q4_0");
    refused(&[text(&file), "--dims", "1000"], 2, "this model's vectors have 256");
    refused(&[text(&file), "--reference", "other.gguf"], 2, "none of the files");
    refused(&[text(&file), "--eval", text(&folder)], 1, "corpus.jsonl");
    refused(&["none.gguf"], 1, "none.gguf");
    // The context is 2500 tokens.
    let output = bench(&[text(&file), "--tokens", "3000", "--format", "csv"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("texts of 3000 tokens are longer"), "{said}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("3000"));
    refused(&[text(&file), text(&model(common::SHAPE, "F16"))], 1, "compare levels of one model");
    refused(&["--gguf", text(&file)], 2, "without --gguf");
    refused(&[text(&file), "--report", text(&folder.join("no/such.html"))], 1, "such.html");
    let other = folder.join("tokenizer.json");
    std::fs::write(&other, r#"{"model":{"type":"WordPiece"}}"#).unwrap();
    refused(&[text(&file), "--tokenizer", text(&other)], 1, "tokenizer.json");
}

#[test]
fn what_is_not_understood_has_to_be_allowed() {
    let path = scratch("allowed").join("model.gguf");
    let mut parts = Parts::of(&model(SHAPE_K, "Q4_0"));
    parts.metadata.set("qwen3.attention.causal", false);
    parts.write(&path);
    refused(&[text(&path)], 1, "qwen3.attention.causal is false");
    succeeds(&[text(&path), "--allow", "qwen3.attention.causal"]);
}
