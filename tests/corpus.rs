//! `embed`: rows of files in, a file of vectors out, and nothing lost on the way.
#![cfg(feature = "cli")]

mod common;

use common::{PATIENCE, SHAPE, model, scratch};
use qembed_q::{EmbedOptions, Embedder, Prompt};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

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

#[test]
fn vectors_are_those_of_the_library() {
    let corpus = Corpus::new("library");
    let rows = corpus.rows("in.jsonl", 40);
    corpus.embed(&[
        "--input",
        "in.jsonl",
        "--id",
        "id",
        "--keep",
        "all",
        "--text",
        "{title}: {text}",
        "--output",
        "out.jsonl",
    ]);
    let texts: Vec<_> = rows
        .iter()
        .map(|row| format!("{}: {}", row["title"].as_str().unwrap(), row["text"].as_str().unwrap()))
        .collect();
    let vectors = embedder().embed(&texts, &EmbedOptions::default()).unwrap();
    let lines = corpus.lines("out.jsonl");
    assert_eq!(lines.len(), rows.len());
    for ((line, row), vector) in lines.iter().zip(&rows).zip(vectors.iter()) {
        assert_eq!(floats(&line["embedding"]), vector, "to the last bit");
        assert_eq!((&line["id"], &line["title"], &line["n"]), (&row["id"], &row["title"], &row["n"]));
    }
    assert_eq!(corpus.names(), ["in.jsonl", "out.jsonl"], "nothing else is left");
}

#[test]
fn a_row_may_have_an_instruction_of_its_own() {
    let corpus = Corpus::new("instructions");
    fs::write(corpus.path("in.csv"), "text,task\nfirst,Find it\n\"second, with\na break\",\nthird,Find it\n").unwrap();
    corpus.embed(&["--input", "in.csv", "--instruction-field", "task", "--query", "--output", "out.jsonl"]);
    let embed = |text: &str, prompt: Prompt| {
        embedder().embed(&[text], &EmbedOptions::default().prompt(prompt)).unwrap()[0].to_vec()
    };
    let own = Prompt::Instruct("Find it".into());
    let expected = [embed("first", own.clone()), embed("second, with\na break", Prompt::Query), embed("third", own)];
    let found: Vec<_> = corpus.lines("out.jsonl").iter().map(|line| floats(&line["embedding"])).collect();
    assert_eq!(found, expected);
}

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
    assert_eq!(common::stopped_by("INT", child).code(), Some(130));
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
fn what_is_wrong_is_found_before_anything_is_computed_or_passed_over() {
    let corpus = Corpus::new("errors");
    let mut lines: Vec<String> = corpus.rows("in.jsonl", 30).iter().map(Value::to_string).collect();
    lines[20] = "{\"text\":".into();
    lines[22] = json!({ "id": "long", "text": "x".repeat(500) }).to_string();
    lines[23] = json!({ "id": "empty", "text": "" }).to_string();
    lines[24] = json!({ "id": "none" }).to_string();
    fs::write(corpus.path("in.jsonl"), lines.join("\n")).unwrap();
    let arguments = ["--input", "in.jsonl", "--id", "id", "--output", "out.jsonl"];
    let said = corpus.refused(1, &arguments);
    assert!(said.contains("in.jsonl, line 21: no valid JSON"), "{said}");
    assert_eq!(corpus.names(), ["in.jsonl"]);

    let said = corpus.refused(3, &[&arguments[..], &["--on-error", "skip"]].concat());
    assert!(
        said.ends_with("qembed-q: 4 rows could not be embedded and are named in out.jsonl.errors.jsonl\n"),
        "{said}"
    );
    let ids: Vec<_> = corpus.lines("out.jsonl").iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    let good = (0..30).filter(|i| ![20, 22, 23, 24].contains(i));
    assert_eq!(ids, good.map(|i| format!("r{i}")).collect::<Vec<_>>());
    let errors = corpus.lines("out.jsonl.errors.jsonl");
    let numbers: Vec<_> = errors.iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [21, 23, 24, 25]);
    assert_eq!((&errors[1]["id"], &errors[1]["file"]), (&json!("long"), &json!("in.jsonl")));
    assert!(errors[1]["error"].as_str().unwrap().starts_with("the text has 501 tokens"), "{}", errors[1]);
    assert!(errors[2]["error"].as_str().unwrap().starts_with("the text is empty"), "{}", errors[2]);

    // Each by itself ends the work, and says what would help.
    for (line, what, help) in [
        (&lines[22], "in.jsonl, line 1: the text has 501 tokens", "--chunk tokens=512,overlap=64"),
        (&lines[23], "in.jsonl, line 1: the text is empty", "--empty end-token"),
        (&lines[24], "in.jsonl, line 1: there is no field \"text\"", "--on-error skip"),
    ] {
        fs::write(corpus.path("in.jsonl"), line).unwrap();
        let said = corpus.refused(1, &["--input", "in.jsonl", "--output", "other.jsonl"]);
        assert!(said.contains(what) && said.contains(help), "{said}");
    }
    assert!(!corpus.path("other.jsonl").exists() && !corpus.path("other.jsonl.journal").exists());
    assert!(corpus.refused(2, &["--input", "in.jsonl", "--output", "other"]).contains("--format"));
    let said = corpus.refused(1, &["--input", "nothing.jsonl", "--output", "other.npy"]);
    assert!(said.contains("nothing.jsonl"), "{said}");
    let said = corpus.refused(1, &["--input", "in.jsonl", "--output", "no/folder/other.npy"]);
    assert!(said.contains("no/folder: there is no such folder for the output: make it first"), "{said}");
}

