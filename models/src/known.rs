//! What of a GGUF file has been understood. The loader refuses whatever else could change a vector.
//!
//! The allow-list: [`KEYS`] and [`TENSORS`]. A key that is not on it is refused if its namespace is judged
//! ([`is_judged`]) and its value says something; so is every tensor that is neither part of the model nor on the list.
//! `docs/understood.md` is made of these tables (`qembed-q inspect --keys`). The keys: gguf-py `constants.py` of
//! llama.cpp, and its `llama-arch.cpp`.

use crate::config::{ARCHITECTURE, PARTS};
use crate::gguf::{Gguf, Quoted, Value};
use std::fmt;

/// A metadata key that has been understood.
pub struct KnownKey {
    /// Its name; with `*` at its end, all that begin so.
    pub name: &'static str,
    /// What the loader does with it.
    pub treatment: Treatment,
    /// What it is about; of [`Treatment::Unless`] why other values are refused.
    pub note: &'static str,
}

impl KnownKey {
    fn covers(&self, name: &str) -> bool {
        self.name.strip_suffix('*').map_or(self.name == name, |start| name.starts_with(start))
    }
}

/// What the loader does with a key.
pub enum Treatment {
    /// Reads it and does as it says.
    Honoured,
    /// Does the same whatever it says, with a warning where that is another thing.
    Warned,
    /// Passes over it: it changes no vector.
    Ignored,
    /// Refuses it unless its value changes nothing.
    Unless {
        /// Which values those are.
        words: &'static str,
        /// Whether the value of this file's key is one.
        holds: fn(&Value, &Gguf) -> bool,
    },
}

use Treatment::{Honoured, Ignored, Warned};

const fn key(name: &'static str, treatment: Treatment, note: &'static str) -> KnownKey {
    KnownKey { name, treatment, note }
}

const fn unless(
    name: &'static str,
    words: &'static str,
    holds: fn(&Value, &Gguf) -> bool,
    note: &'static str,
) -> KnownKey {
    key(name, Treatment::Unless { words, holds }, note)
}

const SCALED_ROPE: &str = "scaled rotary embeddings are not supported";
const WINDOWED: &str = "attention in a window is not supported";
const RERANKER: &str = "this is a reranker, which scores pairs of texts and has no vectors to give; \
                        get a Qwen3-Embedding file";
const ADAPTER: &str = "this is an adapter: merge it into its model first, and convert the result";
const PROJECTION: &str = "a projection after pooling is not supported";
const SPECIAL: &str = "the id of a special token that embedding does not use";
const UNKNOWN: &str = "it is not known here, and may change every vector";

