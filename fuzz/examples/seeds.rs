//! Writes what the targets start from to `seeds/`: `cargo run --example seeds`.

use qembed_models::gguf::GgufBuilder;
use qembed_models::synth::{Spec, write};
use qembed_q::Format;
use std::fs;
use std::path::Path;

type Files = Vec<(&'static str, Vec<u8>)>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in ["gguf", "tokenizer_json", "requests"] {
        fs::create_dir_all(seeds.join(target))?;
    }
    // Every byte is a token. `ModelFile` takes its metadata and makes tensors of all shapes and formats itself.
    let dims = "tiny,layers=1,hidden=32,ffn=32,heads=2,kv_heads=1,head_dim=16,vocab=259,context=128".parse()?;
    write(&Spec { dims, level: "F32".parse()?, seed: 1, vocabulary: None }, &seeds.join("model.gguf"))?;
    for (name, bytes) in gguf_files()? {
        fs::write(seeds.join("gguf").join(name), bytes)?;
    }
    for (name, bytes) in tokenizers() {
        fs::write(seeds.join("tokenizer_json").join(name), bytes)?;
    }
    for (name, bytes) in requests() {
        fs::write(seeds.join("requests").join(name), bytes)?;
    }
    Ok(())
}

/// One for each route of the target, by its number there.
fn requests() -> Vec<(String, Vec<u8>)> {
    let bodies = [
        r#"{"input": ["a", "b"], "dimensions": 32, "encoding_format": "base64", "instruction": "c"}"#,
        r#"{"model": "m", "input": ["a"], "truncate": true, "options": {}, "keep_alive": "5m"}"#,
        r#"{"model": "m", "prompt": "a"}"#,
        r#"{"model": "m"}"#,
        r#"{"inputs": ["a"], "normalize": true, "truncate": true, "truncation_direction": "Left", "prompt_name": "query"}"#,
        r#"{"inputs": "a", "parameters": {}}"#,
        r#"{"inputs": {"source_sentence": "a", "sentences": ["a", "b"]}}"#,
        r#"{"inputs": ["a"], "add_special_tokens": true}"#,
        r#"{"ids": [1, 2], "skip_special_tokens": true}"#,
        r#"{"tokens": [1, 2]}"#,
        r#"{"model": "m", "texts": ["a"], "input_type": "search_query", "embedding_types": ["float", "int8", "ubinary"]}"#,
        r#"{"content": "a", "embd_normalize": 2}"#,
        r#"{"prompt": "a"}"#,
    ];
    let file = |(i, body): (usize, &str)| (i.to_string(), [&[i as u8], body.as_bytes()].concat());
    bodies.into_iter().enumerate().map(file).collect()
}

/// Files with every type of value and several types of tensors.
fn gguf_files() -> Result<Files, Box<dyn std::error::Error>> {
    let mut numbers = GgufBuilder::new();
    numbers.set("a", 1u8).set("b", -1i8).set("c", 2u16).set("d", -2i16).set("e", 3u32).set("f", -3i32).set("g", 0.5f32);
    numbers.set("h", true).set("i", "text").set("j", 4u64).set("k", -4i64).set("l", 0.25f64);

    let mut arrays = GgufBuilder::new();
    arrays.set("general.architecture", "qwen3").set("general.alignment", 64u32);
    arrays.set("tokenizer.ggml.tokens", ["a", "bc", "ü", ""]).set("tokenizer.ggml.token_type", [1i32, 3, 1, 6]);
    arrays.set("nested", vec![vec![1u8, 2], vec![], vec![3]]).set("flags", [true, false]).set("scores", [0.5f32; 3]);
    arrays.add_tensor("a", &[8], Format::F32)?.add_tensor("b", &[32, 2], Format::Q8_0)?;

    let mut model = GgufBuilder::new();
    model.set("general.architecture", "qwen3").set("qwen3.block_count", 1u32).set("qwen3.embedding_length", 32u32);
    model.set("qwen3.feed_forward_length", 32u32).set("qwen3.attention.head_count", 2u32);
    model.set("qwen3.attention.head_count_kv", 1u32).set("qwen3.attention.key_length", 16u32);
    model.set("qwen3.attention.layer_norm_rms_epsilon", 1e-6f32).set("qwen3.rope.freq_base", 1e6f32);
    model.set("qwen3.context_length", 128u32).set("qwen3.pooling_type", 3u32).set("tokenizer.ggml.model", "gpt2");
    model.set("tokenizer.ggml.pre", "qwen2").set("tokenizer.ggml.tokens", ["a"]).set("tokenizer.ggml.merges", ["a a"]);
    model.set("tokenizer.ggml.token_type", [1i32]).set("tokenizer.ggml.eos_token_id", 0u32);
    model.add_tensor("token_embd.weight", &[256, 1], Format::Q4_K)?.add_tensor(
        "output_norm.weight",
        &[32],
        Format::F16,
    )?;
    let mut files = Vec::new();
    for (name, builder) in [("numbers", numbers), ("arrays", arrays), ("model", model)] {
        let mut writer = builder.begin(Vec::new())?;
        while let Some((tensor, bytes)) = writer.due().map(|(tensor, bytes)| (tensor.to_owned(), bytes as usize)) {
            writer.write(&tensor, &vec![0x21; bytes])?;
        }
        files.push((name, writer.finish()?));
    }
    Ok(files)
}

/// In short, as `qembed_fuzz::tokenizer_json` reads them; then the text.
fn tokenizers() -> Files {
    let file = |tokens: &str, merges: &str, added: &str, text: &str| {
        format!(
            "{{\"normalizer\":{{\"type\":\"NFC\"}},\"pre_tokenizer\":{{\"type\":\"Sequence\",\"pretokenizers\":[{{\"type\":\"Split\",\
             \"pattern\":{{\"Regex\":\"\x02\"}},\"behavior\":\"Isolated\",\"invert\":false}},{{\"type\":\"ByteLevel\",\
             \"add_prefix_space\":false,\"use_regex\":false}}]}},\"model\":{{\"type\":\"BPE\",\"vocab\":{{\x01{tokens}}},\
             \"merges\":[{merges}]}},\"added_tokens\":[{added}]}}\0{text}"
        )
        .into_bytes()
    };
    let end = r#"{"id":256,"content":"<|endoftext|>","special":true}"#;
    vec![
        ("whole", file("", "", end, "It's a text.")),
        ("merges", file(r#","ab":257,"abc":258"#, r#""a b",["ab","c"]"#, end, "abcab <|endoftext|>")),
        ("added", file("", "", &format!(r#"{end},{{"id":257,"content":"<think>"}}"#), "é<think>e\u{301}")),
    ]
}
