//! `search` and `similarity` from outside, on models with random weights: what they find is what the library's vectors
//! say, whatever was kept of earlier searches.
#![cfg(feature = "cli")]

mod common;

use common::{Parts, SHAPE, model, scratch};
use qembed_q::{EmbedOptions, Embedder, Prompt, Task};
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
    let query = embedder.embed(&[query], &EmbedOptions::default().prompt(prompt)).unwrap();
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
    let found = hits(run(&[&base[..], &["--top", "99", "--task", "sts"]].concat()));
    assert_ranked(&found, &cosines(gguf, "what?", Task::named("sts").unwrap().into()));

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
    // Windows knows two separators and the output one.
    let [deep, b] = ["a/deep/file", "b.txt"].map(|name| folder.join(name).components().collect::<PathBuf>());
    assert_eq!(found, [(text_of(&deep), Some(1)), (text_of(&deep), Some(3)), (text_of(&b), Some(2))]);
}

/// The places of all passages that a search finds, and what it says beside them.
#[track_caller]
fn places(source: &Path, options: &[&str]) -> (Vec<(String, u64, String)>, String) {
    let gguf = small();
    let base = ["search", "x", "--gguf", &gguf, "--in", text_of(source), "--no-cache", "--json", "--top", "99"];
    let output = run(&[&base[..], options].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let hits: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let place = |hit: &Value| {
        let path = Path::new(hit["path"].as_str().unwrap()).strip_prefix(source).unwrap().to_string_lossy();
        (path.into_owned(), hit["line"].as_u64().unwrap(), hit["text"].as_str().unwrap().to_owned())
    };
    let mut places: Vec<_> = hits.iter().map(place).collect();
    places.sort();
    (places, stderr(&output).to_owned())
}

fn found<const N: usize>(places: [(&str, u64, &str); N]) -> Vec<(String, u64, String)> {
    places.map(|(path, line, text)| (path.to_owned(), line, text.to_owned())).to_vec()
}

/// In whatever way its name is written, and inside a folder as alone.
#[test]
fn files_of_objects_are_known_by_their_names() {
    let folder = scratch("objects");
    let lines = "\u{feff}{\"text\":\"one\"}\n\n{\"text\":\"two\",\"id\":1}\n";
    for name in ["a.jsonl", "a.ndjson", "a.JSONL", "a.NdJson"] {
        let path = folder.join(name);
        fs::write(&path, lines).unwrap();
        assert_eq!(places(&path, &[]).0, found([("", 1, "one"), ("", 3, "two")]), "{name}");
        assert_eq!(places(&folder, &[]).0, found([(name, 1, "one"), (name, 3, "two")]), "{name}");
        fs::remove_file(path).unwrap();
    }
    // One that has no such field is a text in a folder, and an error by itself.
    fs::write(folder.join("b.jsonl"), "{\"text\":\"one\"}\n{\"body\":\"two\"}\n").unwrap();
    let whole = "{\"text\":\"one\"}\n{\"body\":\"two\"}";
    assert_eq!(places(&folder, &[]).0, found([("b.jsonl", 1, whole)]));
    fs::write(folder.join("b.jsonl"), "{\"body\":\"one\"}\n{\"body\":\"two\"}\n").unwrap();
    let bodies = places(&folder, &["--field", "body"]).0;
    assert_eq!(bodies, found([("b.jsonl", 1, "one"), ("b.jsonl", 2, "two")]));
}

/// Dropped in front of a file, where it would hide a heading; kept elsewhere.
#[test]
fn a_mark_in_front_of_a_file_is_no_text() {
    let folder = scratch("marks");
    fs::write(folder.join("a.md"), "\u{feff}# one\n\u{feff}two\n# three\n").unwrap();
    let expected = found([("a.md", 1, "# one\n\u{feff}two"), ("a.md", 3, "# three")]);
    assert_eq!(places(&folder, &[]), (expected, String::new()));
    assert_eq!(places(&folder.join("a.md"), &[]).0[0].2, "# one\n\u{feff}two");
    // UTF-16 is passed over by name, and an error by itself.
    fs::write(folder.join("b.txt"), b"\xff\xfet\0w\0o\0").unwrap();
    let (hits, said) = places(&folder, &[]);
    assert!(hits.len() == 2 && said.contains("passed over 1 file") && said.contains("b.txt: this is UTF-16"), "{said}");
    let utf16 = folder.join("b.txt");
    fails(
        run(&["search", "x", "--gguf", &small(), "--no-cache", "--in", text_of(&utf16)]),
        1,
        &["b.txt", "UTF-16", "iconv"],
    );
}

#[cfg(unix)]
#[test]
fn links_lead_to_files_once_and_nowhere_else() {
    use std::os::unix::fs::symlink;
    let outside = scratch("links_outside");
    fs::write(outside.join("far.txt"), "far\n").unwrap();
    fs::write(outside.join("objects.ndjson"), "{\"text\":\"object\"}\n").unwrap();
    let folder = scratch("links");
    fs::create_dir(folder.join("deep")).unwrap();
    fs::write(folder.join("deep/near.txt"), "near\n").unwrap();
    for (target, link) in [
        (outside.join("far.txt"), "far.txt"),
        (outside.join("far.txt"), "again.txt"),
        (outside.join("objects.ndjson"), "objects.txt"),
        ("deep/near.txt".into(), "a-link-to-near.txt"),
        ("..".into(), "deep/up"),
        (outside.clone(), "folder"),
        ("round".into(), "round"),
        ("nowhere".into(), "broken"),
    ] {
        symlink(target, folder.join(link)).unwrap();
    }
    let pipe = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (hits, said) = places(&folder, &[]);
    let expected = [("again.txt", 1, "far"), ("deep/near.txt", 1, "near"), ("objects.txt", 1, "object")];
    assert_eq!(hits, found(expected));
    for words in
        ["passed over 2 links to folders", "passed over 2 files or folders", "broken", "round", "1 file that is no"]
    {
        assert!(said.contains(words), "{said:?} does not say {words:?}");
    }
    // Whoever names a link means what it leads to.
    assert_eq!(places(&folder.join("folder"), &[]).0.len(), 2);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_passed_over_by_name() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    // Where anybody can come: a folder of the tests may lie where only its owner can.
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(folder, 0o755);
    let binary = folder.join("qembed-q");
    fs::copy(env!("CARGO_BIN_EXE_qembed-q"), &binary).unwrap();
    let gguf = folder.join("model.gguf");
    fs::copy(small(), &gguf).unwrap();
    [&binary, &gguf].into_iter().for_each(|path| set(path, 0o755));
    let texts = folder.join("texts");
    fs::create_dir_all(texts.join("barred/deep")).unwrap();
    fs::write(texts.join("barred/a.txt"), "a\n").unwrap();
    fs::write(texts.join("b.txt"), "b\n").unwrap();
    for i in 0..5 {
        fs::write(texts.join(format!("secret{i}.txt")), "s\n").unwrap();
        set(&texts.join(format!("secret{i}.txt")), 0o000);
    }
    set(&texts.join("barred"), 0o000);
    let search = |source: &Path| {
        let mut command = Command::new(&binary);
        command.args(["search", "x", "--no-cache", "--json", "--gguf", text_of(&gguf), "--in", text_of(source)]);
        if fs::read_dir(texts.join("barred")).is_ok() {
            // The superuser may read everything; nobody may not.
            command.uid(65534).gid(65534);
        }
        command.stdin(Stdio::null()).output()
    };
    match search(&texts) {
        Ok(output) => {
            let said = stderr(&output);
            assert!(output.status.success(), "{said}");
            let hits: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
            assert!(hits.len() == 1 && hits[0]["text"] == "b", "{hits:?}");
            assert!(said.contains("passed over 6 files or folders") && said.contains("ermission denied"), "{said}");
            // The first three, and that there are more.
            assert_eq!(said.matches("cannot read ").count(), 3, "{said}");
            assert!(said.contains("barred") && said.ends_with("…\n"), "{said}");
            for alone in ["barred", "secret1.txt"] {
                fails(search(&texts.join(alone)).unwrap(), 1, &["cannot read", alone, "ermission denied"]);
            }
        }
        Err(error) => println!("SKIPPED: the command cannot be run by another user here: {error}"),
    }
    set(&texts.join("barred"), 0o755);
}

/// What was computed beside a passage that has no vector, or is too much for the memory, is there for the next search.
#[test]
fn a_search_that_fails_at_a_passage_keeps_the_others() {
    let (folder, file) = corpus("fails_at_a_passage");
    let cache = folder.join("cache");
    let gguf = folder.join("model.gguf");
    let mut parts = Parts::of(Path::new(&small()));
    let embeddings = parts.tensor("token_embd.weight");
    let row = embeddings.data.len() / 300 * usize::from(b'!');
    embeddings.data[row..row + 2].copy_from_slice(&0x7e00u16.to_le_bytes()); // NaN
    parts.write(&gguf);
    let kept = || -> u64 {
        let files = fs::read_dir(&cache).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        (files.sum::<u64>() - 40) / (32 + 4 * 64)
    };
    let search = || {
        let paths = ["--gguf", text_of(&gguf), "--in", text_of(&file), "--cache", text_of(&cache)];
        run(&[&["search", "what?", "--json"][..], &paths].concat())
    };
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{whole}{{\"text\":\"bad!\"}}\n")).unwrap();
    fails(search(), 1, &["not finite", "texts.jsonl:7", "is kept"]);
    assert_eq!(kept(), 6);
    fs::write(&file, whole).unwrap();
    let before: Vec<_> =
        fs::read_dir(&cache).unwrap().map(|file| file.unwrap().metadata().unwrap().modified().unwrap()).collect();
    assert_eq!(hits(search()).len(), 5);
    let after: Vec<_> =
        fs::read_dir(&cache).unwrap().map(|file| file.unwrap().metadata().unwrap().modified().unwrap()).collect();
    assert_eq!((before, kept()), (after, 6), "nothing had to be computed");
}

#[test]
fn a_search_may_have_a_time_limit() {
    let (_, file) = corpus("limit");
    let arguments = ["search", "one", "--in", text_of(&file), "--gguf", &small(), "--no-cache", "--timeout"];
    fails(run(&[&arguments[..], &["0"]].concat()), 1, &["the time limit was reached"]);
    assert_eq!(run(&[&arguments[..], &["1h"]].concat()).status.code(), Some(0));
    fails(run(&[&arguments[..], &["soon"]].concat()), 2, &["write it as 90s, 30m or 8h"]);
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
    fails(search(&file("latin1.txt", b"caf\xe9")), 1, &["latin1.txt", "UTF-8"]);
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