/// The keys of judged namespaces that have been understood.
pub const KEYS: &[KnownKey] = &[
    unless("general.type", "model", |value, _| is_text(value, &["model"]), "only whole models can be run"),
    key("qwen3.attention.head_count", Honoured, "attention heads"),
    key("qwen3.attention.head_count_kv", Honoured, "key-value heads"),
    key("qwen3.attention.key_length", Honoured, "width of a head"),
    key("qwen3.attention.layer_norm_rms_epsilon", Honoured, "epsilon of every norm"),
    key("qwen3.attention.value_length", Honoured, "must equal attention.key_length"),
    key("qwen3.block_count", Honoured, "layers"),
    key("qwen3.context_length", Honoured, "longest text"),
    key("qwen3.embedding_length", Honoured, "width of the model"),
    key("qwen3.feed_forward_length", Honoured, "width of the feed-forward layer"),
    key("qwen3.rope.dimension_count", Honoured, "must equal attention.key_length"),
    key("qwen3.rope.freq_base", Honoured, "base of the rotary angles"),
    unless(
        "qwen3.attention.causal",
        "true",
        |value, _| number(value) == Some(1.0),
        "attention in both directions is not supported",
    ),
    key("qwen3.attention.layer_norm_epsilon", Ignored, "of norms that Qwen3 does not have"),
    unless(
        "qwen3.attention.scale",
        "0 or 1 / √(head width)",
        |value, gguf| number(value).is_some_and(|scale| scale == 0.0 || is_usual_scale(scale, gguf)),
        "only the usual scale of attention is supported",
    ),
    unless(
        "qwen3.attention.sliding_window",
        "0 or the whole context",
        |value, gguf| number(value).is_some_and(|window| window == 0.0 || window >= context(gguf)),
        WINDOWED,
    ),
    unless("qwen3.attention.sliding_window_pattern", "false or 0", |value, _| is_zero(value), WINDOWED),
    unless("qwen3.activation_sparsity_scale", "0", |value, _| is_zero(value), UNKNOWN),
    unless("qwen3.classifier.output_labels", "empty", |value, _| is_zero(value), RERANKER),
    unless("qwen3.dense_2_feat_in", "0", |value, _| is_zero(value), PROJECTION),
    unless("qwen3.dense_2_feat_out", "0", |value, _| is_zero(value), PROJECTION),
    unless("qwen3.dense_3_feat_in", "0", |value, _| is_zero(value), PROJECTION),
    unless("qwen3.dense_3_feat_out", "0", |value, _| is_zero(value), PROJECTION),
    unless(
        "qwen3.embedding_length_out",
        "0 or embedding_length",
        |value, gguf| is_zero(value) || number(value) == of(gguf, "embedding_length"),
        PROJECTION,
    ),
    key("qwen3.final_logit_softcapping", Ignored, "of logits, which an embedding does not use"),
    key("qwen3.logit_scale", Ignored, "of logits, which an embedding does not use"),
    key("qwen3.mradermacher.*", Ignored, "a vendor's notes, as a later program renamed them"),
    unless(
        "qwen3.pooling_type",
        "3 (last token) or -1 (not said)",
        |value, _| matches!(number(value), Some(3.0 | -1.0)),
        "only pooling of the last token is supported",
    ),
    key("qwen3.quantize.*", Ignored, "how the file was quantized, as a later program renamed it"),
    unless("qwen3.rope.scale_linear", "0 or 1", |value, _| is_zero_or_one(value), SCALED_ROPE),
    unless("qwen3.rope.scaling.alpha", "0 or 1", |value, _| is_zero_or_one(value), SCALED_ROPE),
    unless("qwen3.rope.scaling.attn_factor", "0 or 1", |value, _| is_zero_or_one(value), SCALED_ROPE),
    unless("qwen3.rope.scaling.factor", "0 or 1", |value, _| is_zero_or_one(value), SCALED_ROPE),
    key("qwen3.rope.scaling.finetuned", Ignored, "how scaling was trained; scaling itself is refused"),
    key("qwen3.rope.scaling.original_context_length", Ignored, "where scaling begins; scaling itself is refused"),
    unless(
        "qwen3.rope.scaling.type",
        "none, or linear or yarn by a factor of 1",
        |value, gguf| {
            is_text(value, &["none"])
                || is_text(value, &["linear", "yarn"]) && of(gguf, "rope.scaling.factor") == Some(1.0)
        },
        SCALED_ROPE,
    ),
    unless("qwen3.rope.scaling.yarn_attn_factor", "0 or 1", |value, _| is_zero_or_one(value), SCALED_ROPE),
    key("qwen3.rope.scaling.yarn_beta_fast", Ignored, "where scaling acts; scaling itself is refused"),
    key("qwen3.rope.scaling.yarn_beta_slow", Ignored, "where scaling acts; scaling itself is refused"),
    key("qwen3.rope.scaling.yarn_ext_factor", Ignored, "where scaling acts; scaling itself is refused"),
    unless(
        "qwen3.tensor_data_layout",
        "reference",
        |value, _| is_text(value, &["reference"]),
        "another order of weights is not supported",
    ),
    key("qwen3.vocab_size", Ignored, "the rows of token_embd.weight count"),
    key("tokenizer.ggml.merges", Honoured, "merges, best first"),
    key("tokenizer.ggml.model", Honoured, "must be gpt2: byte-level BPE"),
    key("tokenizer.ggml.pre", Honoured, "must be qwen2: how text is split"),
    key("tokenizer.ggml.token_type", Honoured, "which tokens are special"),
    key("tokenizer.ggml.tokens", Honoured, "the vocabulary"),
    key("tokenizer.ggml.add_bos_token", Warned, "no token is put before a text"),
    key("tokenizer.ggml.add_eos_token", Warned, "<|endoftext|> ends every text"),
    key("tokenizer.ggml.eos_token_id", Warned, "<|endoftext|> ends every text"),
    key("tokenizer.ggml.bos_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.bos_token_ids", Ignored, "which tokens begin a chat"),
    key("tokenizer.ggml.cls_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.eom_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.eos_token_ids", Ignored, "which tokens end a chat"),
    key("tokenizer.ggml.eot_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.fim_mid_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.fim_pad_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.fim_pre_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.fim_rep_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.fim_sep_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.fim_suf_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.mask_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.middle_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.padding_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.prefix_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.scores", Ignored, "for other kinds of tokenizers"),
    key("tokenizer.ggml.seperator_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.suffix_token_id", Ignored, SPECIAL),
    key("tokenizer.ggml.unknown_token_id", Ignored, SPECIAL),
];

