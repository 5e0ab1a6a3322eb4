//! Runs that are stopped, killed, or find no room: nothing that looks whole is left, and the next run cleans up. Windows
//! has neither signals nor limits on the size of files, so there a run can only be killed.
#![cfg(feature = "cli")]

mod common;

#[cfg(unix)]
use common::stopped_by;
use common::{PATIENCE, Parts, SHAPE_K, model, scratch};
use qembed_models::gguf::{Gguf, GgufBuilder};
use qembed_q::Format;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Names of a folder's entries, sorted.
fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn partial(folder: &Path) -> Option<PathBuf> {
    entries(folder).into_iter().find(|name| name.ends_with(".partial")).map(|name| folder.join(name))
}

/// An input whose run would end long after it is stopped, at its first sign of life: eight GiB of weights, a hole in the
/// file.
fn endless(path: &Path) {
    let mut builder = GgufBuilder::new();
    builder.copy_metadata(&Gguf::open(model(SHAPE_K, "F16")).unwrap());
    let shape = [256, 1 << 24];
    builder.add_tensor("token_embd.weight", &shape, Format::F16).unwrap();
    let file = File::create(path).unwrap();
    drop(builder.begin(&file).unwrap());
    let header = file.metadata().unwrap().len();
    file.set_len(header + (2 * shape[0] * shape[1]) as u64).unwrap();
}

