//! What the library's source promises whoever builds on it.

use std::fs;
use std::path::{Path, PathBuf};

/// The library's own files: no tests, no command line.
fn library() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = ["src", "models/src", "kernels/src"].map(|folder| root.join(folder)).to_vec();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().and_then(|name| name.to_str()).unwrap() {
                "cli" | "main.rs" | "tests" | "tests.rs" => {}
                _ if path.is_dir() => folders.push(path),
                _ if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
                _ => {}
            }
        }
    }
    files
}

/// Whether a line of code, up to its comment, has an option of a command line in it, such as `--force`.
fn names_an_option(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("--").any(|(at, _)| code[at + 2..].starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Whoever calls the library has other words for what the command line calls `--allow`.
#[test]
fn no_message_of_the_library_names_an_option() {
    assert!(names_an_option("#[error(\"it exists, use --force\")]") && !names_an_option("a - -b; // as --force"));
    let files = library();
    assert!(files.len() > 50, "{files:?}");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let own = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (i, line) in own.lines().enumerate() {
            assert!(!names_an_option(line), "{}:{}: {line}", path.display(), i + 1);
        }
    }
}