/// The tensors that an embedding has no use for: what makes logits.
pub const TENSORS: &[&str] = &["output.weight", "output.bias"];

type Fits = fn(&str) -> bool;

/// Why tensors with such names are refused, the first that fits.
const TENSOR_NOTES: &[(Fits, &str)] = &[
    (|name| name.contains(".lora_") || name.contains("lora_a") || name.contains("lora_b"), ADAPTER),
    (|name| name.starts_with("cls.") || name.starts_with("cls_"), RERANKER),
    (|name| name.starts_with("dense"), PROJECTION),
    (|name| name.starts_with("rope_"), SCALED_ROPE),
    (|name| name.ends_with(".bias"), "Qwen3 models have no biases"),
];

/// Whether a key could change a vector: it belongs to the model's architecture, its tokenizer, or an adapter. Others, such
/// as `general.tags` or those of a vendor, are for people and other programs.
pub fn is_judged(key: &str) -> bool {
    let own = |namespace: &str| key.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('.'));
    key == "general.type" || own(ARCHITECTURE) || own("adapter") || own("tokenizer.ggml")
}

/// Whether the file calls itself a reranker: those of old converters have no other mark.
pub fn is_called_reranker(gguf: &Gguf) -> bool {
    let says = |key| matches!(gguf.get(key), Some(Value::Str(name)) if name.to_ascii_lowercase().contains("reranker"));
    says("general.name") || says("general.basename")
}

/// A key or a tensor that has not been understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// The name by which it can be allowed.
    pub name: String,
    /// Whether it is a tensor.
    pub is_tensor: bool,
    found: String,
    why: &'static str,
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.found, self.why)
    }
}

/// What has not been understood, by the reason, the first few of each.
pub(crate) fn summary(items: &[NotUnderstood]) -> String {
    const SHOWN: usize = 4;
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for item in items {
        match reasons.iter_mut().find(|(why, _)| *why == item.why) {
            Some((_, found)) => found.push(&item.found),
            None => reasons.push((item.why, vec![&item.found])),
        }
    }
    let line = |(why, found): (&str, Vec<&str>)| {
        let more = if found.len() > SHOWN { format!(", and {} more", found.len() - SHOWN) } else { String::new() };
        format!("{}{more}: {why}", found[..found.len().min(SHOWN)].join(", "))
    };
    reasons.into_iter().map(line).collect::<Vec<_>>().join("; ")
}

