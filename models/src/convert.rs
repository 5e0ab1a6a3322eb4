//! A model folder as Hugging Face has them (config.json, tokenizer.json, safetensors) becomes a GGUF file: the metadata,
//! names and shapes that llama.cpp's `convert_hf_to_gguf.py` gives a Qwen3-Embedding model.

use crate::config::{ARCHITECTURE, Config, tensor_shapes};
use crate::gguf::{GgufBuilder, Shape, Tensor, map_file};
use crate::level::Place;
use crate::quantize::{Quantize, QuantizeError, format_at, refuse, write};
use crate::tokenizer::{TokenizerError, TokenizerJson};
use qembed_kernels::Heads;
use qembed_kernels::formats::Format;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// What ends every text.
const END_OF_TEXT: &str = "<|endoftext|>";
/// `token_type` of tokens that fill the vocabulary up to the rows of its matrix.
const UNUSED: i32 = 5;

/// Why a folder could not be converted. Nothing is left of the output then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the message of a variant is its documentation
pub enum ConvertError {
    #[error("{path}: {problem}")]
    File { path: PathBuf, problem: String },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Write(#[from] QuantizeError),
}

/// Writes the model of a folder to `output` at a level. Weights are read as they are written; their memory does not grow
/// with the model.
///
/// # Errors
/// A file that is missing or damaged, another architecture, a tensor too many or too few, one of the wrong shape, weights
/// that are not finite, and all that [`quantize`](crate::quantize()) finds.
pub fn convert(folder: &Path, output: &Path, options: &Quantize) -> Result<(), ConvertError> {
    let files = weight_files(folder)?;
    let inputs = ["config.json", "tokenizer.json"].into_iter().chain(files.iter().map(String::as_str));
    refuse(inputs.map(|file| folder.join(file)), output, options.force)?;
    let path = folder.join("config.json");
    let json = read_json(&path)?;
    let (config, vocabulary) = read_config(&json).map_err(|problem| ConvertError::File { path, problem })?;
    check_pooling(folder)?;
    let mut found = weights(folder, &files)?;
    let mut builder = metadata(folder, &config, options);
    tokenizer(folder, vocabulary, &mut builder)?;

    let wrong = |problem| ConvertError::File { path: folder.into(), problem };
    let group = config.heads.heads / config.heads.kv_heads;
    let place = Place { layer: 0, layers: config.layers, group, tied: true };
    let mut tensors = Vec::new();
    for (name, mut shape) in tensor_shapes(&config) {
        if name == "token_embd.weight" {
            shape[1] = vocabulary;
        }
        let tensor = found.remove(&name).ok_or_else(|| wrong(format!("tensor {name} is missing")))?;
        if tensor.shape[..] != shape[..] {
            return Err(wrong(format!("tensor {name} is {}, config.json makes it {shape:?}", tensor.shape)));
        }
        let format = match shape.len() {
            1 => Format::F32,
            _ => {
                let own = || format_at(options.level, &name, &tensor, place);
                (options.choose)(&name).unwrap_or_else(own)
            }
        };
        tensors.push((tensor, format));
    }
    if let Some(name) = found.keys().min() {
        return Err(wrong(format!("tensor {name} is unknown: this is no plain Qwen3 model")));
    }
    Ok(write(builder, &tensors, output, options)?)
}

fn read_json(path: &Path) -> Result<Value, ConvertError> {
    let fail = |problem: String| ConvertError::File { path: path.into(), problem };
    let text = crate::text::read(path).map_err(|error| fail(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| fail(format!("not JSON: {error}")))
}

/// The hyperparameters and the rows of the vocabulary's matrix.
fn read_config(json: &Value) -> Result<(Config, usize), String> {
    if json["model_type"] != ARCHITECTURE {
        return Err(format!("model_type is {}, only \"{ARCHITECTURE}\" can be converted", json["model_type"]));
    }
    let size = |key: &str| match json[key].as_u64() {
        Some(n) if n > 0 && u32::try_from(n).is_ok() => Ok(n as usize),
        _ => Err(format!("{key} is {}, a positive number is needed", json[key])),
    };
    let positive = |key: &str, value: &Value| match value.as_f64() {
        Some(x) if x > 0.0 && x.is_finite() => Ok(x as f32),
        _ => Err(format!("{key} is {value}, a positive number is needed")),
    };
    let scaling = &json["rope_scaling"];
    let kind = if scaling["rope_type"].is_null() { &scaling["type"] } else { &scaling["rope_type"] };
    if !scaling.is_null() && kind != "default" {
        return Err(format!("rope_scaling is {scaling}: scaled rotary embeddings are not supported"));
    }
    for (key, refused) in [("attention_bias", true), ("use_sliding_window", true)] {
        if json[key] == refused {
            return Err(format!("{key} is {refused}, which is not supported"));
        }
    }
    let (hidden, heads) = (size("hidden_size")?, size("num_attention_heads")?);
    let kv_heads = size("num_key_value_heads")?;
    let head_dim = if json["head_dim"].is_null() { hidden / heads } else { size("head_dim")? };
    if heads % kv_heads != 0 || head_dim % 2 != 0 || head_dim == 0 {
        return Err(format!("{heads} heads over {kv_heads} of width {head_dim} cannot be"));
    }
    let base = &json["rope_theta"];
    // Transformers 5 writes it into a group of its own.
    let base = if base.is_null() { &json["rope_parameters"]["rope_theta"] } else { base };
    let config = Config {
        layers: size("num_hidden_layers")?,
        hidden,
        ffn: size("intermediate_size")?,
        heads: Heads { heads, kv_heads, head_dim },
        context: size("max_position_embeddings")?,
        eps: positive("rms_norm_eps", &json["rms_norm_eps"])?,
        rope_base: positive("rope_theta", base)?,
    };
    Ok((config, size("vocab_size")?))
}

/// A folder of sentence-transformers says how it pools; only the last token is right.
fn check_pooling(folder: &Path) -> Result<(), ConvertError> {
    let path = folder.join("1_Pooling").join("config.json");
    if path.exists() && read_json(&path)?["pooling_mode_lasttoken"] != true {
        let problem = "the model does not pool its last token, which is all that can be run".into();
        return Err(ConvertError::File { path, problem });
    }
    Ok(())
}

/// The names of the safetensors files.
fn weight_files(folder: &Path) -> Result<BTreeSet<String>, ConvertError> {
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(["model.safetensors".to_owned()].into());
    }
    let json = read_json(&index)?;
    let map = json["weight_map"].as_object();
    let problem = || ConvertError::File { path: index.clone(), problem: "there is no weight_map".into() };
    Ok(map.ok_or_else(problem)?.values().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// All tensors under their GGUF names, as slices of the mapped files. The output matrix is left out: it is the token
/// matrix, or of no use to embeddings.
fn weights(folder: &Path, files: &BTreeSet<String>) -> Result<HashMap<String, Tensor>, ConvertError> {
    let mut tensors = HashMap::new();
    for file in files {
        let path = folder.join(file);
        let fail = |problem: String| ConvertError::File { path: path.clone(), problem };
        let bytes = map_file(&path).map_err(|error| fail(error.to_string()))?;
        let parsed = SafeTensors::deserialize(&bytes).map_err(|error| fail(format!("no safetensors: {error}")))?;
        for (name, view) in parsed.iter() {
            let own = name.strip_prefix("model.").unwrap_or(name);
            if own == "lm_head.weight" {
                continue;
            }
            let format = match view.dtype() {
                Dtype::F32 => Format::F32,
                Dtype::F16 => Format::F16,
                Dtype::BF16 => Format::BF16,
                other => return Err(fail(format!("tensor {name} is {other:?}; F32, F16 and BF16 can be read"))),
            };
            let gguf = gguf_name(own)
                .ok_or_else(|| fail(format!("tensor {name} is unknown: this is no plain Qwen3 model")))?;
            let dims: Vec<u64> = view.shape().iter().rev().map(|dim| *dim as u64).collect();
            let shape = Shape::new(&gguf, &dims).map_err(|error| fail(error.to_string()))?;
            let tensor = Tensor { name: gguf.clone(), shape, format, data: bytes.slice_ref(view.data()) };
            if tensors.insert(gguf, tensor).is_some() {
                return Err(fail(format!("tensor {name} is there twice")));
            }
        }
    }
    Ok(tensors)
}

/// The GGUF name of a tensor of `transformers`' `Qwen3Model`.
fn gguf_name(name: &str) -> Option<String> {
    let top = match name {
        "embed_tokens.weight" => Some("token_embd.weight"),
        "norm.weight" => Some("output_norm.weight"),
        _ => None,
    };
    if let Some(top) = top {
        return Some(top.into());
    }
    let (layer, part) = name.strip_prefix("layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let part = match part.strip_suffix(".weight")? {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.weight"))
}

fn metadata(folder: &Path, config: &Config, options: &Quantize) -> GgufBuilder {
    let mut builder = GgufBuilder::new();
    let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    builder.set("general.architecture", ARCHITECTURE);
    builder.set("general.type", "model");
    builder.set("general.name", name.unwrap_or_else(|| "model".into()));
    builder.set("general.file_type", options.level.file_type());
    builder.set("general.quantization_version", 2u32);
    let mut set = |name: &str, value: usize| {
        builder.set(&format!("{ARCHITECTURE}.{name}"), value as u32);
    };
    set("block_count", config.layers);
    set("context_length", config.context);
    set("embedding_length", config.hidden);
    set("feed_forward_length", config.ffn);
    set("attention.head_count", config.heads.heads);
    set("attention.head_count_kv", config.heads.kv_heads);
    set("attention.key_length", config.heads.head_dim);
    set("attention.value_length", config.heads.head_dim);
    set("pooling_type", 3);
    builder.set(&format!("{ARCHITECTURE}.rope.freq_base"), config.rope_base);
    builder.set(&format!("{ARCHITECTURE}.attention.layer_norm_rms_epsilon"), config.eps);
    builder
}

/// The tokenizer's strings, with as many tokens as the matrix has rows.
fn tokenizer(folder: &Path, vocabulary: usize, builder: &mut GgufBuilder) -> Result<(), ConvertError> {
    let path = folder.join("tokenizer.json");
    let TokenizerJson { mut tokens, mut token_types, merges } = TokenizerJson::read(&path)?;
    let fail = |problem: String| ConvertError::File { path: path.clone(), problem };
    if tokens.len() > vocabulary {
        return Err(fail(format!("{} tokens, but config.json has a vocab_size of {vocabulary}", tokens.len())));
    }
    let Some(end) = tokens.iter().position(|token| token == END_OF_TEXT) else {
        return Err(fail(format!("there is no token {END_OF_TEXT}, which ends every text")));
    };
    for i in tokens.len()..vocabulary {
        tokens.push(format!("[PAD{i}]"));
        token_types.push(UNUSED);
    }
    builder.set("tokenizer.ggml.model", "gpt2");
    builder.set("tokenizer.ggml.pre", "qwen2");
    builder.set("tokenizer.ggml.tokens", tokens);
    builder.set("tokenizer.ggml.token_type", token_types);
    builder.set("tokenizer.ggml.merges", merges);
    builder.set("tokenizer.ggml.eos_token_id", end as u32);
    builder.set("tokenizer.ggml.padding_token_id", end as u32);
    builder.set("tokenizer.ggml.add_bos_token", false);
    builder.set("tokenizer.ggml.add_eos_token", true);
    Ok(())
}
