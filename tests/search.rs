//! `search` and `similarity` from outside, on models with random weights: what they find is what the library's vectors
//! say, whatever was kept of earlier searches.

mod common;

use common::{Parts, SHAPE, model, scratch};
use qembed_q::{EmbedOptions, Embedder, Prompt};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const TEXTS: [&str; 6] = ["one", "zwei 二", "three and more", "{}", "FÜNF", "six"];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    command.args(arguments).env_remove("QEMBED_ISA").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn small() -> String {
    text_of(&model(SHAPE, "F16")).to_owned()
}

/// A folder of one test with a file `texts.jsonl` of [`TEXTS`].
fn corpus(test: &str) -> (PathBuf, PathBuf) {
    let folder = scratch(test);
    let lines: String = TEXTS.iter().map(|text| format!("{}\n", json!({"id": 7, "text": text}))).collect();
    let file = folder.join("texts.jsonl");
    fs::write(&file, lines).unwrap();
    (folder, file)
}

#[track_caller]
fn hits(output: Output) -> Vec<Value> {
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn fails(output: Output, code: i32, words: &[&str]) {
    let said = stderr(&output);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{said}");
    for word in words {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
}

/// Cosines of a query with the texts.
fn cosines(gguf: &str, query: &str, prompt: Prompt) -> Vec<f64> {
    let embedder = Embedder::open(gguf).unwrap();
    let texts = embedder.embed(&TEXTS, &EmbedOptions::default()).unwrap();
    let query = embedder.embed(&[query], &EmbedOptions { prompt, ..EmbedOptions::default() }).unwrap();
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    texts.iter().map(|text| product(text, &query[0])).collect()
}

#[track_caller]
fn assert_ranked(hits: &[Value], cosines: &[f64]) {
    let mut order: Vec<usize> = (0..TEXTS.len()).collect();
    order.sort_by(|a, b| cosines[*b].total_cmp(&cosines[*a]));
    for (hit, i) in hits.iter().zip(order) {
        assert_eq!((&hit["text"], &hit["line"]), (&json!(TEXTS[i]), &json!(i + 1)));
        // One rounding to f32.
        assert!((hit["score"].as_f64().unwrap() - cosines[i]).abs() <= f64::from(f32::EPSILON), "{hit}");
    }
}

#[test]
fn passages_are_ranked_by_cosine() {
    let (_, file) = corpus("ranked");
    let gguf = &small();
    let base = ["search", "what?", "--gguf", gguf, "--in", text_of(&file), "--no-cache", "--json"];
    let found = hits(run(&base));
    assert_eq!(found.len(), 5);
    assert_ranked(&found, &cosines(gguf, "what?", Prompt::Query));
    let found = hits(run(&[&base[..], &["--top", "99", "--instruct", "Find it"]].concat()));
    assert_eq!(found.len(), TEXTS.len());
    assert_ranked(&found, &cosines(gguf, "what?", Prompt::Instruct("Find it".into())));

    // The same for people: no colours in a pipe.
    let output = run(&[&base[..7], &["--top", "2"]].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    let best = found_place(&hits(run(&base))[0]);
    assert!(said.contains(&best) && !said.contains('\x1b'), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("    ")).count(), 2);
}

fn found_place(hit: &Value) -> String {
    format!("{}:{}\n    {}\n", hit["path"].as_str().unwrap(), hit["line"], hit["text"].as_str().unwrap())
}

/// Vectors come from the cache when they are there, from the model when not, and the user cannot tell.
#[test]
fn the_second_search_uses_the_vectors_of_the_first() {
    let (folder, file) = corpus("cache");
    let cache = folder.join("cache");
    let gguf = folder.join("model.gguf");
    let files = || fs::read_dir(&cache).map_or(Vec::new(), |files| files.map(|file| file.unwrap().path()).collect());
    let search = || {
        let paths = ["--gguf", text_of(&gguf), "--in", text_of(&file), "--cache", text_of(&cache)];
        hits(run(&[&["search", "what?", "--json"][..], &paths].concat()))
    };
    fs::copy(small(), &gguf).unwrap();
    let first = search();
    let kept = files();
    assert_eq!(kept.len(), 1);
    let bytes = fs::read(&kept[0]).unwrap();
    // Magic, six keys and vectors, checksum.
    assert_eq!(bytes.len(), 8 + 6 * (32 + 4 * 64) + 32);
    assert_eq!(search(), first);
    assert_eq!(files(), kept);

    // Another model under the same name has vectors of its own…
    fs::write(&gguf, fs::read(model(SHAPE, "Q8_0")).unwrap()).unwrap();
    let other = search();
    assert_ne!(other, first);
    let other_kept: Vec<_> = files().into_iter().filter(|file| !kept.contains(file)).collect();
    assert_eq!(other_kept.len(), 1);
    // …and would show those of the first if they stood in its file: they are used.
    let other_bytes = fs::read(&other_kept[0]).unwrap();
    fs::write(&other_kept[0], &bytes).unwrap();
    assert_ne!(search(), other);
    // Not even size and time need to tell models apart.
    let modified = fs::metadata(&gguf).unwrap().modified().unwrap();
    let mut parts = Parts::of(&gguf);
    parts.tensor("blk.0.attn_k_norm.weight").data[..4].copy_from_slice(&3f32.to_le_bytes());
    let size = fs::metadata(&gguf).unwrap().len();
    parts.write(&gguf);
    fs::File::options().write(true).open(&gguf).unwrap().set_modified(modified).unwrap();
    assert_eq!(fs::metadata(&gguf).unwrap().len(), size);
    let third = search();
    assert!(third != other && files().len() == 3);
    fs::write(&gguf, fs::read(model(SHAPE, "Q8_0")).unwrap()).unwrap();
    fs::File::options().write(true).open(&gguf).unwrap().set_modified(modified).unwrap();

    // What is damaged is made anew.
    fs::write(&other_kept[0], &other_bytes[..other_bytes.len() - 1]).unwrap();
    assert_eq!(search(), other);
    assert_eq!(fs::read(&other_kept[0]).unwrap().len(), other_bytes.len());

    // Only what changed is embedded; what is gone is forgotten.
    fs::write(&file, "{\"text\":\"six\"}\n{\"text\":\"seven\"}\n").unwrap();
    assert_eq!(search().len(), 2);
    assert_eq!(fs::read(&other_kept[0]).unwrap().len(), 8 + 2 * (32 + 4 * 64) + 32);
}

#[cfg(target_os = "linux")]
#[test]
fn vectors_are_kept_in_the_users_cache_folder_unless_forbidden() {
    let (folder, file) = corpus("users_cache");
    let gguf = small();
    let search = |option: &[&str]| {
        let base = ["search", "what?", "--json", "--gguf", &gguf, "--in", text_of(&file)];
        let output = command(&[&base[..], option].concat()).env("XDG_CACHE_HOME", &folder).output().unwrap();
        assert_eq!(hits(output).len(), 5);
    };
    search(&["--no-cache"]);
    assert!(!folder.join("qembed-q").exists());
    search(&[]);
    assert_eq!(fs::read_dir(folder.join("qembed-q/search")).unwrap().count(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let (folder, file) = corpus("no_cache");
    let in_the_way = folder.join("file");
    fs::write(&in_the_way, "").unwrap();
    let paths = ["--gguf", &small(), "--in", text_of(&file), "--cache", text_of(&in_the_way)];
    let output = run(&[&["search", "what?", "--json"][..], &paths].concat());
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).starts_with("qembed-q: warning: cannot keep"), "{}", stderr(&output));
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap().len(), 5);
}

#[test]
fn a_folder_is_its_text_files() {
    let folder = scratch("folder");
    let write = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("b.txt", b"\nlast\n");
    write("a/deep/file", format!("{}\n\nsecond\n", "first ".repeat(40)).as_bytes());
    write("a/ignored.log", b"not this");
    write(".hidden", b"nor this");
    write(".gitignore", b"*.log\n");
    write("image.png", b"\x89PNG\r\n\x1a\n\0\0");
    write("zeros.bin", b"text\0text");
    write("empty.txt", b"");
    let arguments = ["search", "x", "--gguf", &small(), "--in", text_of(&folder), "--no-cache", "--json", "--top", "9"];
    let output = run(&arguments);
    assert!(stderr(&output).contains("passed over 2 files") && output.status.success(), "{}", stderr(&output));
    let hits: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut found: Vec<_> = hits.iter().map(|hit| (hit["path"].as_str().unwrap(), hit["line"].as_u64())).collect();
    found.sort();
    let (deep, b) = (folder.join("a/deep/file"), folder.join("b.txt"));
    assert_eq!(found, [(text_of(&deep), Some(1)), (text_of(&deep), Some(3)), (text_of(&b), Some(2))]);
}

#[test]
fn sources_that_cannot_be_searched() {
    let folder = scratch("bad_sources");
    let gguf = &small();
    let search = |source: &Path| run(&["search", "x", "--gguf", gguf, "--no-cache", "--in", text_of(source)]);
    let file = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    fails(search(&folder.join("none")), 1, &["none", "cannot read"]);
    fails(search(&folder), 1, &["holds no text"]);
    fails(search(&file("blank.txt", b"\n \n")), 1, &["blank.txt", "holds no text"]);
    fails(search(&file("latin1.txt", b"caf\xe9")), 1, &["latin1.txt", "utf-8"]);
    fails(search(&file("a.jsonl", b"{\"text\":\"a\"}\nno\n")), 1, &["a.jsonl, line 2"]);
    fails(search(&file("b.jsonl", b"{\"body\":\"a\"}\n")), 1, &["b.jsonl, line 1", "\"text\"", "--field"]);
    let body = ["search", "x", "--gguf", gguf, "--no-cache", "--field", "body", "--in"];
    assert!(run(&[&body[..], &[text_of(&folder.join("b.jsonl"))]].concat()).status.success());
    fails(run(&["search", "x", "--gguf", gguf]), 2, &["--in"]);
    fails(run(&["search", "x", "--gguf", gguf, "--in", ".", "--top", "0"]), 2, &["--top"]);
    fails(run(&["search", "", "--gguf", gguf, "--no-cache", "--in", text_of(&folder)]), 1, &["empty"]);
}

#[test]
fn similarity_is_a_matrix_of_cosines() {
    let gguf = &small();
    let texts = ["one\nand a half", "two", "one\nand a half"];
    let base = [&["similarity", "--gguf", gguf][..], &texts].concat();
    let output = run(&[&base[..], &["--json"]].concat());
    let matrix: Vec<Vec<f64>> = serde_json::from_slice(&output.stdout).unwrap();
    let vectors = Embedder::open(gguf).unwrap().embed(&texts, &EmbedOptions::default()).unwrap();
    for (a, row) in vectors.iter().zip(&matrix) {
        for (b, cosine) in vectors.iter().zip(row) {
            let expected: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((cosine - expected).abs() <= 2e-7 && *cosine <= 1.0, "{cosine} {expected}");
        }
    }
    assert_eq!(matrix.len() * matrix[0].len(), 9);
    let table = String::from_utf8(run(&base).stdout).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4);
    assert!(rows[1].starts_with("  1  1.000") && rows[1].ends_with(" 1.000  one"), "{table}");
    fails(run(&["similarity", "--gguf", gguf, "one"]), 2, &["TEXT"]);
}
