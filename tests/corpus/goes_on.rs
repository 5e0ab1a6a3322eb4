//! Runs that are ended and go on, and runs that find an earlier one.

use crate::common::{PATIENCE, SHAPE, model};
use crate::{Corpus, embedder};
use qembed_q::EmbedOptions;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts it and kills it as soon as its journal has so many bytes; true unless it was done before.
fn killed_at(corpus: &Corpus, arguments: &[&str], output: &str, bytes: u64) -> bool {
    let mut child = corpus.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let journal = corpus.path(&format!("{output}.journal"));
    let begun = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if fs::metadata(&journal).is_ok_and(|data| data.len() >= bytes) {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_and_resumed_it_is_the_same_to_the_byte() {
    let corpus = Corpus::new("killed");
    corpus.rows("in.jsonl", 3000);
    for output in ["out.parquet", "out.jsonl", "out.npy", "out.db"] {
        let whole = format!("whole-{output}");
        let arguments = |output| ["--input", "in.jsonl", "--id", "id", "--keep", "n", "--output", output];
        corpus.embed(&arguments(&whole));
        let size = 3000 * 64 * 4;
        let mut kills = 0;
        for part in [1, 300_000, 500_000, size] {
            let resumed = [&arguments(output)[..], &["--resume"]].concat();
            kills += u32::from(killed_at(&corpus, &resumed, output, part));
        }
        if corpus.path(&format!("{output}.journal")).exists() {
            corpus.embed(&[&arguments(output)[..], &["--resume"]].concat());
        }
        assert!(kills >= 2, "{output}: killed {kills} times");
        assert!(corpus.read(output) == corpus.read(&whole), "{output}");
        assert!(!corpus.path(&format!("{output}.journal")).exists());
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_done_and_says_how_to_go_on() {
    let corpus = Corpus::new("interrupted");
    corpus.rows("in.jsonl", 20_000);
    let arguments = ["--input", "in.jsonl", "--output", "out.npy"];
    let mut child = corpus.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let journal = corpus.path("out.npy.journal");
    let begun = Instant::now();
    while fs::metadata(&journal).map_or(0, |data| data.len()) < 100_000 {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    let said = child.stderr.take().unwrap();
    assert_eq!(crate::common::stopped_by("INT", child).code(), Some(130));
    let said = std::io::read_to_string(said).unwrap();
    assert!(
        said.contains("stopped; what is done is kept in out.npy.journal: the same command with --resume goes on"),
        "{said}"
    );
    assert!(!corpus.path("out.npy").exists());
    let said = corpus.refused(1, &arguments);
    assert!(
        said.contains("an earlier run was interrupted after") && said.ends_with("(--resume, or --force)\n"),
        "{said}"
    );
    let output = corpus.run(&[&arguments[..], &["--resume"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("rows were done before"), "{said}");
    assert_eq!(corpus.read("out.npy").len(), 128 + 20_000 * 64 * 4);
}

#[test]
fn only_the_same_work_is_gone_on_with() {
    let corpus = Corpus::new("changed");
    corpus.rows("in.jsonl", 6000);
    let arguments = ["--input", "in.jsonl", "--output", "out.npy", "--resume"];
    // Rows are done then: a journal whose header is not whole yet holds nobody to anything.
    assert!(killed_at(&corpus, &arguments, "out.npy", 20_000));
    let changed = |more: &[&str]| corpus.refused(1, &[&arguments[..], more].concat());
    let said = changed(&["--dim", "32"]);
    assert!(said.contains("qembed.dimensions has changed since the run began: it was \"64\" and is \"32\""), "{said}");
    assert!(changed(&["--query"]).contains("qembed.instruction has changed"));
    assert!(changed(&["--dtype", "f16"]).contains("qembed.dtype has changed"));
    assert!(changed(&["--keep", "n"]).contains("columns has changed"));
    let other = model(SHAPE, "Q8_0");
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    let output =
        command.current_dir(&corpus.folder).arg("embed").arg("--gguf").arg(other).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("qembed.model_sha256 has changed"), "{said}");
    let mut rows = corpus.read("in.jsonl");
    rows.extend_from_slice(b"{\"text\":\"one more\"}\n");
    fs::write(corpus.path("in.jsonl"), rows).unwrap();
    let said = changed(&[]);
    assert!(
        said.contains("input in.jsonl has changed since the run began") && said.contains("start anew (--force)"),
        "{said}"
    );
    corpus.embed(&["--input", "in.jsonl", "--output", "out.npy", "--force"]);
    assert_eq!(corpus.read("out.npy").len(), 128 + 6001 * 64 * 4);
    let said = corpus.refused(1, &["--input", "in.jsonl", "--output", "out.npy"]);
    assert!(said.contains("out.npy: it exists: name another output, or overwrite it (--force)"), "{said}");
}

#[test]
fn what_has_not_changed_is_taken_over() {
    let corpus = Corpus::new("update");
    let mut rows = corpus.rows("in.jsonl", 50);
    corpus.embed(&["--input", "in.jsonl", "--id", "id", "--output", "old.parquet"]);
    rows[7]["text"] = json!("something new");
    rows.remove(3);
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(corpus.path("in.jsonl"), lines).unwrap();
    let arguments = ["--input", "in.jsonl", "--id", "id", "--output", "new.parquet"];
    let output = corpus.run(&[&arguments[..], &["--update", "old.parquet"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("48 vectors were taken over"), "{said}");
    corpus.embed(&["--input", "in.jsonl", "--id", "id", "--output", "anew.parquet"]);
    assert!(corpus.read("new.parquet") == corpus.read("anew.parquet"));
    let said =
        corpus.refused(1, &["--input", "in.jsonl", "--output", "x.parquet", "--dim", "32", "--update", "old.parquet"]);
    assert!(said.contains("old.parquet: qembed.dimensions is \"64\" there and \"32\" here"), "{said}");
}

#[test]
fn standard_input_is_kept_until_it_is_done() {
    let corpus = Corpus::new("stdin");
    let rows = corpus.rows("in.jsonl", 2000);
    let lines: String = rows.iter().map(|row| format!("{}\n", row["text"].as_str().unwrap())).collect();
    let arguments = ["--input", "-", "--output", "out.npy"];
    let start = |more: &[&str]| {
        let mut command = corpus.command(&[&arguments[..], more].concat());
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let lines = lines.clone();
        // A program that has no use for it closes it.
        std::thread::spawn(move || drop(stdin.write_all(lines.as_bytes())));
        child
    };
    let mut child = start(&[]);
    while !corpus.path("out.npy.journal").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = start(&["--resume"]).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("standard input is not read: out.npy.input has what it was"), "{said}");
    assert!(output.status.success());
    assert_eq!(corpus.names(), ["in.jsonl", "out.npy"]);
    let vectors = embedder().embed(&[rows[1999]["text"].as_str().unwrap()], &EmbedOptions::default()).unwrap();
    let last: Vec<u8> = vectors[0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(corpus.read("out.npy").ends_with(&last));
}

#[test]
fn a_time_limit_ends_a_run_that_then_goes_on() {
    let corpus = Corpus::new("limit");
    corpus.rows("in.jsonl", 20_000);
    let arguments = ["--input", "in.jsonl", "--output", "out.npy", "--resume", "--timeout"];
    let said = corpus.refused(130, &[&arguments[..], &["0"]].concat());
    assert!(said.ends_with("the time limit was reached before the work was done\n"), "{said}");
    let mut runs = 1;
    while corpus.run(&[&arguments[..], &[&format!("{}", runs * 2)]].concat()).status.code() == Some(130) {
        runs += 1;
    }
    assert_eq!(corpus.read("out.npy").len(), 128 + 20_000 * 64 * 4);
}

/// As when a run is killed after its last step. The output may be of another input or of other options, so it is not called done.
#[test]
fn what_is_whole_is_not_resumed() {
    let corpus = Corpus::new("whole");
    corpus.rows("in.jsonl", 30);
    for more in [&[][..], &["--shard-rows", "10"]] {
        let arguments = [&["--input", "in.jsonl", "--output", "out.npy"], more].concat();
        corpus.embed(&arguments);
        let before = corpus.names();
        let said = corpus.refused(1, &[&arguments[..], &["--resume"]].concat());
        assert!(said.contains("nothing to resume") && said.ends_with("do it anew (--force)\n"), "{said}");
        assert!(corpus.refused(1, &arguments).contains("it exists"));
        assert_eq!(corpus.names(), before);
    }
}

/// One run at a time.
#[test]
fn two_runs_do_not_write_one_output() {
    let corpus = Corpus::new("busy");
    corpus.rows("in.jsonl", 20_000);
    let arguments = ["--input", "in.jsonl", "--output", "out.npy"];
    let mut first = corpus.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let journal: &Path = &corpus.path("out.npy.journal");
    while fs::metadata(journal).map_or(0, |data| data.len()) < 10_000 {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    for more in ["--resume", "--force"] {
        let said = corpus.refused(1, &[&arguments[..], &[more]].concat());
        assert!(said.contains("another run is writing it"), "{said}");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    corpus.embed(&[&arguments[..], &["--resume"]].concat());
}
