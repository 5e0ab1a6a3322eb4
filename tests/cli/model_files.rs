//! Model files: those that are none, or damaged, or of another kind, and the ways into memory.

use super::common::Parts;
use super::*;

impl Parts {
    fn set<T: qembed_models::gguf::Element>(&mut self, key: &str, value: T) {
        self.metadata.set(key, value);
    }

    fn remove(&mut self, key: &str) {
        self.metadata.remove(key);
    }
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
    changed(set_u32("qwen3.block_count", u32::MAX), &["block_count is 4294967295", "so many layers"]);
    changed(set_u32("qwen3.block_count", 3), &["blk.2.", "missing"]);
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
    let (name, shape) = ("output.weight".into(), vec![64, 3]);
    parts.tensors.push(common::Part { name, shape, format: Format::F32, data: vec![0xff; 768] });
    // Dimensions of 1 at the end say nothing.
    parts.tensor("output_norm.weight").shape = vec![64, 1];
    parts.write(&path);
    assert_eq!(json(&succeeds(run(&["--gguf", text_of(&path), "one"]))), expected(&["one"]));
}

/// A type that cannot be read is an error that names tensor, type and what to take instead, where the tensor is needed.
#[test]
fn a_tensor_of_an_unknown_type() {
    let mut bytes = std::fs::read(small()).unwrap();
    let name = b"blk.1.ffn_up.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 16;
    assert_eq!(bytes[at..at + 4], 1u32.to_le_bytes()); // F16
    let path = scratch("unknown_type").join("model.gguf");
    for (id, name, instead) in [(16u32, "IQ2_XXS", "Q2_K"), (40, "NVFP4", "Q4_0 or Q4_K_M"), (99, "type 99", "Q8_0")] {
        bytes[at..at + 4].copy_from_slice(&id.to_le_bytes());
        fails(run_on(&path, &bytes), 1, &["blk.1.ffn_up.weight", name, instead]);
        let shown = String::from_utf8(succeeds(run(&["inspect", text_of(&path)]))).unwrap();
        let lines: Vec<&str> = shown.lines().filter(|line| line.contains(name)).collect();
        assert!(lines.len() == 2 && lines.iter().all(|line| line.contains('?')), "the type and the tensor: {shown}");
        assert!(shown.contains("bits a weight  16."), "of what can be read: {shown}");
    }
}

