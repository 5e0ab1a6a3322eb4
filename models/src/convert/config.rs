//! Hyperparameters from `config.json`, in the words of transformers 4 and 5 and with their defaults.

use super::judge::{Judge, says_nothing, shown};
use super::keys::{CONFIG, ROPE};
use crate::config::{ARCHITECTURE, Config, MAX_LAYERS};
use qembed_kernels::Heads;
use serde_json::Value;
use std::path::Path;

/// Judges all keys of a `config.json`.
///
/// # Errors
/// Another architecture: there is no need to look further.
pub(super) fn judge(path: &Path, json: &Value, judge: &mut Judge) -> Result<(), String> {
    if json["model_type"] != ARCHITECTURE {
        return Err(format!("model_type is {}, only \"{ARCHITECTURE}\" can be converted", shown(&json["model_type"])));
    }
    judge.keys(path, "", json, &CONFIG);
    for name in ["rope_scaling", "rope_parameters"] {
        judge_rope(path, name, &json[name], judge);
    }
    let (scaling, parameters) = (&json["rope_scaling"], &json["rope_parameters"]);
    if !says_nothing(scaling) && !says_nothing(parameters) && scaling != parameters {
        judge.refuse_value(
            path,
            "rope_scaling",
            scaling,
            "rope_parameters says something else, and only one can count",
        );
    }
    let layers = json["layer_types"].as_array().map(|types| Value::from(types.len()));
    if let Some(listed) = layers.filter(|listed| *listed != json["num_hidden_layers"]) {
        let why = format!("num_hidden_layers is {}", shown(&json["num_hidden_layers"]));
        judge.refuse(path, "layer_types", format!("layer_types has {listed} layers: {why}"));
    }
    Ok(())
}

fn judge_rope(path: &Path, name: &str, group: &Value, judge: &mut Judge) {
    if says_nothing(group) {
        return;
    }
    judge.keys(path, name, group, &ROPE);
    judge_rope(path, &format!("{name}.full_attention"), &group["full_attention"], judge);
}

/// The hyperparameters and the rows of the vocabulary's matrix.
///
/// # Errors
/// A value that is missing, or that no such model can have.
pub(super) fn read(json: &Value) -> Result<(Config, usize), String> {
    let size = |key: &str, default: Option<usize>| match (&json[key], default) {
        (Value::Null, Some(default)) => Ok(default),
        (value, _) => match value.as_f64() {
            Some(n) if n >= 1.0 && n <= f64::from(u32::MAX) && n.fract() == 0.0 => Ok(n as usize),
            _ => Err(format!("{key} is {}, a positive number is needed", shown(value))),
        },
    };
    let (hidden, heads) = (size("hidden_size", None)?, size("num_attention_heads", None)?);
    // Written as null it is that of the attention heads, not the default.
    let all = json.get("num_key_value_heads").map_or(32, |_| heads);
    let (kv_heads, head_dim) = (size("num_key_value_heads", Some(all))?, size("head_dim", Some(128))?);
    if heads % kv_heads != 0 || head_dim % 2 != 0 {
        return Err(format!("{heads} heads over {kv_heads} of width {head_dim} cannot be"));
    }
    let layers = size("num_hidden_layers", None)?;
    if layers > MAX_LAYERS {
        return Err(format!("num_hidden_layers is {layers}, the limit is {MAX_LAYERS}"));
    }
    let eps = json.get("rms_norm_eps").cloned().unwrap_or_else(|| 1e-6.into());
    let config = Config {
        layers,
        hidden,
        ffn: size("intermediate_size", None)?,
        heads: Heads { heads, kv_heads, head_dim },
        context: size("max_position_embeddings", Some(32768))?,
        eps: positive("rms_norm_eps", &eps)?,
        rope_base: rope_base(json)?,
    };
    Ok((config, size("vocab_size", None)?))
}

fn positive(name: &str, value: &Value) -> Result<f32, String> {
    match value.as_f64().map(|x| x as f32) {
        Some(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err(format!("{name} is {}, a positive number is needed", shown(value))),
    }
}

/// The base of the rotary embedding, which stands in one of several places, or in many when they agree.
fn rope_base(json: &Value) -> Result<f32, String> {
    let mut found: Option<(String, f32)> = None;
    for group in
        ["", "/rope_scaling", "/rope_scaling/full_attention", "/rope_parameters", "/rope_parameters/full_attention"]
    {
        let pointer = format!("{group}/rope_theta");
        let name = pointer[1..].replace('/', ".");
        let Some(value) = json.pointer(&pointer).filter(|value| !value.is_null()) else { continue };
        let base = positive(&name, value)?;
        if let Some((other, known)) = found.as_ref().filter(|(_, known)| *known != base) {
            return Err(format!("{name} is {base}, but {other} is {known}: only one can be right"));
        }
        found = Some((name, base));
    }
    match found {
        Some((_, base)) => Ok(base),
        None if json.get("rope_theta").is_some() => positive("rope_theta", &Value::Null),
        None => Ok(10_000.0),
    }
}