#[test]
fn two_rows_with_one_id_are_named() {
    let corpus = Corpus::new("ids");
    fs::write(corpus.path("in.csv"), "id,text\na,one\nb,\"two\nlines\"\na,three\n").unwrap();
    let arguments = |output| ["--input", "in.csv", "--id", "id", "--output", output];
    corpus.embed(&arguments("out.npy"));
    let why = "in.csv, line 5: the id \"a\" is that of in.csv, line 2, too";
    let said = corpus.refused(1, &[&arguments("other.npy")[..], &["--unique-ids"]].concat());
    assert!(said.contains(why), "{said}");
    assert!(corpus.refused(1, &arguments("out.db")).contains(why), "a database has no two rows of one name");
    assert_eq!(corpus.names(), ["in.csv", "out.npy"]);
}

#[test]
fn long_texts_in_chunks() {
    let corpus = Corpus::new("chunks");
    let text: String =
        (0..60).map(|i| format!("Sentence number {i}. {}", if i % 7 == 6 { "\n\n" } else { "" })).collect();
    fs::create_dir(corpus.path("docs")).unwrap();
    fs::write(corpus.path("docs/a.txt"), &text).unwrap();
    fs::write(corpus.path("docs/b.md"), format!("# One\n\n{}\n\n# Two\n\n{}", &text[..150], &text[..100])).unwrap();
    let arguments = ["--input", "docs", "--whole-file", "--chunk", "tokens=200,overlap=40"];
    let run = |more: &[&str]| corpus.embed(&[&arguments[..], more].concat());
    run(&["--id", "path", "--output", "out.jsonl"]);
    let embed = |texts: &[&str]| {
        let vectors = embedder().embed(texts, &EmbedOptions::default()).unwrap();
        vectors.iter().map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let lines = corpus.lines("out.jsonl");
    let of = |name: &str| lines.iter().filter(|line| line["id"].as_str().unwrap().ends_with(name)).collect::<Vec<_>>();
    let chunks = of("a.txt");
    assert!(chunks.len() > 4, "{}", chunks.len());
    let mut pieces = Vec::new();
    for (i, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk["chunk"], i);
        let at = |name: &str, end: usize| chunk[name][end].as_u64().unwrap() as usize;
        let piece = &text[at("bytes", 0)..at("bytes", 1)];
        assert!(piece.len() <= 200 && piece == piece.trim(), "a token a byte: {piece:?}");
        assert_eq!((at("tokens", 0), at("tokens", 1)), (at("bytes", 0), at("bytes", 1)));
        let line = |end: usize| text[..end].matches('\n').count() + 1;
        assert_eq!((at("lines", 0), at("lines", 1)), (line(at("bytes", 0)), line(at("bytes", 1) - 1)));
        assert_eq!(floats(&chunk["embedding"]), embed(&[piece])[0]);
        pieces.push(piece);
    }
    // Of Markdown no chunk has the end of a section and the next heading in it.
    assert!(of("b.md").iter().any(|chunk| chunk["bytes"][0].as_u64() == Some(9 + 150)), "{:?}", of("b.md"));

    // Pooled, without an order of pieces in it.
    for (how, pool) in [("mean", 0usize), ("max", 1)] {
        let name = format!("{how}.jsonl");
        run(&["--id", "path", "--chunk-pool", how, "--output", &name]);
        let vectors = embed(&pieces);
        let column = |i: usize| vectors.iter().map(move |vector| f64::from(vector[i]));
        let sum = |i: usize| column(i).sum::<f64>() / vectors.len() as f64;
        let mut expected: Vec<f64> =
            (0..64).map(|i| if pool == 0 { sum(i) } else { column(i).fold(f64::MIN, f64::max) }).collect();
        let length = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        expected.iter_mut().for_each(|x| *x /= length);
        let found = floats(&corpus.lines(&name)[0]["embedding"]);
        // Two roundings to f32.
        assert!(found.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() <= 2.0 * f64::from(f32::EPSILON)));
    }
    let said = corpus.refused(1, &["--input", "docs", "--whole-file", "--chunk", "500", "--output", "x.npy"]);
    assert!(said.contains("chunks of 500 tokens: with the instruction the model has room for 399"), "{said}");
    assert!(
        corpus
            .refused(1, &["--input", "docs", "--chunk", "tokens=9,overlap=9", "--output", "x.npy"])
            .contains("overlap")
    );
}

