//! Parts of a corpus, put together again.

use crate::Corpus;
use std::fs;
use std::process::Command;

/// Whether it could, and what it said.
fn merge(corpus: &Corpus, arguments: &[&str]) -> (bool, String) {
    let mut merge = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    let output = merge.current_dir(&corpus.folder).arg("merge").args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn parts_make_the_whole() {
    let corpus = Corpus::new("parts");
    corpus.rows("in.jsonl", 103);
    let arguments = ["--input", "in.jsonl", "--id", "id", "--keep", "all"];
    let run = |more: &[&str]| corpus.embed(&[&arguments[..], more].concat());
    for form in ["jsonl", "parquet", "npy", "db", "csv"] {
        run(&["--output", &format!("whole.{form}")]);
        let parts = ["1", "2", "3"].map(|part| format!("{part}.{form}"));
        for (part, number) in parts.iter().zip(["1/3", "2/3", "3/3"]) {
            run(&["--output", part, "--part", number]);
        }
        let merged = format!("merged.{form}");
        let (done, said) = merge(&corpus, &[&parts[0], &parts[1], &parts[2], "--output", &merged]);
        assert!(done && corpus.read(&merged) == corpus.read(&format!("whole.{form}")), "{form}: {said}");
    }
}

#[test]
fn parts_of_several_files_make_the_whole() {
    let corpus = Corpus::new("shards");
    corpus.rows("in.jsonl", 103);
    let arguments = ["--input", "in.jsonl", "--id", "id", "--keep", "all"];
    let run = |more: &[&str]| corpus.embed(&[&arguments[..], more].concat());
    let merge = |arguments: &[&str]| merge(&corpus, arguments);
    for form in ["parquet", "db", "jsonl", "json", "csv", "npy"] {
        let (whole, merged) = (format!("whole.{form}"), format!("merged.{form}"));
        let parts = ["1", "2"].map(|part| format!("part-{part}.{form}"));
        run(&["--output", &whole]);
        for (part, number) in parts.iter().zip(["1/2", "2/2"]) {
            run(&["--output", part, "--part", number, "--shard-rows", "20"]);
        }
        assert!(corpus.path(&format!("part-2-00002.{form}")).exists());
        let (done, said) = merge(&[&parts[0], &parts[1], "--output", &merged]);
        assert!(done && corpus.read(&merged) == corpus.read(&whole), "{form}: {said}");
        // As the shell gives them.
        let files = corpus.names().into_iter().filter(|name| name.starts_with("part-") && name.ends_with(form));
        let files: Vec<_> = files.collect();
        assert_eq!(files.len(), 6);
        let files = files.iter().map(String::as_str).chain(["--output", &merged, "--force"]).collect::<Vec<_>>();
        let (done, said) = merge(&files);
        assert!(done && corpus.read(&merged) == corpus.read(&whole), "{form}: {said}");
        // No parts, but one output in several files.
        let one = format!("one.{form}");
        run(&["--output", &one, "--shard-rows", "40"]);
        let (done, said) = merge(&[&one, "--output", &one]);
        assert!(done && corpus.read(&one) == corpus.read(&whole), "{form}: {said}");
    }
    fs::write(corpus.path("part-1.npy.journal"), "").unwrap();
    let (done, said) = merge(&["part-1.npy", "part-2.npy", "--output", "x.npy"]);
    assert!(!done && said.contains("part-1.npy.journal: the run that writes this part has not ended"), "{said}");
    fs::remove_file(corpus.path("part-1-00001.jsonl")).unwrap();
    let (done, said) = merge(&["part-1.jsonl", "part-2.jsonl", "--output", "x.jsonl"]);
    assert!(!done && said.contains("part-1-00001.jsonl: "), "{said}");
    assert!(!corpus.path("x.npy").exists() && !corpus.path("x.jsonl").exists());
}
