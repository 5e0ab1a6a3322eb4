//! `qembed-q convert`: a folder written from a model's own weights gives the same model again, to the bit.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod config;
mod modules;
mod weights;

use common::{SHAPE_K, model, scratch, tokenizer_json};
use qembed_models::gguf::{Access, Gguf};
use qembed_q::{EmbedOptions, Embedder, Format};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn convert(folder: &Path, output: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qembed-q")).arg("convert").arg(folder).arg(output).args(more).output().unwrap()
}

/// What the program says when it refuses a folder.
#[track_caller]
fn refused_with(folder: &Path, more: &[&str], why: &str) -> String {
    let output = folder.with_extension("gguf");
    let _ = fs::remove_file(&output);
    let run = convert(folder, &output, more);
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.code() == Some(1) && said.contains(why), "expected {why:?} in: {said}");
    assert!(run.stdout.is_empty() && !output.exists());
    said
}

#[track_caller]
fn refused(folder: &Path, why: &str) {
    refused_with(folder, &[], why);
}

/// The file, as F32, and what the program says with it.
#[track_caller]
fn converted_with(folder: &Path, more: &[&str]) -> (PathBuf, String) {
    let output = folder.with_extension("gguf");
    let run = convert(folder, &output, &[&["--type", "F32", "--force"], more].concat());
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{said}");
    (output, said)
}

/// The bytes of the file; nothing is noted.
#[track_caller]
fn converted(folder: &Path) -> Vec<u8> {
    let (output, said) = converted_with(folder, &[]);
    assert_eq!(said.lines().count(), 1, "{said}");
    fs::read(output).unwrap()
}

/// Changes a JSON file, or makes one of an empty group.
fn change(path: &Path, with: impl FnOnce(&mut Value)) {
    let mut json = fs::read(path).map_or_else(|_| json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    with(&mut json);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, json.to_string()).unwrap();
}

/// The name that `transformers` gives a tensor.
fn theirs(name: &str) -> String {
    let part = |part: &str| {
        match part {
            "attn_norm" => "input_layernorm",
            "attn_q" => "self_attn.q_proj",
            "attn_k" => "self_attn.k_proj",
            "attn_v" => "self_attn.v_proj",
            "attn_output" => "self_attn.o_proj",
            "attn_q_norm" => "self_attn.q_norm",
            "attn_k_norm" => "self_attn.k_norm",
            "ffn_norm" => "post_attention_layernorm",
            "ffn_gate" => "mlp.gate_proj",
            "ffn_up" => "mlp.up_proj",
            "ffn_down" => "mlp.down_proj",
            other => panic!("{other}"),
        }
        .to_owned()
    };
    match name {
        "token_embd.weight" => "embed_tokens.weight".into(),
        "output_norm.weight" => "norm.weight".into(),
        name => {
            let (layer, kind) = name.strip_prefix("blk.").unwrap().split_once('.').unwrap();
            format!("layers.{layer}.{}.weight", part(kind.strip_suffix(".weight").unwrap()))
        }
    }
}

