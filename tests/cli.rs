//! The command from outside: its output, its exit codes and what it says about every kind of bad input.
//!
//! Exit codes: 0 done, 1 the work failed, 2 the command line is wrong. On failure standard output stays empty.

mod common;

use common::{Parts, SHAPE, SHAPE_K, bits, model, scratch};
use qembed_kernels::formats::Format;
use qembed_q::{EmbedOptions, Embedder, Isa, LoadOptions, Prompt};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

impl Parts {
    fn set<T: qembed_models::gguf::Element>(&mut self, key: &str, value: T) {
        self.metadata.set(key, value);
    }

    fn remove(&mut self, key: &str) {
        self.metadata.remove(key);
    }
}

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

#[test]
fn every_format_holds_the_same_floats() {
    let texts = ["one", "zwei 二", "three\nlines\n"];
    let expected = expected(&texts);
    let run = |format: &str| succeeds(run(&[&["--gguf", &small(), "--format", format][..], &texts].concat()));

    let out = run("json");
    assert_eq!(json(&out), expected);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);

    let out = String::from_utf8(run("jsonl")).unwrap();
    assert!(out.ends_with("}\n") && out.lines().count() == 3);
    for (i, line) in out.lines().enumerate() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (object["index"].as_u64(), json_vector(&object["embedding"])),
            (Some(i as u64), expected[i].clone())
        );
    }

    assert_eq!(raw(&run("raw")), expected.concat());

    // NumPy Enhancement Proposal 1.
    let out = run("npy");
    assert_eq!(out[..8], *b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([out[8], out[9]]));
    let header = std::str::from_utf8(&out[10..start]).unwrap();
    assert!(start.is_multiple_of(64) && header.ends_with('\n'));
    assert_eq!(header.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 64), }");
    assert_eq!(raw(&out[start..]), expected.concat());
}

#[test]
fn json_is_the_default_and_one_text_is_an_array_of_one() {
    assert_eq!(json(&succeeds(run(&["--gguf", &small(), "one"]))), expected(&["one"]));
}

#[test]
fn lines_of_standard_input_are_texts() {
    let gguf = &small();
    let expected = expected(&["one", "zwei 二", " three ", "-"]);
    for input in ["one\nzwei 二\n three \n-", "one\nzwei 二\n three \n-\n", "one\r\nzwei 二\r\n three \r\n-\r\n"] {
        assert_eq!(json(&succeeds(run_with_input(&["--gguf", gguf], input.as_bytes()))), expected, "{input:?}");
        assert_eq!(json(&succeeds(run_with_input(&["--gguf", gguf, "-"], input.as_bytes()))), expected, "{input:?}");
    }
    // Between texts of the command line, in place of the `-`.
    let mixed = succeeds(run_with_input(&["--gguf", gguf, "one", "-"], b"zwei \xe4\xba\x8c\n three \n"));
    assert_eq!(json(&mixed), expected[..3]);
    let mixed = succeeds(run_with_input(&["--gguf", gguf, "-", "three"], b"one\n"));
    assert_eq!(json(&mixed), self::expected(&["one", "three"]));
    fails(run_with_input(&["--gguf", gguf, "-", "-"], b"one\n"), 2, &["`-` only once"]);
}

#[test]
fn a_newline_inside_an_argument_never_splits_it() {
    let texts = ["a\nb", "a\r\nb\n", "\n"];
    let out = json(&succeeds(run(&[&["--gguf", &small()][..], &texts].concat())));
    assert_eq!(out, expected(&texts));
    // A carriage return that ends no line is text too.
    let out = json(&succeeds(run_with_input(&["--gguf", &small()], b"a\rb\n\rc\r\r\n")));
    assert_eq!(out, expected(&["a\rb", "\rc\r"]));
}

