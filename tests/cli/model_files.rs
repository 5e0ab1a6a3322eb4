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
}