/// A folder with a model's weights, in one file or, where `prefix` is given, in three with that before their names.
fn folder_of(gguf: &Gguf, folder: &Path, prefix: Option<&str>) {
    fs::create_dir_all(folder).unwrap();
    let number = |key: &str| gguf.u32(&format!("qwen3.{key}")).unwrap().unwrap();
    let config = json!({
        "model_type": "qwen3", "num_hidden_layers": number("block_count"), "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"), "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"), "head_dim": number("attention.key_length"),
        "max_position_embeddings": number("context_length"), "vocab_size": gguf.tensor_info("token_embd.weight").unwrap().shape.rows(),
        "rms_norm_eps": 1e-6, "rope_theta": 1_000_000, "rope_scaling": null, "attention_bias": false, "tie_word_embeddings": true,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer_json(gguf)).unwrap();

    let tensors: Vec<_> = gguf.tensors().map(|info| gguf.require_tensor(&info.name).unwrap()).collect();
    let views: BTreeMap<String, TensorView> = tensors
        .iter()
        .map(|tensor| {
            let shape: Vec<usize> = tensor.shape.iter().rev().copied().collect();
            let view = TensorView::new(Dtype::F32, shape, &tensor.data).unwrap();
            (format!("{}{}", prefix.unwrap_or_default(), theirs(&tensor.name)), view)
        })
        .collect();
    if prefix.is_none() {
        safetensors::serialize_to_file(&views, None, &folder.join("model.safetensors")).unwrap();
        return;
    }
    let mut map = serde_json::Map::new();
    for part in 0..3 {
        let file = format!("model-0000{}-of-00003.safetensors", part + 1);
        let some: BTreeMap<_, _> =
            views.iter().enumerate().filter(|(i, _)| i % 3 == part).map(|(_, view)| view).collect();
        map.extend(some.keys().map(|name| ((*name).clone(), json!(file))));
        safetensors::serialize_to_file(some, None, &folder.join(file)).unwrap();
    }
    fs::write(folder.join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
}

fn bits(path: &Path) -> Vec<u32> {
    let embedder = Embedder::open(path).unwrap();
    let vectors =
        embedder.embed(&["test", "The capital of China is Beijing.", "重力"], &EmbedOptions::default()).unwrap();
    vectors.as_flat().iter().map(|x| x.to_bits()).collect()
}

