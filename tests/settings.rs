//! Where options come from besides the command line, and what shells and manuals want to know of it.
#![cfg(feature = "cli")]

mod common;

use common::{SHAPE, model, scratch};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(folder: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    // No file of the user's is read.
    command.env("HOME", folder).env("XDG_CONFIG_HOME", folder.join("config")).env("APPDATA", folder.join("config"));
    command.current_dir(folder).stdin(Stdio::null()).args(arguments).envs(environment.iter().copied());
    command.output().unwrap()
}

#[track_caller]
fn dimensions(output: &Output) -> usize {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let vectors: Vec<Vec<f32>> = serde_json::from_slice(&output.stdout).unwrap();
    vectors[0].len()
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains(why), "expected {why:?} in: {said}");
}

#[test]
fn the_command_line_counts_most_then_the_environment_then_files() {
    let folder = scratch("order");
    let gguf = model(SHAPE, "F32");
    let gguf = gguf.to_str().unwrap();
    let file = folder.join("qembed-q.toml");
    assert_eq!(dimensions(&run(&folder, &[("QEMBED_GGUF", gguf)], &["a"])), 64);
    assert_eq!(dimensions(&run(&folder, &[("QEMBED_GGUF", gguf), ("QEMBED_DIM", "40")], &["a"])), 40);
    fs::write(&file, format!("gguf = {gguf:?}\ndim = 48\nempty = \"end-token\"\n")).unwrap();
    assert_eq!(dimensions(&run(&folder, &[], &["a"])), 48);
    assert_eq!(dimensions(&run(&folder, &[], &[""])), 48, "empty, too");
    assert_eq!(dimensions(&run(&folder, &[("QEMBED_DIM", "40")], &["a"])), 40);
    assert_eq!(dimensions(&run(&folder, &[("QEMBED_DIM", "40")], &["--dim", "32", "a"])), 32);

    // The user's own is behind that of the folder.
    #[cfg(target_os = "linux")]
    {
        fs::create_dir_all(folder.join("config/qembed-q")).unwrap();
        fs::write(folder.join("config/qembed-q/qembed-q.toml"), "dim = 56\nquery = true\n").unwrap();
        assert_eq!(dimensions(&run(&folder, &[], &["a"])), 48);
        fs::write(&file, format!("gguf = {gguf:?}\n")).unwrap();
        let output = run(&folder, &[], &["a"]);
        assert_eq!(dimensions(&output), 56);
        let query = run(&folder, &[("QEMBED_CONFIG", file.to_str().unwrap())], &["--query", "--dim", "56", "a"]);
        assert_eq!(output.stdout, query.stdout, "a flag is set by true");
    }
}

#[test]
fn a_table_is_of_its_command_alone() {
    let folder = scratch("tables");
    let gguf = model(SHAPE, "F32");
    fs::write(folder.join("qembed-q.toml"), format!("gguf = {gguf:?}\n[similarity]\ndim = 32\njson = true\n")).unwrap();
    assert_eq!(dimensions(&run(&folder, &[], &["a"])), 64);
    let output = run(&folder, &[], &["similarity", "a", "b"]);
    let matrix: Vec<Vec<f32>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(matrix.len(), 2);
    // A value that may be given again is a list.
    fs::write(folder.join("in.txt"), "a\nb\n").unwrap();
    fs::write(
        folder.join("qembed-q.toml"),
        format!("gguf = {gguf:?}\n[embed]\ninput = [\"in.txt\"]\noutput = \"out.npy\"\n"),
    )
    .unwrap();
    let output = run(&folder, &[], &["embed"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(folder.join("out.npy")).unwrap().len(), 128 + 2 * 64 * 4);
}

#[test]
fn what_a_file_sets_must_be_there() {
    let folder = scratch("wrong");
    let with = |text: &str| {
        fs::write(folder.join("qembed-q.toml"), text).unwrap();
        run(&folder, &[], &["info"])
    };
    refused(&with("dimm = 3"), "qembed-q.toml: there is no option \"dimm\"");
    refused(&with("[serv]\nport = 3"), "there is no command \"serv\"");
    refused(&with("[info]\ndimm = 3"), "the command \"info\" has no option \"dimm\"");
    refused(&with("gguf = "), "qembed-q.toml: ");
    refused(&with("query = 3"), "query is set by true or false, not by 3");
    refused(&with("dim = [1, 2]"), "dim has one value");
    refused(&with("dim = 1979-05-27"), "dim: write it as a text");
    refused(&run(&folder, &[("QEMBED_CONFIG", "nowhere.toml")], &["info"]), "nowhere.toml");
    fs::remove_file(folder.join("qembed-q.toml")).unwrap();
    refused(&run(&folder, &[("QEMBED_DIM", "many")], &["a"]), "invalid value 'many' for '--dim <N>'");
}

#[test]
fn shells_and_manuals() {
    let folder = scratch("shells");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&folder, &[], &["completions", shell]).stdout;
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("quantize") && script.contains("memory-budget"), "{shell}");
    }
    let page = String::from_utf8(run(&folder, &[], &["man"]).stdout).unwrap();
    assert!(page.starts_with(".ie") && page.contains(".TH qembed") && page.contains("search"), "{page}");
    fs::create_dir(folder.join("man")).unwrap();
    assert!(run(&folder, &[], &["man", "--into", "man"]).status.success());
    assert!(folder.join("man/qembed-q-embed.1").is_file());
    let said = run(&folder, &[], &["man", "--into", "nowhere"]);
    assert!(said.status.code() == Some(1) && String::from_utf8_lossy(&said.stderr).contains("nowhere"));
}

#[test]
fn tokens_and_back() {
    let folder = scratch("tokens");
    let gguf = model(SHAPE, "F32");
    let with = |arguments: &[&str]| {
        let output = run(&folder, &[("QEMBED_GGUF", gguf.to_str().unwrap())], arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let ids = with(&["tokenize", "a text", "ü"]);
    let lines: Vec<&str> = ids.lines().collect();
    assert_eq!((lines.len(), lines[0].split(' ').count(), lines[1].split(' ').count()), (2, 6, 2));
    assert_eq!(with(&["tokenize", "--count", "a text", ""]), "6\n0\n");
    let object: Value = serde_json::from_str(&with(&["tokenize", "--json", "ab"])).unwrap();
    assert_eq!(object["bytes"], serde_json::json!([[0, 1], [1, 2]]));
    let back: Vec<&str> = ["detokenize"].into_iter().chain(lines[0].split(' ')).collect();
    assert_eq!(with(&back), "a text\n");
    let output = run(&folder, &[("QEMBED_GGUF", gguf.to_str().unwrap())], &["detokenize", "999"]);
    assert!(output.status.code() == Some(1) && String::from_utf8_lossy(&output.stderr).contains("999"));
}

#[test]
fn what_is_said_can_be_json() {
    let folder = scratch("json");
    let gguf = model(SHAPE, "F32");
    let output = run(&folder, &[], &["--gguf", gguf.to_str().unwrap(), "--log-json", "--verbose", "a"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let objects: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.len() >= 2 && objects.iter().all(|object| object["time"].as_f64() > Some(1.7e9)), "{said}");
    let failed = run(&folder, &[], &["embed", "--log-json", "--input", "none.txt", "--output", "x.npy"]);
    let said: Value = serde_json::from_slice(failed.stderr.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert!(failed.status.code() == Some(1) && said["message"].as_str().unwrap().contains("none.txt"), "{said}");
}
