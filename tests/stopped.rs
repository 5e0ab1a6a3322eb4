//! `embed` and `search` that are stopped by a signal keep what they have computed.
#![cfg(feature = "cli")]
#![cfg(unix)]

mod common;

use common::{PATIENCE, SHAPE_K, model, scratch, stopped_by};
use qembed_q::{EmbedOptions, Embedder};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A long run of `embed` whose texts come from `stdin`, when it has written the first vectors to `out`.
fn embedding(format: &str, stdin: Stdio, out: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    command.arg("--gguf").arg(model(SHAPE_K, "F16")).args(["--threads", "1", "--format", format]);
    let mut child = command.stdin(stdin).stdout(File::create(out).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut child, || match format {
        // Its header comes first, and counts none.
        "npy" => rows(&fs::read(out).unwrap()) > 0,
        _ => fs::metadata(out).unwrap().len() > 0,
    });
    child
}

/// The rows that a file's header counts.
fn rows(npy: &[u8]) -> usize {
    let Some(header) = npy.get(..128) else { return 0 };
    let header = String::from_utf8_lossy(header);
    header.split("'shape': (").nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
}

fn wait_until(child: &mut Child, happened: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE, "it never happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Far more than are computed here.
fn line(i: usize) -> String {
    format!("{i} {}", "x".repeat(i % 40))
}

/// The vectors in an output that is whole, or, where it was `cut` off, in the part that is.
fn vectors(format: &str, mut out: &[u8], cut: bool) -> Vec<Vec<f32>> {
    const BYTES: usize = 4 * 256;
    let floats = |row: &[u8]| row.chunks(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
    let numbers = |value: serde_json::Value| serde_json::from_value::<Vec<f32>>(value).unwrap();
    match format {
        "json" => serde_json::from_slice(out).unwrap(),
        "jsonl" => {
            let end = out.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
            assert!(cut || end == out.len());
            let lines = std::str::from_utf8(&out[..end]).unwrap().lines();
            let objects = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            objects.map(|mut object| numbers(object["embedding"].take())).collect()
        }
        "npy" => {
            let count = rows(out);
            out = &out[128..];
            assert!(
                count > 0 && (if cut { count * BYTES <= out.len() } else { count * BYTES == out.len() }),
                "{count}"
            );
            out[..count * BYTES].chunks(BYTES).map(floats).collect()
        }
        _ => {
            assert!(cut || out.len().is_multiple_of(BYTES));
            out.chunks_exact(BYTES).map(floats).collect()
        }
    }
}

#[track_caller]
fn assert_first(vectors: &[Vec<f32>]) {
    let texts: Vec<String> = (0..vectors.len()).map(line).collect();
    let expected = Embedder::open(model(SHAPE_K, "F16")).unwrap().embed(&texts, &EmbedOptions::default()).unwrap();
    assert!(!vectors.is_empty() && vectors.iter().zip(expected.iter()).all(|(a, b)| a == b));
}

#[test]
fn a_stopped_embed_has_written_what_it_computed() {
    let folder = scratch("embed");
    let (input, out) = (folder.join("lines"), folder.join("out"));
    fs::write(&input, (0..1_000_000).map(|i| line(i) + "\n").collect::<String>()).unwrap();
    for format in ["json", "jsonl", "raw", "npy"] {
        for signal in ["INT", "TERM", "KILL"] {
            if (format, signal) == ("json", "KILL") {
                continue; // nobody can close the array
            }
            let status = stopped_by(signal, embedding(format, File::open(&input).unwrap().into(), &out));
            assert_eq!(status.code(), if signal == "KILL" { None } else { Some(130) }, "{format} {signal}");
            assert_first(&vectors(format, &fs::read(&out).unwrap(), signal == "KILL"));
        }
    }
}

/// It waits for more texts, in a read that nothing ends.
#[test]
fn a_stopped_embed_need_not_wait_for_its_input() {
    let out = scratch("embed_waits").join("out");
    for format in ["json", "npy"] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let feeder = std::thread::spawn(move || {
            // More than are looked at together.
            let _ = writer.write_all((0..5000).map(|i| line(i) + "\n").collect::<String>().as_bytes());
            writer
        });
        let child = embedding(format, reader.into(), &out);
        let writer = feeder.join().unwrap();
        assert_eq!(stopped_by("INT", child).code(), Some(130));
        assert_first(&vectors(format, &fs::read(&out).unwrap(), false));
        drop(writer);
    }
}

/// Who started it so that it outlives its terminal does not want it stopped by that.
#[cfg(target_os = "linux")]
#[test]
fn a_run_under_nohup_goes_on() {
    let out = scratch("nohup").join("out");
    let (reader, mut writer) = std::io::pipe().unwrap();
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_qembed-q"), "--format", "raw", "--gguf"]);
    command.arg(model(SHAPE_K, "F16")).stdin(reader).stdout(File::create(&out).unwrap()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    // Up to 64 lines wait to be read, and more in the pipe; those that are computed have been read by the handler's time.
    writer.write_all((0..5000).map(|i| line(i) + "\n").collect::<String>().as_bytes()).unwrap();
    wait_until(&mut child, || fs::metadata(&out).unwrap().len() > 0);
    assert!(Command::new("kill").args(["-s", "HUP", &child.id().to_string()]).status().unwrap().success());
    drop(writer);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let found = vectors("raw", &fs::read(&out).unwrap(), false);
    assert_eq!(found.len(), 5000);
    assert_first(&found);
}

/// A first search that is stopped, even twice at once as some programs do it, keeps what it has; the next one goes on.
#[test]
fn a_stopped_search_keeps_its_vectors() {
    const TEXTS: usize = 4_000;
    let folder = scratch("search");
    let (texts, cache) = (folder.join("texts.jsonl"), folder.join("cache"));
    let lines: String = (0..TEXTS).map(|i| format!("{{\"text\":\"{}\"}}\n", line(i))).collect();
    fs::write(&texts, lines).unwrap();
    let gguf = model(SHAPE_K, "F16");
    let command = |extra: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
        command.args(["search", "what", "--json", "--gguf", gguf.to_str().unwrap(), "--in", texts.to_str().unwrap()]);
        command.args(extra).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let kept = || entries_of(&cache).iter().map(|path| fs::metadata(path).unwrap().len()).max().unwrap_or(0);
    let whole = 8 + TEXTS as u64 * (32 + 4 * 256) + 32;
    let mut restarts = 0;
    for signals in [&["INT"][..], &["TERM"], &["INT", "INT"]] {
        // How long it takes until there is something to keep is not known from outside.
        let (mut delay, mut before) = (Duration::from_millis(20), kept());
        before = if before == whole { 0 } else { before };
        loop {
            let mut child = command(&["--cache", cache.to_str().unwrap()]).spawn().unwrap();
            std::thread::sleep(delay);
            for signal in signals {
                Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
            }
            let status = child.wait().unwrap();
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert!(!said.contains("panicked"), "{said}");
            if status.code() == Some(130) && (before + 1..whole).contains(&kept()) {
                assert!(said.contains("are kept for the next search"), "{said}");
                break;
            }
            if kept() == whole {
                // All was done before the signal came: once more from nothing.
                fs::remove_dir_all(&cache).unwrap();
                (delay, before) = (Duration::from_millis(20), 0);
                restarts += 1;
                assert!(restarts < 10, "it is never stopped before it ends");
                continue;
            }
            delay += delay / 2;
        }
    }
    let run = |extra: &[&str]| {
        let output = command(extra).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(run(&["--cache", cache.to_str().unwrap()]), run(&["--no-cache"]));
    assert_eq!(kept(), whole);
    assert_eq!(entries_of(&cache).len(), 1, "nothing is left over");
}

fn entries_of(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map_or(Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect())
}