/// As Windows programs write them, or a copy through PowerShell.
#[test]
fn json_with_a_byte_order_mark() {
    let original = model(SHAPE_K, "F32");
    let folder = scratch("marks").join("folder");
    folder_of(&Gguf::open(&original).unwrap(), &folder, None);
    for name in ["config.json", "tokenizer.json"] {
        let path = folder.join(name);
        fs::write(&path, format!("\u{feff}{}", fs::read_to_string(&path).unwrap())).unwrap();
    }
    let output = folder.with_extension("gguf");
    let run = convert(&folder, &output, &["--type", "F32"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(bits(&output) == bits(&original));
    fs::remove_file(&output).unwrap();
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    let utf16: Vec<u8> = config.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(folder.join("config.json"), utf16).unwrap();
    refused(&folder, "UTF-16");
}

#[test]
fn one_file_or_many_give_the_same_model() {
    let original = model(SHAPE_K, "F32");
    let gguf = Gguf::open(&original).unwrap();
    let scratch = scratch("same");
    for (name, prefix) in [("one", None), ("many", Some("model."))] {
        let folder = scratch.join(name);
        folder_of(&gguf, &folder, prefix);
        let output = scratch.join(format!("{name}.gguf"));
        let run = convert(&folder, &output, &["--type", "F32"]);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        assert!(bits(&output) == bits(&original), "{name}: vectors differ");
        let made = Gguf::open(&output).unwrap();
        for (key, value) in gguf.metadata().filter(|(key, _)| !["general.name", "general.file_type"].contains(key)) {
            let found = made.get(key).unwrap_or_else(|| panic!("{key} is missing"));
            assert!(found == value, "{key}");
        }
        // Level and quantizer are those of `quantize`.
        let (level, other) = (scratch.join(format!("{name}-q4.gguf")), scratch.join(format!("{name}-q4-direct.gguf")));
        assert!(convert(&folder, &level, &["--type", "Q4_K_M"]).status.success());
        let direct = Command::new(env!("CARGO_BIN_EXE_qembed-q"))
            .args(["quantize", original.to_str().unwrap(), other.to_str().unwrap(), "--type", "Q4_K_M"])
            .output()
            .unwrap();
        assert!(direct.status.success());
        let (level, other) = (Gguf::open(&level).unwrap(), Gguf::open(&other).unwrap());
        for info in other.tensors() {
            let (found, expected) =
                (level.require_tensor(&info.name).unwrap(), other.require_tensor(&info.name).unwrap());
            assert!(found.format == expected.format && found.data == expected.data, "{}", info.name);
        }
    }
}

/// A good folder, for one fault.
fn good(test: &str) -> PathBuf {
    let folder = scratch(test).join("folder");
    folder_of(&Gguf::open(model(SHAPE_K, "F32")).unwrap(), &folder, None);
    folder
}

/// Changes a file's text.
fn edit(path: PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn folders_that_are_no_such_model_are_refused() {
    let config = |test: &str, from: &str, to: &str, why: &str| {
        let folder = good(test);
        edit(folder.join("config.json"), from, to);
        refused(&folder, why);
    };
    config("type", "\"qwen3\"", "\"llama\"", "model_type is \"llama\"");
    config("layers", "\"num_hidden_layers\":2", "\"num_hidden_layers\":3", "blk.2.attn_norm.weight is missing");
    config(
        "fewer",
        "\"num_hidden_layers\":2",
        "\"num_hidden_layers\":1",
        "tensor layers.1.input_layernorm.weight: it is unknown",
    );
    config(
        "width",
        "\"intermediate_size\":256",
        "\"intermediate_size\":512",
        "mlp.down_proj.weight is [256, 256], config.json makes it [512, 256]",
    );
    config("missing", "\"hidden_size\":256,", "", "hidden_size is null");
    config("scaling", "\"rope_scaling\":null", "\"rope_scaling\":{\"rope_type\":\"yarn\"}", "scaled rotary");
    config("vocab", "\"vocab_size\":300", "\"vocab_size\":200", "259 tokens, but config.json");
    config("rows", "\"vocab_size\":300", "\"vocab_size\":4000000000", "config.json makes it [256, 4000000000]");
    config("json", "{", "", "not JSON");

    let folder = good("end");
    edit(folder.join("tokenizer.json"), "<|endoftext|>", "<|end|>");
    refused(&folder, "no token <|endoftext|>");
    let folder = good("weights");
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    refused(&folder, "model.safetensors");
    let folder = good("cut");
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    fs::write(folder.join("model.safetensors"), &bytes[..bytes.len() - 4]).unwrap();
    refused(&folder, "no safetensors");
    let folder = good("pooling");
    fs::create_dir(folder.join("1_Pooling")).unwrap();
    fs::write(folder.join("1_Pooling/config.json"), "{\"pooling_mode_mean_tokens\":true}").unwrap();
    refused(&folder, "last token");

    let folder = good("exists");
    let output = folder.with_extension("gguf");
    fs::write(&output, "mine").unwrap();
    let run = convert(&folder, &output, &[]);
    assert!(String::from_utf8_lossy(&run.stderr).contains("--force"));
    assert_eq!(fs::read(&output).unwrap(), b"mine");
    assert!(convert(&folder, &output, &["--force"]).status.success());
}

/// What `transformers` writes in other ways than the folder of these tests.
#[test]
fn folders_of_other_kinds_give_the_same_model() {
    let original = model(SHAPE_K, "F32");
    let gguf = Gguf::open(&original).unwrap();
    let convert_ok = |folder: &Path| {
        let output = folder.with_extension("gguf");
        let run = convert(folder, &output, &["--type", "F32", "--force"]);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        output
    };
    let folder = good("kinds");
    let expected = bits(&convert_ok(&folder));
    assert!(expected == bits(&original));

    // Transformers 5 has the base in a group.
    edit(folder.join("config.json"), "\"rope_theta\":1000000", "\"rope_parameters\":{\"rope_theta\":1000000}");
    assert!(bits(&convert_ok(&folder)) == expected);

    // More rows than tokens: the rest is filled with tokens that no text has. 300 rows, 259 tokens.
    let made = Gguf::open(convert_ok(&folder)).unwrap();
    let types = made.require_array("tokenizer.ggml.token_type").unwrap();
    let types: Vec<_> = types.iter().map(|value| format!("{:?}", value.unwrap())).collect();
    assert_eq!(types.len(), 300);
    assert!(types[259..].iter().all(|kind| kind == "I32(5)") && types[..256].iter().all(|kind| kind == "I32(1)"));
    assert_eq!(made.u32("tokenizer.ggml.eos_token_id").unwrap(), gguf.u32("tokenizer.ggml.eos_token_id").unwrap());
    drop(made); // Windows replaces no file that is mapped.

    // All tensors in 16 bits, norms as well, and an output matrix, which embeddings do not use.
    for (dtype, level) in [(Dtype::BF16, "BF16"), (Dtype::F16, "F16")] {
        let sixteen = model(SHAPE_K, level);
        let format = if level == "BF16" { Format::BF16 } else { Format::F16 };
        let gguf = Gguf::open(&sixteen).unwrap();
        let tensors: Vec<_> = gguf.tensors().map(|info| gguf.require_tensor(&info.name).unwrap()).collect();
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|tensor| {
                let mut values = vec![0.0; tensor.shape.values()];
                tensor.format.dequantize(&tensor.data, &mut values);
                let mut bytes = vec![0; 2 * values.len()];
                format.quantize(&values, &mut bytes);
                bytes
            })
            .collect();
        let mut views: BTreeMap<String, TensorView> = tensors
            .iter()
            .zip(&bytes)
            .map(|(tensor, bytes)| {
                let shape: Vec<usize> = tensor.shape.iter().rev().copied().collect();
                (format!("model.{}", theirs(&tensor.name)), TensorView::new(dtype, shape, bytes).unwrap())
            })
            .collect();
        views.insert("lm_head.weight".into(), TensorView::new(dtype, vec![1, 2], &[0; 4]).unwrap());
        safetensors::serialize_to_file(&views, None, &folder.join("model.safetensors")).unwrap();
        let made = Gguf::open(convert_ok(&folder)).unwrap();
        for (info, bytes) in gguf.tensors().zip(&bytes) {
            let found = made.require_tensor(&info.name).unwrap();
            let mut values = vec![0.0; found.shape.values()];
            format.dequantize(bytes, &mut values);
            assert_eq!(found.format, Format::F32);
            assert!(
                found.data[..] == values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()[..],
                "{}",
                info.name
            );
        }
    }
}

#[test]
fn weights_that_do_not_fit_together_are_refused() {
    let folder = good("sliding");
    edit(folder.join("config.json"), "\"attention_bias\":false", "\"attention_bias\":true");
    refused(&folder, "attention_bias is true");
    edit(folder.join("config.json"), "\"attention_bias\":true", "\"use_sliding_window\":true");
    refused(&folder, "use_sliding_window is true");

    // The same tensor in two files.
    let folder = scratch("twice").join("folder");
    folder_of(&Gguf::open(model(SHAPE_K, "F32")).unwrap(), &folder, Some("model."));
    let first = folder.join("model-00001-of-00003.safetensors");
    fs::copy(&first, folder.join("model-00004-of-00003.safetensors")).unwrap();
    edit(
        folder.join("model.safetensors.index.json"),
        "{\"weight_map\":{",
        "{\"weight_map\":{\"more\":\"model-00004-of-00003.safetensors\",",
    );
    refused(&folder, "is there twice");

    // What is not finite, and an input as the output.
    let folder = good("infinite");
    let path = folder.join("model.safetensors");
    let before = fs::read(&path).unwrap();
    let run = convert(&folder, &path, &["--force"]);
    assert!(run.status.code() == Some(1) && String::from_utf8_lossy(&run.stderr).contains("is an input"));
    assert!(fs::read(&path).unwrap() == before);
    // The data begins after the header and its length; its middle lies in a matrix.
    let data = 8 + u64::from_le_bytes(*before.first_chunk().unwrap()) as usize;
    let at = data + (before.len() - data) / 2 / 4 * 4;
    let mut bytes = before;
    bytes[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    refused(&folder, "is inf, and only finite weights");
}
