//! Small models for the tests, made anew by every test program and shared by its tests.
#![allow(dead_code, reason = "every test program compiles all of it and uses a part")]

use qembed_models::gguf::{Gguf, GgufBuilder};
use qembed_models::synth::{Spec, write};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Small, with everything that tells heads, key heads and widths apart; every byte of a text is one token.
pub(crate) const SHAPE: &str = "tiny,layers=2,hidden=64,ffn=96,heads=4,kv_heads=2,head_dim=32,vocab=300,context=400";
/// Rows of 256, which the K formats need.
pub(crate) const SHAPE_K: &str =
    "tiny,layers=2,hidden=256,ffn=256,heads=4,kv_heads=2,head_dim=64,vocab=300,context=2500";

/// A random model.
pub(crate) fn model(shape: &str, level: &str) -> PathBuf {
    static MADE: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made = made.get_or_insert_with(HashMap::new);
    let name = format!("{level}-{shape}.gguf");
    made.entry(name)
        .or_insert_with_key(|name| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME")).join("models");
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join(name);
            let (dims, level) = (shape.parse().unwrap(), level.parse().unwrap());
            write(&Spec { dims, level, seed: 1, vocabulary: None }, &path).unwrap();
            path
        })
        .clone()
}

/// An empty-at-first folder of one test.
pub(crate) fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME")).join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Far more than anything here takes; reached on failure alone.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Sends a signal and waits.
#[cfg(unix)]
pub(crate) fn stopped_by(signal: &str, mut child: Child) -> ExitStatus {
    assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
    let begun = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it goes on after {signal}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The tokenizer of a [`model`] as Hugging Face's tokenizer.json.
pub(crate) fn tokenizer_json(gguf: &Gguf) -> String {
    const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let tokens: Vec<&str> =
        gguf.require_array("tokenizer.ggml.tokens").unwrap().iter_str().unwrap().map(Result::unwrap).collect();
    let named = |range: std::ops::Range<usize>| range.map(|id| (tokens[id].to_owned(), json!(id)));
    let added: Vec<_> =
        named(256..259).map(|(content, id)| json!({ "id": id, "content": content, "special": true })).collect();
    let tokenizer = json!({
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": SPLIT }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "use_regex": false },
        ]},
        "model": { "type": "BPE", "vocab": serde_json::Value::Object(named(0..256).collect()), "merges": [] },
        "added_tokens": added,
    });
    tokenizer.to_string()
}

/// A model taken apart, to be put together otherwise.
pub(crate) struct Parts {
    pub(crate) metadata: GgufBuilder,
    pub(crate) tensors: Vec<Part>,
}

pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) format: qembed_kernels::formats::Format,
    pub(crate) data: Vec<u8>,
}

impl Parts {
    pub(crate) fn of(path: &Path) -> Self {
        let gguf = Gguf::open(path).unwrap();
        let mut metadata = GgufBuilder::new();
        metadata.copy_metadata(&gguf);
        let part = |name: &str| {
            let tensor = gguf.require_tensor(name).unwrap();
            let (shape, format, data) = (tensor.shape.to_vec(), tensor.format, tensor.data.to_vec());
            Part { name: name.to_owned(), shape, format, data }
        };
        Self { metadata, tensors: gguf.tensors().map(|tensor| part(&tensor.name)).collect() }
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Part {
        self.tensors.iter_mut().find(|part| part.name == name).unwrap()
    }

    pub(crate) fn write(self, path: &Path) {
        let mut builder = self.metadata;
        for Part { name, shape, format, .. } in &self.tensors {
            builder.add_tensor(name, shape, *format).unwrap();
        }
        let mut writer = builder.begin(Vec::new()).unwrap();
        self.tensors.iter().for_each(|part| writer.write_tensor(&part.name, &part.data).unwrap());
        std::fs::write(path, writer.finish().unwrap()).unwrap();
    }
}

pub(crate) fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|x| x.to_bits()).collect()
}