#[test]
fn parts_make_the_whole() {
    let corpus = Corpus::new("parts");
    corpus.rows("in.jsonl", 103);
    let arguments = ["--input", "in.jsonl", "--id", "id", "--keep", "all"];
    let run = |more: &[&str]| corpus.embed(&[&arguments[..], more].concat());
    for form in ["jsonl", "parquet", "npy", "db", "csv"] {
        run(&["--output", &format!("whole.{form}")]);
        let parts: Vec<_> = (1..=3).map(|part| format!("{part}.{form}")).collect();
        for (i, part) in parts.iter().enumerate() {
            run(&["--output", part, "--part", &format!("{}/3", i + 1)]);
        }
        let mut merge = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
        let merged = format!("merged.{form}");
        let output =
            merge.current_dir(&corpus.folder).arg("merge").args(&parts).args(["--output", &merged]).output().unwrap();
        assert!(output.status.success(), "{form}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(corpus.read(&merged) == corpus.read(&format!("whole.{form}")), "{form}");
    }
}

#[test]
fn parts_of_several_files_make_the_whole() {
    let corpus = Corpus::new("shards");
    corpus.rows("in.jsonl", 103);
    let arguments = ["--input", "in.jsonl", "--id", "id", "--keep", "all"];
    let run = |more: &[&str]| corpus.embed(&[&arguments[..], more].concat());
    let merge = |arguments: &[&str]| {
        let mut merge = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
        let output = merge.current_dir(&corpus.folder).arg("merge").args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
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

#[test]
fn a_request_has_the_dimensions_that_it_asks_for() {
    let corpus = Corpus::new("dimensions");
    let request = |id: usize, input: Value, dimensions: Value| {
        let body = json!({ "model": "m", "input": input, "dimensions": dimensions });
        json!({ "custom_id": format!("r{id}"), "method": "POST", "url": "/v1/embeddings", "body": body })
    };
    let asked = [json!(null), json!(32), json!(64), json!(48), json!(7), json!("48"), json!(-1)];
    let texts = |id: usize| (0..=id % 2).map(|i| format!("text {i} of {id}")).collect::<Vec<_>>();
    let requests =
        asked.iter().enumerate().map(|(id, asked)| format!("{}\n", request(id, json!(texts(id)), asked.clone())));
    let requests: Vec<_> = requests.collect();
    fs::write(corpus.path("in.jsonl"), requests.concat()).unwrap();
    let arguments = |output| ["--input", "in.jsonl", "--input-format", "openai-batch", "--output", output];
    fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
        let form = "openai-batch";
        [&["--input", "in.jsonl", "--input-format", form, "--output", "out.jsonl", "--format", form], more].concat()
    }
    let said = corpus.refused(1, &run(&[]));
    let range = "dimensions asked for: this model's vectors can be cut to 32 … 64";
    assert!(said.contains(&format!("in.jsonl, line 5: 7 {range}")) && said.contains("--on-error skip"), "{said}");
    for (more, all) in [(&["--dim", "48"][..], 48), (&[], 64)] {
        corpus.refused(3, &run(&[more, &["--on-error", "skip", "--force"]].concat()));
        let answers = corpus.lines("out.jsonl");
        for (id, answer) in answers.iter().enumerate().take(4) {
            let dimensions = asked[id].as_u64().map_or(all, |asked| asked as usize);
            let expected = embedder().embed(&texts(id), &EmbedOptions::default().dimensions(dimensions)).unwrap();
            let data = answer["response"]["body"]["data"].as_array().unwrap();
            let found: Vec<_> = data.iter().map(|data| floats(&data["embedding"])).collect();
            assert_eq!(found, expected.iter().map(<[f32]>::to_vec).collect::<Vec<_>>(), "to the last bit");
        }
        let why = |id: usize| answers[id]["error"]["message"].as_str().unwrap();
        assert_eq!((why(4), why(6)), (&*format!("7 {range}"), &*format!("0 {range}")));
        assert_eq!(why(5), "the field \"dimensions\" is a text, and cannot be a number of dimensions");
    }
    corpus.refused(3, &run(&["--on-error", "skip", "--force", "--dtype", "ubinary"]));
    let bytes =
        |id: usize| corpus.lines("out.jsonl")[id]["response"]["body"]["data"][0]["embedding"].as_array().unwrap().len();
    assert_eq!([0, 1, 3].map(bytes), [8, 4, 6]);

    // What has one number for all vectors says so.
    fs::write(corpus.path("in.jsonl"), requests[1..3].concat()).unwrap();
    let said = corpus.refused(1, &arguments("out.npy"));
    let why = "in.jsonl, line 1: 32 dimensions asked for, while all vectors of npy have 64: ask for 32 of all, or write openai-batch";
    assert!(said.contains(why) && said.contains("(--dim 32, --format openai-batch, or --on-error skip)"), "{said}");
    fs::write(corpus.path("in.jsonl"), &requests[1]).unwrap();
    corpus.embed(&[&arguments("out.npy")[..], &["--dim", "32"]].concat());
    assert_eq!(corpus.read("out.npy").len(), 128 + 2 * 32 * 4);
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
