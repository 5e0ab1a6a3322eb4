//! Whatever goes wrong in the middle of a run, what was computed before is written, whole in every format.

use super::common::Parts;
use super::*;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

const FORMATS: [&str; 4] = ["json", "jsonl", "raw", "npy"];
const DIMENSIONS: usize = 64;

/// With a regular file as standard input, which can be looked through beforehand.
fn run_on_file(arguments: &[&str], input: &[u8]) -> Output {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    file.rewind().unwrap();
    command(arguments).stdin(file).output().unwrap()
}

/// The vectors of an output that is whole, with the indices of their texts.
#[track_caller]
fn indexed(format: &str, out: &[u8]) -> Vec<(usize, Vec<u32>)> {
    match format {
        "json" => json(out).into_iter().enumerate().collect(),
        "jsonl" => {
            assert!(out.is_empty() || out.ends_with(b"}\n"));
            let objects = std::str::from_utf8(out).unwrap().lines().map(|line| {
                let object: serde_json::Value = serde_json::from_str(line).unwrap();
                (object["index"].as_u64().unwrap() as usize, json_vector(&object["embedding"]))
            });
            objects.collect()
        }
        "raw" => raw(out).chunks(DIMENSIONS).map(<[u32]>::to_vec).enumerate().collect(),
        "npy" => {
            let (header, data) = out.split_at(128);
            let count = data.len() / (4 * DIMENSIONS);
            let shape = format!("'shape': ({count}, {DIMENSIONS}), }}");
            assert!(String::from_utf8_lossy(header).contains(&shape), "{count} rows: {header:?}");
            indexed("raw", data)
        }
        _ => unreachable!(),
    }
}

#[track_caller]
fn vectors(format: &str, out: &[u8]) -> Vec<Vec<u32>> {
    let (indices, vectors): (Vec<_>, Vec<_>) = indexed(format, out).into_iter().unzip();
    assert!(indices.iter().copied().eq(0..indices.len()), "{indices:?}");
    vectors
}

