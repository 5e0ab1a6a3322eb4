//! The built-in model: it is there, and its vectors mean something.
#![cfg(all(feature = "builtin", feature = "cli"))]

mod common;

use common::bits;
use qembed_q::{EmbedOptions, Embedder};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("QEMBED_ISA");
    command.stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn the_first_command_needs_no_file() {
    let output = run(&["Hello, world"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.lines().count() == 1 && said.contains("built-in") && said.contains("--gguf"), "{said}");
    let vectors: Vec<Vec<f32>> = serde_json::from_slice(&output.stdout).unwrap();
    let expected = Embedder::builtin().unwrap().embed(&["Hello, world"], &EmbedOptions::default()).unwrap();
    assert_eq!(vectors, [&expected[0]]);
    assert_eq!(run(&["--verbose", "a"]).status.code(), Some(0));
}

#[test]
fn it_is_the_file_beside_its_card() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
    let (carried, file) =
        (Embedder::builtin().unwrap(), Embedder::open(folder.join("qembed-builtin-q8_0.gguf")).unwrap());
    assert_eq!(carried.file_size(), file.file_size());
    assert!(carried.file_size() <= 12_000_000);
    assert_eq!(carried.warnings().collect::<Vec<_>>(), [""; 0]);
    let texts = ["fn main() {}", "Häuser und Gärten", "重力", "a\nb"];
    let vectors = |embedder: &Embedder| embedder.embed(&texts, &EmbedOptions::default()).unwrap();
    let (carried, file) = (vectors(&carried), vectors(&file));
    assert!(carried.iter().map(bits).eq(file.iter().map(bits)));
}

/// Each pair of paraphrases lies nearer to each other than to any other text, also when vectors are cut.
#[test]
fn paraphrases_are_neighbours() {
    let texts = [
        "list directory contents",
        "show the files of a folder",
        "compress data to save space",
        "reduce the size of data",
        "the weather is cold and wet",
        "it rains and the temperature is low",
        "sort the lines of a text",
        "put the rows into order",
    ];
    let embedder = Embedder::builtin().unwrap();
    for dimensions in [256, 128, 64] {
        let options = EmbedOptions::default().dimensions(dimensions);
        let vectors = embedder.embed(&texts, &options).unwrap();
        let cosine = |a: usize, b: usize| -> f32 { vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum() };
        for a in 0..texts.len() {
            let others = (0..texts.len()).filter(|b| *b != a);
            let nearest = others.max_by(|b, c| cosine(a, *b).total_cmp(&cosine(a, *c))).unwrap();
            assert_eq!(texts[nearest], texts[a ^ 1], "{:?} at {dimensions} dimensions", texts[a]);
        }
    }
}

/// A plain question, and words of the passage that answers it: one of the five that `search` shows.
const QUESTIONS: [(&str, &str); 10] = [
    ("how is the instruction set of the CPU detected?", "nothing makes one but its `detect`"),
    ("why is the tokenizer our own code?", "The tokenizer is our own code"),
    ("why was a thread pool written?", "The thread pool is our own"),
    ("does a vector depend on what else is in the batch?", "independent of its"),
    ("are weights repacked when a model is loaded?", "Weights are never repacked at load"),
    ("why does AMX use bfloat16?", "Why bfloat16"),
    ("how is the softmax of attention computed?", "## Attention"),
    ("how are weights of four bits multiplied with AVX2?", "weights of at most six bits"),
    ("where are the vectors of an earlier search kept?", "in the user's cache folder"),
    ("why do the first layers have activations of 16 bits?", "The first layers (one in 32"),
];

#[test]
fn ten_plain_questions_find_their_passage() {
    let mut missed = Vec::new();
    for (question, words) in QUESTIONS {
        let output = run(&["search", question, "--in", "docs", "--json", "--no-cache"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let hits: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(hits.len(), 5);
        if !hits.iter().any(|hit| hit["text"].as_str().unwrap().contains(words)) {
            missed.push(question);
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