/// A file that is cut while a run goes on ends it with words, whether it is seen between two layers or felt within one.
#[cfg(unix)]
#[test]
fn a_file_that_is_cut_during_a_run() {
    use std::io::{BufRead, BufReader};
    let path = scratch("cut_during").join("model.gguf");
    for round in 0..5 {
        std::fs::copy(small(), &path).unwrap();
        let mut child =
            command(&["--gguf", text_of(&path), "--format", "jsonl"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Until the program has ended.
        let writer = std::thread::spawn(move || while stdin.write_all(b"some text or other\n").is_ok() {});
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        let reader = std::thread::spawn(move || stdout.lines().map_while(Result::ok).count());
        std::thread::sleep(std::time::Duration::from_millis(round));
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
        let output = child.wait_with_output().unwrap();
        fails(output, 1, &[text_of(&path), "was changed while it was in use", "--no-mmap"]);
        reader.join().unwrap();
        writer.join().unwrap();
    }
}

/// Wherever a limit on address space stands, the program ends with its own words or does its work. Elsewhere there is no
/// such limit, or it is not that of the program alone.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn little_address_space() {
    let limited = |megabytes: usize, arguments: &str| {
        let program = env!("CARGO_BIN_EXE_qembed-q");
        let line = format!("ulimit -v {}; exec {program} {arguments}", megabytes << 10);
        Command::new("sh").args(["-c", &line]).output().unwrap()
    };
    // Less than this, and the system cannot even load the program.
    let first = (1..500).find(|megabytes| limited(*megabytes, "--version").status.success()).expect("some limit");
    let (file, mut said) = (model("tiny,vocab=40000", "F16"), String::new());
    for megabytes in first..first + 300 {
        let output = limited(megabytes, &format!("--threads 2 --gguf '{}' hello", file.display()));
        match output.status.code() {
            Some(0) => {
                assert!(
                    said.contains("there is no room for its") && said.contains("more bytes of address space"),
                    "{said}"
                );
                return;
            }
            _ => fails(Output { status: output.status, stdout: output.stdout, stderr: output.stderr.clone() }, 1, &[]),
        }
        said += std::str::from_utf8(&output.stderr).unwrap();
    }
    panic!("never enough: {said}");
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
        if cfg!(windows) && option == "--mlock" {
            fails(output, 1, &["locking memory is not supported on this system"]);
            continue;
        }
        assert!(output.status.success(), "{option}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, mapped.stdout, "{option}");
    }
    assert_eq!(run(&["--mlock", "--no-mmap"]).status.code(), Some(2));
    let output = run(&["--memory-budget", "1k"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("budget of 1000 bytes is too small"), "{said}");
}

/// What is not understood is refused with the words that allow it; then it is said, and everything else is as without it.
#[test]
fn what_is_not_understood_has_to_be_allowed() {
    let folder = scratch("allowed");
    let path = folder.join("model.gguf");
    let mut parts = Parts::of(Path::new(&small()));
    parts.set("qwen3.attention.causal", false);
    let (name, shape) = ("dense_2.weight".into(), vec![64, 32]);
    parts.tensors.push(common::Part { name, shape, format: Format::F32, data: vec![0; 4 * 64 * 32] });
    parts.write(&path);
    let words = ["qwen3.attention.causal is false", "dense_2.weight"];
    let allowed = "--allow qwen3.attention.causal --allow dense_2.weight";
    fails(run(&["--gguf", text_of(&path), "one"]), 1, &[words[0], words[1], "could be wrong", allowed]);
    fails(run(&["--gguf", text_of(&path), "one", "--allow", "dense_2.weight"]), 1, &[words[0]]);
    let allow: Vec<&str> = allowed.split(' ').collect();
    let output = run(&[&["--gguf", text_of(&path), "one"], &allow[..], &["--allow", "other"]].concat());
    let said = stderr(&output);
    assert_eq!(json(&output.stdout), expected(&["one"]), "{said}");
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(words.iter().all(|words| said.contains(words)) && said.contains("\"other\""), "{said}");

    let verify = run(&["verify", "--gguf", text_of(&path)]);
    assert!(String::from_utf8_lossy(&verify.stdout).contains("FAIL  understood    metadata qwen3.attention.causal"));
    let verify = run(&[&["verify", "--gguf", text_of(&path)], &allow[..]].concat());
    let lines = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(verify.status.success() && lines.contains("skip  understood    allowed: metadata"), "{lines}");

    // So do the other commands that embed.
    for command in others_that_embed(&folder, text_of(&path)) {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        fails(run(&command), 1, &[words[0], words[1], "could be wrong"]);
        let output = run(&[&command, &allow[..]].concat());
        let said = stderr(&output);
        assert!(words.iter().all(|words| said.contains(words)) && !said.contains("could be wrong"), "{said}");
    }

    // Those that do not embed keep it, and say so.
    let shown = String::from_utf8(succeeds(run(&["inspect", text_of(&path)]))).unwrap();
    assert!(shown.lines().filter(|line| line.starts_with("not understood")).count() == 2, "{shown}");
    let shown = succeeds(run(&["inspect", "--json", text_of(&path)]));
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["not_understood"][1]["name"], "dense_2.weight");
    let copy = folder.join("copy.gguf");
    let output = run(&["quantize", text_of(&path), text_of(&copy), "--type", "Q8_0"]);
    let said = stderr(&output);
    assert!(words.iter().all(|words| said.contains(words)) && said.contains("kept"), "{said}");
    fails(run(&["--gguf", text_of(&copy), "one"]), 1, &words);
}

/// Another model's tokenizer in the same folder is no matter, and is named.
#[test]
fn a_tokenizer_beside_the_file_is_named() {
    let folder = scratch("beside");
    let path = folder.join("model.gguf");
    std::fs::copy(small(), &path).unwrap();
    let json_path = folder.join("tokenizer.json");
    std::fs::write(&json_path, r#"{"model":{"type":"WordPiece"}}"#).unwrap();
    let output = run(&["--gguf", text_of(&path), "one"]);
    assert!(output.stderr.is_empty());
    assert_eq!(json(&succeeds(output)), expected(&["one"]));
    let shown = String::from_utf8(succeeds(run(&["inspect", text_of(&path)]))).unwrap();
    assert!(shown.contains("tokenizer.json (not used"), "{shown}");
    let verify = |more: &[&str]| {
        let output = run(&[&["verify", "--gguf", text_of(&path)], more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(verify(&[]).contains("the tokenizer.json beside it is not used"));
    let asked = ["--tokenizer", text_of(&json_path)];
    assert!(verify(&asked).contains("FAIL  tokenizer"));
    fails(run(&[&["--gguf", text_of(&path), "one"], &asked[..]].concat()), 1, &["tokenizer.json"]);
    for command in others_that_embed(&folder, text_of(&path)) {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        succeeds(run(&command));
        fails(run(&[&command, &asked[..]].concat()), 1, &["tokenizer.json"]);
    }
}

/// Command lines, without options of loading, that embed a few words with the model at `gguf`. (`bench` has tests of its own.)
fn others_that_embed(folder: &Path, gguf: &str) -> [Vec<String>; 2] {
    let texts = folder.join("texts.txt");
    std::fs::write(&texts, "one\ntwo\n").unwrap();
    let texts = text_of(&texts);
    [
        vec!["similarity", "--gguf", gguf, "one", "two"],
        vec!["search", "--no-cache", "--gguf", gguf, "--in", texts, "one"],
    ]
    .map(|words| words.into_iter().map(str::to_owned).collect())
}

#[test]
fn the_page_of_what_is_understood_is_up_to_date() {
    let page = String::from_utf8(succeeds(run(&["inspect", "--keys"]))).unwrap();
    let written = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/understood.md")).unwrap();
    assert_eq!(page, written.replace("\r\n", "\n"), "write it anew: qembed-q inspect --keys > docs/understood.md");
}

#[test]
fn info_tells_what_a_model_takes() {
    let output = command::<&str>(&[]).args(["info", "--gguf"]).arg(model(SHAPE, "Q8_0")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for word in ["dimensions", "64", "longest text", "400 tokens", "memory budget", "free memory", "resident"] {
        assert!(said.contains(word), "{word} in {said}");
    }
}
