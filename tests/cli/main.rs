//! The command from outside: its output, its exit codes and what it says about every kind of bad input.
//!
//! Exit codes: 0 done, 1 the work failed, 2 the command line is wrong. On failure standard output stays empty, or holds
//! whole what was computed before.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod device;
mod model_files;
mod nothing_lost;
mod outputs;
mod places;
mod usage;

use common::{SHAPE, SHAPE_K, bits, model, scratch};
use qembed_kernels::formats::Format;
use qembed_q::{EmbedOptions, Embedder, Empty, Isa, LoadOptions, Prompt};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    command.args(arguments).env_remove("QEMBED_ISA").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that fails before it reads closes the pipe.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// The output of a command that must succeed and have nothing to say.
#[track_caller]
fn succeeds(output: Output) -> Vec<u8> {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    output.stdout
}

/// A failure: the exit code, no data, and a message that holds all `words` and no sign of a panic.
#[track_caller]
fn fails(output: Output, code: i32, words: &[&str]) {
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "data on standard output of a failure");
    for word in words {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
    if code == 1 {
        assert!(said.starts_with("qembed-q: ") && said.ends_with('\n') && said.lines().count() == 1, "{said:?}");
    }
}

fn small() -> String {
    model(SHAPE, "F16").to_str().unwrap().to_owned()
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn embedder() -> Embedder {
    Embedder::open(small()).unwrap()
}

fn expected(texts: &[&str]) -> Vec<Vec<u32>> {
    embedder().embed(texts, &EmbedOptions::default()).unwrap().iter().map(bits).collect()
}

/// Vectors out of JSON, each number read as the nearest f32.
fn json_vector(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|x| (x.to_string().parse::<f32>().unwrap()).to_bits()).collect()
}

fn json(output: &[u8]) -> Vec<Vec<u32>> {
    let value: serde_json::Value = serde_json::from_slice(output).unwrap();
    value.as_array().unwrap().iter().map(json_vector).collect()
}

fn raw(output: &[u8]) -> Vec<u32> {
    assert!(output.len().is_multiple_of(4));
    output.chunks_exact(4).map(|x| u32::from_le_bytes(x.try_into().unwrap())).collect()
}