/// All that has not been understood of a Qwen3 file, in its order. Of another architecture it is nothing: such a file is
/// refused as a whole.
pub fn not_understood(gguf: &Gguf) -> Vec<NotUnderstood> {
    if !gguf.get("general.architecture").is_some_and(|value| is_text(&value, &[ARCHITECTURE])) {
        return Vec::new();
    }
    let keys = gguf.metadata().filter_map(|(name, value)| judge_key(name, &value, gguf));
    keys.chain(gguf.tensors().filter(|info| !is_known_tensor(&info.name, gguf)).map(|info| NotUnderstood {
        name: info.name.clone(),
        is_tensor: true,
        found: format!("tensor {} {}", Quoted::new(&info.name).as_str(), info.shape),
        why: TENSOR_NOTES.iter().find(|(fits, _)| fits(&info.name)).map_or(UNKNOWN, |(_, why)| why),
    }))
    .collect()
}

fn judge_key(name: &str, value: &Value, gguf: &Gguf) -> Option<NotUnderstood> {
    let why = match KEYS.iter().find(|key| key.covers(name)) {
        Some(KnownKey { treatment: Treatment::Unless { holds, .. }, note, .. }) => {
            if holds(value, gguf) || says_nothing_at_all(value) {
                return None;
            }
            match (name, number(value)) {
                ("qwen3.pooling_type", Some(4.0)) => RERANKER,
                ("general.type", _) if is_text(value, &["adapter"]) => ADAPTER,
                _ => note,
            }
        }
        Some(_) => return None,
        None if !is_judged(name) || is_zero(value) || is_factor(name) && is_zero_or_one(value) => return None,
        None if name.starts_with("adapter.") => ADAPTER,
        None => UNKNOWN,
    };
    let found = format!("metadata {} is {value}", Quoted::new(name).as_str());
    Some(NotUnderstood { name: name.into(), is_tensor: false, found, why })
}

/// Whether a tensor is part of the model, or of no use to it.
fn is_known_tensor(name: &str, gguf: &Gguf) -> bool {
    let in_layer = || {
        let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
        let number: u32 = layer.parse().ok()?;
        // As the loader writes it: `blk.01.` is none of its names.
        let own = number.to_string() == layer && PARTS.contains(&part.strip_suffix(".weight")?);
        Some(own && f64::from(number) < of(gguf, "block_count")?)
    };
    ["token_embd.weight", "output_norm.weight"].contains(&name)
        || TENSORS.contains(&name)
        || in_layer().unwrap_or(false)
}

/// A number of the model's own namespace.
fn of(gguf: &Gguf, name: &str) -> Option<f64> {
    gguf.get(&format!("{ARCHITECTURE}.{name}")).and_then(|value| number(&value))
}

fn context(gguf: &Gguf) -> f64 {
    of(gguf, "context_length").unwrap_or(f64::INFINITY)
}

/// Whether attention is scaled as it always is, to the precision of an f32.
fn is_usual_scale(scale: f64, gguf: &Gguf) -> bool {
    let width = of(gguf, "attention.key_length")
        .or_else(|| Some(of(gguf, "embedding_length")? / of(gguf, "attention.head_count")?));
    width.is_some_and(|width| (scale * width.sqrt() - 1.0).abs() < f64::from(f32::EPSILON))
}

/// A number or a bool; of an array in which all are equal, that one.
fn number(value: &Value) -> Option<f64> {
    match value.single()? {
        Value::Bool(value) => Some(value.into()),
        value => value.as_number(),
    }
}

fn is_text(value: &Value, texts: &[&str]) -> bool {
    matches!(value, Value::Str(text) if texts.contains(text))
}

fn says_nothing_at_all(value: &Value) -> bool {
    is_text(value, &[""])
}

/// False, 0, an empty text, or an array of nothing else.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Array(array) => array.iter().all(|value| value.is_ok_and(|value| is_zero(&value))),
        value => is_text(value, &[""]) || number(value) == Some(0.0),
    }
}

fn is_zero_or_one(value: &Value) -> bool {
    is_zero(value) || number(value) == Some(1.0) && !matches!(value, Value::Bool(_))
}

/// Whether the name is that of something to multiply by.
fn is_factor(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.split('_').any(|word| ["scale", "factor", "multiplier"].contains(&word))
}