#[test]
fn instructions_stand_before_the_text() {
    let gguf = &small();
    let by_hand = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:what?";
    assert_eq!(succeeds(run(&["--gguf", gguf, "--query", "what?"])), succeeds(run(&["--gguf", gguf, by_hand])));
    let by_hand = "Instruct: Find it\nQuery:what?";
    let by_option = succeeds(run(&["--gguf", gguf, "--instruct", "Find it", "what?"]));
    assert_eq!(by_option, succeeds(run(&["--gguf", gguf, by_hand])));
    assert_ne!(by_option, succeeds(run(&["--gguf", gguf, "what?"])));
    fails(run(&["--gguf", gguf, "--query", "--instruct", "x", "what?"]), 2, &["--query", "--instruct"]);
}

#[test]
fn options_reach_the_library() {
    let gguf = &small();
    let options = EmbedOptions { dimensions: Some(32), prompt: Prompt::Query, ..EmbedOptions::default() };
    let expected: Vec<_> = embedder().embed(&["a"], &options).unwrap().iter().map(bits).collect();
    assert_eq!(json(&succeeds(run(&["--gguf", gguf, "--dim", "32", "--query", "a"]))), expected);

    let path = model(SHAPE_K, "Q4_K_M");
    for isa in Isa::all() {
        let load = LoadOptions { threads: Some(1), isa: Some(isa.name.into()), ..LoadOptions::default() };
        let embedder = Embedder::open_with(&path, &load).unwrap();
        let expected: Vec<_> = embedder.embed(&["abc"], &EmbedOptions::default()).unwrap().iter().map(bits).collect();
        let arguments = ["--gguf", text_of(&path), "--threads", "3", "abc"];
        let by_option = [&["--isa", isa.name][..], &arguments].concat();
        assert_eq!(json(&succeeds(run(&by_option))), expected, "{}", isa.name);
        let by_variable = command(&arguments).env("QEMBED_ISA", isa.name).output().unwrap();
        assert_eq!(json(&succeeds(by_variable)), expected, "{}", isa.name);
    }

    let long = "x".repeat(500);
    let cut = json(&succeeds(run(&["--gguf", gguf, "--truncate", "right", &long])));
    assert_eq!(cut, self::expected(&[&long[..399]]));
}

#[test]
fn what_is_said_goes_to_standard_error() {
    let arguments = ["--gguf", &small(), "--threads", "2", "--isa", "scalar", "one", "two"];
    let quiet = succeeds(run(&arguments));
    let verbose = run(&[&["--verbose"][..], &arguments].concat());
    assert_eq!((verbose.status.code(), &verbose.stdout), (Some(0), &quiet));
    let said = stderr(&verbose);
    for words in ["scalar on 2 threads", "2 texts, 8 tokens", "tokens/s", "MB resident"] {
        assert!(said.contains(words), "{said}");
    }
    // A warning of the model is words as well.
    let path = scratch("warning").join("model.gguf");
    let mut parts = Parts::of(Path::new(&small()));
    parts.metadata.set("qwen3.pooling_type", 1u32).set("tokenizer.ggml.eos_token_id", 258u32);
    parts.write(&path);
    let warned = run(&["--gguf", text_of(&path), "one", "two"]);
    assert_eq!(json(&warned.stdout), json(&quiet_default()));
    let said = stderr(&warned);
    assert!(said.lines().count() == 2 && said.lines().all(|line| line.starts_with("qembed-q: warning: ")), "{said}");
    assert!(said.contains("pooling_type") && said.contains("<|im_end|>"), "{said}");
}

fn quiet_default() -> Vec<u8> {
    succeeds(run(&["--gguf", &small(), "one", "two"]))
}

