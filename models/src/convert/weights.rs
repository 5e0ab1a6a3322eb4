//! The safetensors files of a folder, under the names that a GGUF file has.

use super::judge::Judge;
use super::{ConvertError, fail, read_json};
use crate::gguf::{Shape, Tensor, map_file};
use crate::json::GitLfsPointer;
use qembed_kernels::formats::Format;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

const ONE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
const ADAPTERS: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];

/// Refuses an adapter, which would change the weights beside it.
///
/// # Errors
/// There is nothing but an adapter.
pub(super) fn judge_adapter(folder: &Path, judge: &mut Judge) -> Result<(), ConvertError> {
    let Some(name) = ADAPTERS.into_iter().find(|name| folder.join(name).exists()) else { return Ok(()) };
    let path = folder.join(name);
    if !folder.join("config.json").exists() {
        let base = read_json(&folder.join(ADAPTERS[0])).unwrap_or_default();
        let base = base["base_model_name_or_path"].as_str().unwrap_or("its base model");
        let problem = format!("the folder has only an adapter: merge it into {base} first, and convert the result");
        return Err(fail(&path)(problem));
    }
    judge.refuse(&path, name, "there is an adapter, which changes the weights: merge it into them first");
    Ok(())
}

/// The safetensors files.
///
/// # Errors
/// There are none, or it is not clear which they are.
pub(super) fn files(folder: &Path) -> Result<BTreeSet<PathBuf>, ConvertError> {
    let (one, index) = (folder.join(ONE), folder.join(INDEX));
    if !index.exists() {
        if !one.exists() && folder.join("pytorch_model.bin").exists()
            || folder.join("pytorch_model.bin.index.json").exists()
        {
            let problem = "the weights are there only as pytorch_model.bin: save the model with safetensors first";
            return Err(fail(&one)(problem));
        }
        return Ok([one].into());
    }
    let json = read_json(&index)?;
    let map = json["weight_map"].as_object().ok_or_else(|| fail(&index)("there is no weight_map"))?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    if one.exists() && !names.contains(ONE) {
        return Err(fail(&index)(format!(
            "it does not name {ONE}, which is there too: remove the one that is not meant"
        )));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// The tensors of `names` that are there, as slices of the mapped files. Others are refused, save those of no use to an
/// embedding.
pub(super) fn read(
    files: &BTreeSet<PathBuf>,
    names: &HashMap<&str, &[usize]>,
    judge: &mut Judge,
) -> Result<HashMap<String, Tensor>, ConvertError> {
    let mut tensors = HashMap::new();
    for path in files {
        let bytes = map_file(path).map_err(fail(path))?;
        GitLfsPointer::refuse(&bytes).map_err(fail(path))?;
        let parsed = SafeTensors::deserialize(&bytes).map_err(fail(path))?;
        let mut views: Vec<_> = parsed.iter().collect();
        views.sort_unstable_by_key(|(name, _)| *name);
        for (name, view) in views {
            let own = name.strip_prefix("model.").unwrap_or(name);
            if is_of_no_use(own) {
                continue;
            }
            let Some(gguf) = gguf_name(own).filter(|gguf| names.contains_key(gguf.as_str())) else {
                let why = if own.starts_with("score.") { "it makes a classifier or reranker" } else { "it is unknown" };
                judge.refuse(path, name, format!("tensor {name}: {why}; this is no plain Qwen3 model"));
                continue;
            };
            let format = match view.dtype() {
                Dtype::F32 => Format::F32,
                Dtype::F16 => Format::F16,
                Dtype::BF16 => Format::BF16,
                other => return Err(fail(path)(format!("tensor {name} is {other:?}; F32, F16 and BF16 can be read"))),
            };
            let dims: Vec<u64> = view.shape().iter().rev().map(|dim| *dim as u64).collect();
            let shape = Shape::new(&gguf, &dims).map_err(fail(path))?;
            let expected = names[gguf.as_str()];
            if shape[..] != expected[..] {
                let problem = format!("tensor {name} is {shape}, config.json makes it {expected:?}");
                return Err(fail(path)(problem));
            }
            let tensor = Tensor { name: gguf.clone(), shape, format, data: bytes.slice_ref(view.data()) };
            if tensors.insert(gguf, tensor).is_some() {
                return Err(fail(path)(format!("tensor {name} is there twice")));
            }
        }
    }
    Ok(tensors)
}

/// The output matrix, which is the token matrix or predicts the next token, and angles that old checkpoints stored.
fn is_of_no_use(name: &str) -> bool {
    name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq")
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