/// A failure after the texts `before`: their vectors are written, and then it is told, on one line.
#[track_caller]
fn fails_after(run: impl Fn(&[&str]) -> Output, arguments: &[&str], before: &[&str], words: &[&str]) {
    for format in FORMATS {
        let output = run(&[&["--format", format][..], arguments].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{format}: {said}");
        assert!(said.starts_with("qembed-q: ") && said.lines().count() == 1, "{said:?}");
        for word in words {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
        if before.is_empty() {
            assert!(output.stdout.is_empty(), "{format}");
        } else {
            assert!(said.contains(&format!("{} texts before are written", before.len())), "{said:?}");
            assert_eq!(vectors(format, &output.stdout), expected(before), "{format}");
        }
    }
}

#[test]
fn blank_lines_at_the_end_are_no_texts() {
    let gguf = &small();
    for input in ["one\nzwei 二\n\n", "one\r\nzwei 二\r\n\r\n", "one\nzwei 二\n\n\r\n\n\n", "one\nzwei 二\n\r"] {
        for run in [run_with_input, run_on_file] {
            for empty in ["error", "end-token"] {
                let out = succeeds(run(&["--gguf", gguf, "--empty", empty], input.as_bytes()));
                assert_eq!(json(&out), expected(&["one", "zwei 二"]), "{input:?}");
            }
        }
        let out = succeeds(run_with_input(&["--gguf", gguf, "-", "three"], input.as_bytes()));
        assert_eq!(json(&out), expected(&["one", "zwei 二", "three"]), "{input:?}");
    }
    // Blanks are a text.
    let out = succeeds(run_with_input(&["--gguf", gguf], b"one\n \n\t\n"));
    assert_eq!(json(&out), expected(&["one", " ", "\t"]));
}

/// Where the input can be looked through, before any work; else when all before it is done.
#[test]
fn a_blank_line_elsewhere_is_an_error() {
    let arguments = ["--gguf", &small()];
    let words = ["line 3 of standard input is empty", "--empty"];
    let input = b"one\ntwo\n\r\nthree\n";
    fails_after(|arguments| run_on_file(arguments, input), &arguments, &[], &words);
    fails_after(|arguments| run_with_input(arguments, input), &arguments, &["one", "two"], &words);
    let behind = [&arguments[..], &["zero", "-"]].concat();
    fails_after(|arguments| run_with_input(arguments, input), &behind, &["zero", "one", "two"], &words);
    fails_after(|arguments| run_on_file(arguments, b"\n\none\n"), &arguments, &[], &["line 1 of"]);
    let arguments = [&arguments[..], &["one", "", "two"]].concat();
    fails_after(run, &arguments, &[], &["text 2 is empty", "--empty"]);
}

#[test]
fn empty_texts_get_the_vector_of_the_end_token_or_none() {
    let gguf = &small();
    let end_token = EmbedOptions::default().empty(Empty::EndToken);
    let with_empty: Vec<_> =
        embedder().embed(&["", "one", "", "", "two"], &end_token).unwrap().iter().map(bits).collect();
    let input = b"\none\n\r\n\ntwo\n\n";
    for run in [run_with_input, run_on_file] {
        for format in FORMATS {
            let run = |empty| run(&["--gguf", gguf, "--format", format, "--empty", empty], input);
            assert_eq!(vectors(format, &succeeds(run("end-token"))), with_empty, "{format}");
            if format == "jsonl" {
                let found = indexed(format, &succeeds(run("skip")));
                assert_eq!(found, [(1, with_empty[1].clone()), (4, with_empty[4].clone())]);
            } else {
                fails(run("skip"), 2, &["--empty skip", "jsonl"]);
            }
        }
    }
    let arguments = ["--gguf", gguf, "--format", "jsonl", "", "one", "", "", "two"];
    let run = |empty| indexed("jsonl", &succeeds(run(&[&arguments[..], &["--empty", empty]].concat())));
    assert_eq!(run("end-token"), with_empty.iter().cloned().enumerate().collect::<Vec<_>>());
    assert_eq!(run("skip"), [(1, with_empty[1].clone()), (4, with_empty[4].clone())]);
    // An input of nothing else is none.
    for input in [&b""[..], b"\n", b"\r\n\n", b"\xef\xbb\xbf\n"] {
        for empty in ["error", "end-token"] {
            let output = run_with_input(&["--gguf", gguf, "--empty", empty], input);
            fails(output, 1, &["standard input is empty"]);
        }
    }
}

/// More than are looked at together, so that some were given already and some were only read.
#[test]
fn what_was_read_before_a_text_that_cannot_be_embedded_is_written() {
    let before: Vec<String> = (0..5000).map(|i| format!("{}", i % 97)).collect();
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let long = "x".repeat(400);
    for (bad, words) in [
        (&b"ab\xff"[..], &["standard input: line 5001", "UTF-8", "byte 3"][..]),
        (long.as_bytes(), &["text 5001", "401 tokens", "limit is 400"]),
    ] {
        let input = [before.join("\n").as_bytes(), b"\n", bad, b"\nlast\n"].concat();
        fails_after(|arguments| run_on_file(arguments, &input), &["--gguf", &small()], &[], words);
        fails_after(|arguments| run_with_input(arguments, &input), &["--gguf", &small()], &before, words);
    }
    fails_after(run, &["--gguf", &small(), "one", &long], &[], &["text 2", "401 tokens"]);
}

/// A model for which texts with a `!` have no vector.
fn breakable(test: &str) -> PathBuf {
    let path = scratch(test).join("model.gguf");
    let mut parts = Parts::of(Path::new(&small()));
    let embeddings = parts.tensor("token_embd.weight");
    let row = embeddings.data.len() / 300 * usize::from(b'!');
    embeddings.data[row..row + 2].copy_from_slice(&0x7e00u16.to_le_bytes()); // NaN
    parts.write(&path);
    path
}

/// Which nobody can see beforehand.
#[test]
fn what_stands_before_a_vector_that_is_not_finite_is_written() {
    let path = breakable("not_finite");
    let before: Vec<String> = (0..300).map(|i| format!("{}", i * 7919 % 1000)).collect();
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    // In the order in which passes are made, others stand before it and after it.
    let texts = [&before[..], &["!", "0", "5!", "zzz"]].concat();
    let input = texts.join("\n");
    let arguments = ["--gguf", text_of(&path)];
    let words = ["text 301", "not finite"];
    fails_after(|arguments| run_with_input(arguments, input.as_bytes()), &arguments, &before, &words);
    fails_after(|arguments| run_on_file(arguments, input.as_bytes()), &arguments, &before, &words);
    fails_after(run, &[&arguments[..], &texts].concat(), &before, &words);
}

/// A file is written where standard output stands, and appended to where that is asked for.
#[test]
fn npy_in_files() {
    let folder = scratch("npy");
    let path = folder.join("out.npy");
    let run = |out: File| {
        let arguments = ["--gguf", &small(), "--format", "npy", "one", "two"];
        let output = command(&arguments).stdout(out).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    };
    let expected = expected(&["one", "two"]);
    run(File::create(&path).unwrap());
    let once = fs::read(&path).unwrap();
    assert_eq!(vectors("npy", &once), expected);

    for append in [true, false] {
        fs::write(&path, "before").unwrap();
        let mut file = File::options().read(true).append(append).write(true).open(&path).unwrap();
        if !append {
            file.seek(SeekFrom::End(0)).unwrap();
        }
        run(file.try_clone().unwrap());
        run(file.try_clone().unwrap());
        file.write_all(b"after").unwrap();
        file.rewind().unwrap();
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert_eq!(found, [b"before", &once[..], &once, b"after"].concat(), "append: {append}");
    }
    // In a pipe the number stands in front as well.
    assert_eq!(succeeds(super::run(&["--gguf", &small(), "--format", "npy", "one", "two"])), once);
}

#[cfg(unix)]
#[test]
fn npy_waits_where_there_is_room_for_it() {
    let output = command(&["--gguf", &small(), "--format", "npy", "one"]).env("TMPDIR", "/no/such").output().unwrap();
    fails(output, 1, &["cannot write the output", "/no/such", "TMPDIR"]);
    let folder = scratch("spool");
    let output = command(&["--gguf", &small(), "--format", "npy", "one"]).env("TMPDIR", &folder).output().unwrap();
    assert_eq!(vectors("npy", &succeeds(output)), expected(&["one"]));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

/// As where the disk is full: whole vectors are in the file, and its header counts them.
#[cfg(unix)]
#[test]
fn a_file_that_can_grow_no_more_is_whole() {
    let path = scratch("full").join("out");
    let input = (0..20_000).map(|i| format!("{i}\n")).collect::<String>();
    for (format, head) in [("npy", 128), ("raw", 0)] {
        // 512-byte blocks: two, and some rows.
        let script = "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\"";
        let mut child = Command::new("sh");
        child.args(["-c", script, env!("CARGO_BIN_EXE_qembed-q"), "--gguf", &small(), "--format", format]);
        let mut stdin = tempfile::tempfile().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        stdin.rewind().unwrap();
        let output = child.stdin(stdin).stdout(File::create(&path).unwrap()).output().unwrap();
        let said = stderr(&output);
        assert!(output.status.code() == Some(1) && said.contains("cannot write the output"), "{format}: {said}");
        let mut out = fs::read(&path).unwrap();
        let rows = (out.len() - head) / (4 * DIMENSIONS);
        out.truncate(head + rows * 4 * DIMENSIONS);
        assert!(rows > 10 && vectors(format, &out).len() == rows, "{format}: {rows}");
    }
}