#[test]
fn help_and_version_succeed() {
    for option in ["--help", "--version", "-h", "-V"] {
        let out = String::from_utf8(succeeds(run(&[option]))).unwrap();
        assert!(out.contains("qembed-q"), "{out}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let gguf = &small();
    #[cfg(not(feature = "builtin"))]
    for arguments in [&["text"][..], &[], &["similarity", "a", "b"], &["search", "a", "--in", "."]] {
        fails(run(arguments), 2, &["--gguf", "huggingface.co", "builtin"]);
    }
    fails(run(&["--gguf", gguf, "--format", "xml", "a"]), 2, &["xml", "jsonl"]);
    fails(run(&["--gguf", gguf, "--threads", "0", "a"]), 2, &["--threads"]);
    fails(run(&["--gguf", gguf, "--threads", "1025", "a"]), 2, &["--threads"]);
    fails(run(&["--gguf", gguf, "--dim=-1", "a"]), 2, &["--dim"]);
    fails(run(&["--gguf", gguf, "--dim", "x", "a"]), 2, &["--dim"]);
    fails(run(&["--gguf", gguf, "--truncate", "middle", "a"]), 2, &["middle", "left"]);
    fails(run(&["--gguf", gguf, "--no-such", "a"]), 2, &["--no-such"]);
    fails(run(&["--gguf"]), 2, &["--gguf"]);
    // A text that starts like an option goes behind `--`.
    assert_eq!(json(&succeeds(run(&["--gguf", gguf, "--", "--no-such"]))), expected(&["--no-such"]));
    // And so does one that is a command's name, unless an option stands before it.
    assert_eq!(json(&succeeds(run(&["--gguf", gguf, "--", "search"]))), expected(&["search"]));
    assert_eq!(json(&succeeds(run(&["--gguf", gguf, "search"]))), expected(&["search"]));
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let gguf = small();
    let bad = OsStr::from_bytes(b"a\xffb");
    fails(command(&[OsStr::new("--gguf"), OsStr::new(&gguf), bad]).output().unwrap(), 2, &["UTF-8"]);
    // The path of a model may be anything.
    let path = scratch("not_utf8").join(bad);
    std::fs::copy(&gguf, &path).unwrap();
    let output = command(&[OsStr::new("--gguf"), path.as_os_str(), OsStr::new("one")]).output().unwrap();
    assert_eq!(json(&succeeds(output)), expected(&["one"]));
}

#[test]
fn dimensions_texts_and_instruction_sets_that_cannot_be_had() {
    let gguf = &small();
    for dim in ["0", "31", "65", "18446744073709551615"] {
        fails(run(&["--gguf", gguf, "--dim", dim, "a"]), 1, &[dim, "32 … 64"]);
    }
    fails(run(&["--gguf", gguf, ""]), 1, &["text 1 is empty"]);
    fails(run(&["--gguf", gguf, "a", ""]), 1, &["text 2 is empty"]);
    fails(run(&["--gguf", gguf, "a", &"x".repeat(400)]), 1, &["text 2", "401 tokens", "limit is 400"]);
    fails(run(&["--gguf", gguf, "--isa", "mmx", "a"]), 1, &["mmx", "scalar"]);
    fails(command(&["--gguf", gguf, "a"]).env("QEMBED_ISA", "mmx").output().unwrap(), 1, &["mmx", "scalar"]);
    let available = Isa::available();
    match Isa::names().into_iter().find(|name| !available.contains(name)) {
        Some(name) => fails(run(&["--gguf", gguf, "--isa", name, "a"]), 1, &[name, "does not offer", "scalar"]),
        None => println!("SKIPPED: an instruction set that this CPU lacks; it has them all"),
    }
}

#[test]
fn standard_input_that_is_no_text() {
    let gguf = &small();
    fails(run_with_input(&["--gguf", gguf], b""), 1, &["standard input is empty"]);
    fails(run_with_input(&["--gguf", gguf], b"\n"), 1, &["line 1", "empty"]);
    fails(run_with_input(&["--gguf", gguf], b"a\n\nb\n"), 1, &["line 2", "empty"]);
    fails(run_with_input(&["--gguf", gguf], b"a\r\n\r\n"), 1, &["line 2", "empty"]);
    fails(run_with_input(&["--gguf", gguf], b"a\nb\n\n"), 1, &["line 3", "empty"]);
    fails(run_with_input(&["--gguf", gguf], b"ok\nab\xff\n"), 1, &["line 2", "UTF-8", "byte 3"]);
    fails(run_with_input(&["--gguf", gguf, "x", "-"], b"\xe4\xba"), 1, &["line 1", "UTF-8", "byte 1"]);
    #[cfg(unix)]
    {
        let directory = std::fs::File::open(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let output = command(&["--gguf", gguf]).stdin(directory).output().unwrap();
        fails(output, 1, &["cannot read standard input"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for format in ["json", "jsonl", "raw", "npy"] {
        let output = command(&["--gguf", &small(), "--format", format, "a"]).stdout(full()).output().unwrap();
        fails(output, 1, &["cannot write the output", "No space left"]);
    }
    // Nobody can be told, which is no reason to panic (101) or to lose data.
    let output = command(&["--gguf", "nowhere.gguf", "a"]).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let output = command(&["--gguf", &small(), "--verbose", "one"]).stderr(full()).output().unwrap();
    assert_eq!((output.status.code(), json(&output.stdout)), (Some(0), expected(&["one"])));
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    // Far more than a pipe holds, and nobody reads.
    let texts: Vec<_> = (0..3000).map(|i| format!("{i}\n")).collect();
    let path = scratch("pipe").join("texts");
    std::fs::write(&path, texts.concat()).unwrap();
    let mut child = command(&["--gguf", &small()]).stdin(std::fs::File::open(&path).unwrap()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

/// Runs on a file of these bytes.
fn run_on(path: &Path, bytes: &[u8]) -> Output {
    std::fs::write(path, bytes).unwrap();
    run(&["--gguf", text_of(path), "a"])
}

#[test]
fn files_that_are_no_model() {
    let folder = scratch("no_model");
    let path: &PathBuf = &folder.join("bad.gguf");
    let name = text_of(path);
    fails(run(&["--gguf", text_of(&folder.join("none.gguf")), "a"]), 1, &["none.gguf", "no such file"]);
    fails(run(&["--gguf", text_of(&folder), "a"]), 1, &[text_of(&folder), "directory"]);
    fails(run_on(path, b""), 1, &[name, "empty"]);
    fails(run_on(path, b"GGU"), 1, &[name]);
    fails(run_on(path, b"\x7fELF and so on, and on, and on"), 1, &[name, "GGUF"]);
    fails(run_on(path, &[0; 4096]), 1, &[name, "GGUF"]);
    fails(run_on(path, b"GGUF\x09\0\0\0"), 1, &[name, "9"]);
}

#[cfg(unix)]
#[test]
fn a_file_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let path = scratch("permission").join("secret.gguf");
    std::fs::copy(small(), &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = command(&["--gguf", text_of(&path), "a"]);
    if std::fs::File::open(&path).is_ok() {
        // The superuser may read everything; nobody may not.
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    match command.output() {
        Ok(output) => fails(output, 1, &["secret.gguf", "no permission"]),
        Err(error) => println!("SKIPPED: the command cannot be run by another user here: {error}"),
    }
}

/// Wherever a file ends too early, it is refused by name; every cut through the library, some through the command.
#[test]
fn truncated_anywhere() {
    let whole = std::fs::read(model(SHAPE, "Q8_0")).unwrap();
    let path: &PathBuf = &scratch("truncated").join("cut.gguf");
    let cuts: Vec<usize> =
        (0..200).chain((200..whole.len()).step_by(whole.len() / 700)).chain([whole.len() - 1]).collect();
    for (i, cut) in cuts.iter().enumerate() {
        if i % 40 == 0 || i + 1 == cuts.len() {
            fails(run_on(path, &whole[..*cut]), 1, &[text_of(path)]);
        } else {
            std::fs::write(path, &whole[..*cut]).unwrap();
            let error = Embedder::open(path).err().unwrap_or_else(|| panic!("{cut} of {} bytes opened", whole.len()));
            assert!(error.to_string().contains(text_of(path)), "{error}");
        }
    }
    assert_eq!(run_on(path, &whole).status.code(), Some(0));
}

/// Changes a model, and expects these words when it is opened.
#[track_caller]
fn changed(change: impl FnOnce(&mut Parts), words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.gguf");
    let mut parts = Parts::of(Path::new(&small()));
    change(&mut parts);
    parts.write(&path);
    fails(run(&["--gguf", text_of(&path), "a"]), 1, words);
}

/// The data of a tensor of f32 zeros.
fn reshape(parts: &mut Parts, name: &str, shape: &[usize]) {
    let part = parts.tensor(name);
    part.shape = shape.to_vec();
    part.format = Format::F32;
    part.data = vec![0; 4 * shape.iter().product::<usize>()];
}

#[test]
fn metadata_of_another_model() {
    let set_u32 = |key: &'static str, value: u32| move |parts: &mut Parts| parts.set(key, value);
    changed(|parts| parts.set("general.architecture", "llama"), &["llama", "qwen3", "Qwen3-Embedding"]);
    changed(|parts| parts.set("general.architecture", 7u32), &["general.architecture", "string"]);
    for key in ["general.architecture", "qwen3.block_count", "qwen3.context_length", "qwen3.rope.freq_base"] {
        changed(|parts| parts.remove(key), &[key, "missing"]);
    }
    for key in ["qwen3.block_count", "qwen3.embedding_length", "qwen3.attention.head_count", "qwen3.context_length"] {
        changed(set_u32(key, 0), &[key, "0", "at least 1"]);
    }
    changed(set_u32("qwen3.attention.head_count_kv", 0), &["head_count_kv", "at least 1"]);
    changed(set_u32("qwen3.attention.head_count_kv", 3), &["head_count is 4", "multiple"]);
    changed(set_u32("qwen3.attention.key_length", 31), &["key_length is 31", "even"]);
    changed(set_u32("qwen3.attention.value_length", 16), &["value_length is 16", "key_length"]);
    changed(set_u32("qwen3.block_count", u32::MAX), &["blk.2.", "missing"]);
    changed(set_u32("qwen3.embedding_length", u32::MAX), &["token_embd.weight", "4294967295"]);
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let key = "qwen3.attention.layer_norm_rms_epsilon";
        changed(|parts| parts.set(key, value), &[key, "positive and finite"]);
    }
    changed(|parts| parts.set("qwen3.rope.scaling.type", "yarn"), &["rope.scaling.type", "yarn"]);
}

#[test]
fn a_tokenizer_that_is_missing_or_another() {
    for key in ["tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.pre"] {
        changed(|parts| parts.remove(key), &["tokenizer", key]);
    }
    changed(|parts| parts.set("tokenizer.ggml.model", "llama"), &["tokenizer model \"llama\"", "gpt2"]);
    changed(|parts| parts.set("tokenizer.ggml.pre", "llama-bpe"), &["llama-bpe", "qwen2"]);
}

#[test]
fn tensors_that_are_missing_or_misshapen() {
    let missing = |name: &'static str| move |parts: &mut Parts| parts.tensors.retain(|part| part.name != name);
    for name in ["token_embd.weight", "output_norm.weight", "blk.0.attn_k_norm.weight", "blk.1.ffn_down.weight"] {
        changed(missing(name), &[name, "missing"]);
    }
    for (name, found, expected) in [
        ("token_embd.weight", &[32, 300][..], "[64, 300]"),
        ("output_norm.weight", &[32], "[64]"),
        ("blk.0.attn_norm.weight", &[64, 2], "[64]"),
        ("blk.0.attn_q_norm.weight", &[64], "[32]"),
        ("blk.0.attn_q.weight", &[64, 64], "[64, 128]"),
        ("blk.0.attn_k.weight", &[64, 128], "[64, 64]"),
        ("blk.1.attn_v.weight", &[64, 32], "[64, 64]"),
        ("blk.1.attn_output.weight", &[64, 128], "[128, 64]"),
        ("blk.1.ffn_gate.weight", &[96, 64], "[64, 96]"),
        ("blk.1.ffn_up.weight", &[64, 96, 2], "[64, 96]"),
        ("blk.1.ffn_down.weight", &[96], "[96, 64]"),
    ] {
        let found_text = format!("{found:?}");
        changed(|parts| reshape(parts, name, found), &[name, &found_text, expected]);
    }
    changed(
        |parts| {
            parts.tensors.push(common::Part {
                name: "blk.0.attn_q.bias".into(),
                shape: vec![128],
                format: Format::F32,
                data: vec![0; 512],
            })
        },
        &["blk.0.attn_q.bias", "Qwen3"],
    );
}

#[test]
fn tensors_that_an_embedding_does_not_need_are_ignored() {
    let path = scratch("unneeded").join("model.gguf");
    let mut parts = Parts::of(Path::new(&small()));
    for name in ["output.weight", "cls.output.weight"] {
        let shape = vec![64, 3];
        parts.tensors.push(common::Part { name: name.into(), shape, format: Format::F32, data: vec![0xff; 768] });
    }
    // Dimensions of 1 at the end say nothing.
    parts.tensor("output_norm.weight").shape = vec![64, 1];
    parts.write(&path);
    assert_eq!(json(&succeeds(run(&["--gguf", text_of(&path), "one"]))), expected(&["one"]));
}

/// An unknown type is an error that names tensor and type, where the tensor is needed.
#[test]
fn a_tensor_of_an_unknown_type() {
    let mut bytes = std::fs::read(small()).unwrap();
    let name = b"blk.1.ffn_up.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 16;
    assert_eq!(bytes[at..at + 4], 1u32.to_le_bytes()); // F16
    for (id, words) in [(16u32, "IQ2_XXS"), (99, "99")] {
        bytes[at..at + 4].copy_from_slice(&id.to_le_bytes());
        let path = scratch("unknown_type").join("model.gguf");
        let output = run_on(&path, &bytes);
        let said = stderr(&output).to_ascii_uppercase();
        assert!(said.contains("BLK.1.FFN_UP.WEIGHT") && said.contains(words), "{said}");
        fails(output, 1, &["blk.1.ffn_up.weight"]);
    }
}

/// However the file gets into memory, the vectors are the same; one way excludes the others.
#[test]
fn ways_into_memory() {
    let path = model(SHAPE, "Q8_0");
    let run =
        |options: &[&str]| command::<&str>(&[]).arg("--gguf").arg(&path).args(options).arg("abc").output().unwrap();
    let mapped = run(&[]);
    assert!(mapped.status.success());
    for option in ["--prefault", "--mlock", "--no-mmap", "--no-sharing", "--memory-budget=100M"] {
        let output = run(&[option]);
        assert!(output.status.success(), "{option}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, mapped.stdout, "{option}");
    }
    assert_eq!(run(&["--mlock", "--no-mmap"]).status.code(), Some(2));
    let output = run(&["--memory-budget", "1k"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("budget of 1000 bytes is too small"), "{said}");
}

#[test]
fn info_tells_what_a_model_takes() {
    let output = command::<&str>(&[]).args(["info", "--gguf"]).arg(model(SHAPE, "Q8_0")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for word in ["dimensions", "64", "longest text", "400 tokens", "memory budget", "free memory", "resident"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    // A command's name is a text where an option stands before it.
    let output = command::<&str>(&[]).arg("--gguf").arg(model(SHAPE, "Q8_0")).arg("info").output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"[["));
}
