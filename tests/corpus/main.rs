//! `embed`: rows of files in, a file of vectors out, and nothing lost on the way.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod goes_on;
mod parts;
mod pieces;
mod rows;

use common::{SHAPE, model, scratch};
use qembed_q::Embedder;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A corpus of one test, and where its outputs go.
struct Corpus {
    folder: PathBuf,
}

impl Corpus {
    fn new(test: &str) -> Self {
        Self { folder: scratch(test) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file of so many rows of several lengths; each has an id, a title and a number.
    fn rows(&self, name: &str, count: usize) -> Vec<Value> {
        let row = |i: usize| {
            let text: String = format!("row {i} ").repeat(1 + i * 7 % 9);
            json!({ "id": format!("r{i}"), "title": format!("title {i}"), "text": text.trim(), "n": i })
        };
        let rows: Vec<_> = (0..count).map(row).collect();
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(self.path(name), lines).unwrap();
        rows
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
        command.current_dir(&self.folder).arg("embed").arg("--gguf").arg(model(SHAPE, "F32")).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it, which must succeed.
    fn embed(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs it, which must fail with this code; what it says.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap().replace("\r\n", "\n")
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Names of what lies in the folder.
    fn names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(&self.folder).unwrap().map(name).collect();
        names.sort();
        names
    }
}

fn embedder() -> Embedder {
    Embedder::open(model(SHAPE, "F32")).unwrap()
}

fn floats(vector: &Value) -> Vec<f32> {
    vector.as_array().unwrap().iter().map(|x| x.to_string().parse().unwrap()).collect()
}