/// The same as a folder for `convert`.
#[cfg(unix)]
fn endless_folder(folder: &Path) {
    use serde_json::json;
    const FFN: u64 = 1 << 23;
    fs::create_dir_all(folder).unwrap();
    let config = json!({
        "model_type": "qwen3", "num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": FFN,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 100,
        "vocab_size": 300, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), common::tokenizer_json(&Gguf::open(model(SHAPE_K, "F16")).unwrap()))
        .unwrap();
    let mut at = 0u64;
    let mut header = serde_json::Map::new();
    let mut tensor = |name: &str, shape: &[u64]| {
        let end = at + 2 * shape.iter().product::<u64>();
        header.insert(name.into(), json!({ "dtype": "F16", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    };
    tensor("embed_tokens.weight", &[300, 256]);
    tensor("norm.weight", &[256]);
    for (name, shape) in [
        ("self_attn.q_proj", &[256, 256][..]),
        ("self_attn.k_proj", &[128, 256]),
        ("self_attn.v_proj", &[128, 256]),
        ("self_attn.o_proj", &[256, 256]),
        ("self_attn.q_norm", &[64]),
        ("self_attn.k_norm", &[64]),
        ("input_layernorm", &[256]),
        ("post_attention_layernorm", &[256]),
        ("mlp.gate_proj", &[FFN, 256]),
        ("mlp.up_proj", &[FFN, 256]),
        ("mlp.down_proj", &[256, FFN]),
    ] {
        tensor(&format!("layers.0.{name}.weight"), shape);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    let path = folder.join("model.safetensors");
    fs::write(&path, &bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64 + at).unwrap();
}

/// Starts the program and returns when it has begun to write in `folder`.
fn started(arguments: &[&str], folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    command.args(arguments).env("TMPDIR", folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while partial(folder).is_none() {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE, "it never began to write");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

/// Ends it as nothing can prevent, and waits.
fn killed(mut child: Child) -> ExitStatus {
    child.kill().unwrap();
    child.wait().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[cfg(unix)]
#[test]
fn a_stopped_run_leaves_nothing() {
    let folder = scratch("stopped");
    let (input, output, hugging) = (folder.join("in.gguf"), folder.join("out.gguf"), folder.join("folder"));
    endless(&input);
    endless_folder(&hugging);
    for signal in ["INT", "TERM", "HUP"] {
        for command in [["quantize", text(&input)], ["convert", text(&hugging)]] {
            let arguments = [&command[..], &[text(&output), "--type", "Q4_K_M"]].concat();
            assert_eq!(stopped_by(signal, started(&arguments, &folder)).code(), Some(130), "{signal} {command:?}");
            assert_eq!(entries(&folder), ["folder", "in.gguf"], "{signal} {command:?}");
        }
    }
    fs::write(&output, "mine").unwrap();
    let arguments = ["quantize", text(&input), text(&output), "--type", "Q8_0", "--force"];
    stopped_by("TERM", started(&arguments, &folder));
    assert_eq!(fs::read(&output).unwrap(), b"mine", "what was there before still is");
    assert_eq!(entries(&folder), ["folder", "in.gguf", "out.gguf"]);
}

#[test]
fn a_killed_run_leaves_nothing_that_looks_whole_and_the_next_one_cleans_up() {
    let folder = scratch("killed");
    let (input, output) = (folder.join("in.gguf"), folder.join("out.gguf"));
    endless(&input);
    let status = killed(started(&["quantize", text(&input), text(&output), "--type", "Q4_K_M"], &folder));
    assert!(!status.success());
    assert!(!output.exists());
    let left = partial(&folder).expect("a killed process cannot clean up");
    assert!(left.file_name().unwrap().to_str().unwrap().starts_with(".out.gguf."));
    Gguf::open(&left).expect_err("it is cut");

    // A run that is still at work keeps its file.
    let other = started(&["quantize", text(&input), text(&folder.join("other.gguf")), "--type", "Q8_0"], &folder);
    let small = model(SHAPE_K, "F16");
    let run = |output: &Path| {
        let arguments = ["quantize", text(&small), text(output), "--type", "Q4_K_M", "--force"];
        Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(arguments).status().unwrap()
    };
    assert!(run(&output).success());
    let whole = Gguf::open(&output).unwrap();
    assert_eq!(whole.tensors().len(), Gguf::open(&small).unwrap().tensors().len());
    assert!(!left.exists(), "the leftover is gone");
    let same = folder.join("other.gguf");
    assert!(run(&same).success(), "two runs with one target do not disturb each other");
    assert!(partial(&folder).is_some_and(|path| path.to_string_lossy().contains(&format!(".{}-", other.id()))));
    killed(other);
    Gguf::open(&same).expect("still whole");
    assert!(run(&same).success());
    assert_eq!(entries(&folder), ["in.gguf", "other.gguf", "out.gguf"]);
}

/// Runs with a limit on the size of files: as on a full disk, a write in the middle of the file fails.
#[cfg(unix)]
fn without_room(arguments: &[&str], kilobytes: u32, ignore: &str) -> std::process::Output {
    let script = format!("ulimit -c 0; ulimit -f {}; {ignore} exec \"$0\" \"$@\"", kilobytes * 2);
    Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_qembed-q")]).args(arguments).output().unwrap()
}

#[cfg(unix)]
#[test]
fn no_room_is_an_error_that_leaves_nothing() {
    let folder = scratch("room");
    let (input, output) = (folder.join("in.gguf"), folder.join("out.gguf"));
    // Enough for the writer's buffer to be written in the middle and at the end.
    fs::copy(model("tiny,layers=2,hidden=1024,ffn=1024,heads=4,kv_heads=2,head_dim=64,vocab=300", "F16"), &input)
        .unwrap();
    let whole = folder.join("whole.gguf");
    let size = |room: Option<u32>| {
        let arguments = ["quantize", text(&input), text(&output), "--type", "Q8_0"];
        match room {
            Some(room) => without_room(&arguments, room, "trap '' XFSZ;"),
            None => Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(arguments).output().unwrap(),
        }
    };
    assert!(size(None).status.success());
    fs::rename(&output, &whole).unwrap();
    let kilobytes = u32::try_from(fs::metadata(&whole).unwrap().len() / 1024).unwrap();
    for room in [0, 1, kilobytes / 2, kilobytes - 1] {
        let run = size(Some(room));
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{room} KiB: {said}");
        let words = ["cannot write", "out.gguf", "nothing was kept", "free some space"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(entries(&folder), ["in.gguf", "whole.gguf"], "{room} KiB");
    }
    assert!(size(Some(kilobytes + 1)).status.success(), "the limit itself does no harm");
    assert_eq!(fs::read(&output).unwrap(), fs::read(&whole).unwrap());

    // Where the signal is not ignored, the process dies in the middle of a write, as a killed one does.
    fs::remove_file(&output).unwrap();
    let run = without_room(&["quantize", text(&input), text(&output), "--type", "Q8_0"], kilobytes / 2, "");
    assert_eq!(run.status.code(), None);
    assert!(!output.exists() && partial(&folder).is_some());
    assert!(size(None).status.success());
    assert_eq!(entries(&folder), ["in.gguf", "out.gguf", "whole.gguf"]);
    assert_eq!(fs::read(&output).unwrap(), fs::read(&whole).unwrap());
}

#[cfg(unix)]
#[test]
fn a_stopped_bench_leaves_nothing() {
    let folder = scratch("bench");
    let (input, page) = (model(SHAPE_K, "F16"), folder.join("out.html"));
    let arguments = ["bench", "--from", text(&input), "--rounds", "100", "--report", text(&page)];
    for signal in ["INT", "TERM"] {
        let child = started(&arguments, &folder);
        assert_eq!(stopped_by(signal, child).code(), Some(130), "{signal}");
        assert_eq!(entries(&folder), [""; 0], "{signal}");
    }
}

#[test]
fn an_input_is_never_the_output() {
    let folder = scratch("inputs");
    let first = folder.join("model-00001-of-00002.gguf");
    let second = folder.join("model-00002-of-00002.gguf");
    let whole = model(SHAPE_K, "F16");
    let half = Gguf::open(&whole).unwrap().tensors().len() / 2;
    let total = Gguf::open(&whole).unwrap().tensors().len() as i32;
    for (number, path) in [&first, &second].into_iter().enumerate() {
        let mut parts = Parts::of(&whole);
        parts.metadata.set("split.no", number as u16).set("split.count", 2u16).set("split.tensors.count", total);
        let range = if number == 0 { 0..half } else { half..total as usize };
        parts.tensors =
            parts.tensors.into_iter().enumerate().filter(|(i, _)| range.contains(i)).map(|(_, p)| p).collect();
        parts.write(path);
    }
    for output in [&first, &second] {
        let before = fs::read(output).unwrap();
        let arguments = ["quantize", text(&first), text(output), "--type", "Q8_0", "--force"];
        let run = Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.code() == Some(1) && said.contains("is an input"), "{said}");
        assert!(fs::read(output).unwrap() == before);
    }
    let output = folder.join("out.gguf");
    let arguments = ["quantize", text(&second), text(&output), "--type", "Q8_0"];
    assert!(Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(arguments).status().unwrap().success());
    assert_eq!(Gguf::open(&output).unwrap().part_count(), 1, "it is written whole");
}

/// Who has the old file mapped keeps its contents.
#[test]
fn a_mapped_file_is_replaced_or_kept() {
    let folder = scratch("mapped");
    let (source, output) = (model(SHAPE_K, "F16"), folder.join("out.gguf"));
    fs::copy(model(SHAPE_K, "Q8_0"), &output).unwrap();
    let mapped = Gguf::open(&output).unwrap();
    let before = fs::read(&output).unwrap();
    let arguments = ["quantize", text(&source), text(&output), "--type", "Q4_K_M", "--force"];
    let run = Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    if cfg!(windows) {
        assert!(run.status.code() == Some(1) && said.contains("has mapped cannot be replaced"), "{said}");
        assert!(fs::read(&output).unwrap() == before);
    } else {
        assert!(run.status.success() && fs::read(&output).unwrap() != before, "{said}");
    }
    let weights = &mapped.require_tensor("token_embd.weight").unwrap().data;
    assert!(before.windows(weights.len()).any(|part| *part == weights[..]));
    assert_eq!(entries(&folder), ["out.gguf"]);
}
