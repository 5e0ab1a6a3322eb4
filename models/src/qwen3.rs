//! The Qwen3 transformer as an embedding model: the last token of each text, after the final norm.
//!
//! Written once over [`Backend`]; "Qwen3 Technical Report" (2025) has the architecture, "Qwen3 Embedding" (2025) the
//! pooling. In reading order: the weights, how they are found in a file; the forward pass is in [`forward`].

pub(crate) mod forward;

use crate::config::Config;
use crate::error::ModelError;
use crate::gguf::{Gguf, Tensor};
use crate::known::{NotUnderstood, not_understood};
use qembed_kernels::{Backend, Precision, WeightError};

/// The first layers, one of so many and at least one, run in high precision: what they round away passes through all
/// others. On random 4B weights in Q4_K_M, the worst case for this, 1 − cosine to the float32 reference falls from 0.0012
/// to 0.0005 with one such layer of 36, 0.0003 with two and 0.0002 with four. The 0.6B model, of 28 layers, has one, the larger
/// ones two.
const PRECISE_PART: usize = 32;

/// A Qwen3 model whose weights lie in the mapping of their file.
pub struct Qwen3<B: Backend> {
    backend: B,
    config: Config,
    /// [vocabulary × hidden]; only rows that a text names are ever read
    token_embd: B::Table,
    vocabulary: usize,
    layers: Vec<Layer<B>>,
    /// [hidden]
    output_norm: B::Vector,
    allowed: Vec<NotUnderstood>,
}

/// One transformer layer. H is hidden, Q is heads · head_dim, KV is kv_heads · head_dim, F is ffn.
struct Layer<B: Backend> {
    attn_norm: B::Vector,   // [H]
    attn_q: B::Weight,      // [Q × H]
    attn_k: B::Weight,      // [KV × H]
    attn_v: B::Weight,      // [KV × H]
    attn_q_norm: B::Vector, // [head_dim]
    attn_k_norm: B::Vector, // [head_dim]
    attn_output: B::Weight, // [H × Q]
    ffn_norm: B::Vector,    // [H]
    ffn_gate: B::Weight,    // [F × H]
    ffn_up: B::Weight,      // [F × H]
    ffn_down: B::Weight,    // [H × F]
    /// The forms in which these weights consume their inputs: `h`, `context` and `f` of [`forward::Buffers`].
    forms: [B::Form; 3],
}

impl<B: Backend> Qwen3<B> {
    /// Finds the weights of a Qwen3 model in a file and hands them to `backend`; nothing is read but the header and
    /// the norm vectors. Keys and tensors that are not understood are passed over if `allow` names them.
    ///
    /// # Errors
    /// Wrong architecture or hyperparameters, a missing tensor, one of the wrong shape or an unknown type, or a key or
    /// tensor that is not understood: rather no vector than a wrong one. A device that cannot read the file.
    pub fn load(gguf: &Gguf, backend: B, allow: &[String]) -> Result<Self, ModelError> {
        let (allowed, refused): (Vec<_>, Vec<_>) =
            not_understood(gguf).into_iter().partition(|item| allow.contains(&item.name));
        let config = Config::read(gguf);
        // Without hyperparameters nobody knows which tensors belong to the model.
        if refused.iter().any(|item| config.is_ok() || !item.is_tensor) {
            return Err(ModelError::NotUnderstood(refused));
        }
        let config = config?;
        let (hidden, ffn, head_dim) = (config.hidden, config.ffn, config.heads.head_dim);
        let (q, kv) = (config.heads.heads * head_dim, config.heads.kv_heads * head_dim);
        let vector = |name: &str, len| vector(gguf, &backend, name, len);
        gguf.mapped().try_for_each(|mapping| backend.adopt(mapping))?;

        // Checked for its row length only: files pad their vocabulary differently.
        let vocabulary = gguf.require_tensor("token_embd.weight")?.shape.rows();
        let tensor = shaped(gguf, "token_embd.weight", &[hidden, vocabulary])?;
        let token_embd = (backend.table(tensor.format, tensor.data, vocabulary, hidden))
            .map_err(|source| ModelError::Weight { name: "token_embd.weight".into(), source })?;
        // Grows as tensors are found, so a false count allocates nothing.
        let mut layers = Vec::new();
        for i in 0..config.layers {
            let name = |part: &str| format!("blk.{i}.{part}.weight");
            let precision =
                if i < config.layers.div_ceil(PRECISE_PART) { Precision::High } else { Precision::Standard };
            let weight = |name: &str, n, k| weight(gguf, &backend, name, n, k, precision);
            let mut layer = Layer {
                attn_norm: vector(&name("attn_norm"), hidden)?,
                attn_q: weight(&name("attn_q"), q, hidden)?,
                attn_k: weight(&name("attn_k"), kv, hidden)?,
                attn_v: weight(&name("attn_v"), kv, hidden)?,
                attn_q_norm: vector(&name("attn_q_norm"), head_dim)?,
                attn_k_norm: vector(&name("attn_k_norm"), head_dim)?,
                attn_output: weight(&name("attn_output"), hidden, q)?,
                ffn_norm: vector(&name("ffn_norm"), hidden)?,
                ffn_gate: weight(&name("ffn_gate"), ffn, hidden)?,
                ffn_up: weight(&name("ffn_up"), ffn, hidden)?,
                ffn_down: weight(&name("ffn_down"), hidden, ffn)?,
                forms: Default::default(),
            };
            let form = |weights: &[&B::Weight]| {
                weights.iter().fold(B::Form::default(), |form, weight| form | backend.form(weight))
            };
            layer.forms = [
                form(&[&layer.attn_q, &layer.attn_k, &layer.attn_v, &layer.ffn_gate, &layer.ffn_up]),
                form(&[&layer.attn_output]),
                form(&[&layer.ffn_down]),
            ];
            layers.push(layer);
        }
        let output_norm = vector("output_norm.weight", hidden)?;
        Ok(Self { backend, config, token_embd, vocabulary, layers, output_norm, allowed })
    }

    /// What of the file was not understood, and passed over because the caller allowed it.
    pub fn allowed(&self) -> &[NotUnderstood] {
        &self.allowed
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Rows of the token embedding.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Q and KV of [`Layer`].
    fn attention_dims(&self) -> (usize, usize) {
        let heads = self.config.heads;
        (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim)
    }

    /// Anonymous memory that a pass needs, in bytes for each token that it computes.
    pub fn bytes_per_token(&self) -> usize {
        let Config { hidden, ffn, heads, .. } = self.config;
        let (q_dim, kv_dim) = self.attention_dims();
        let inputs = |[h, context, f]: [B::Form; 3]| {
            let be = &self.backend;
            be.activations_bytes(hidden, h) + be.activations_bytes(q_dim, context) + be.activations_bytes(ffn, f)
        };
        let inputs = self.layers.iter().map(|layer| inputs(layer.forms)).max().unwrap_or(0);
        // x, q, k, v and the rotary angles; a little for what keeps rows apart in the cache.
        let floats = (hidden + q_dim + 2 * kv_dim + heads.head_dim) * 33 / 32;
        size_of::<f32>() * floats + inputs + self.backend.attention_bytes(heads, 1, 0)
    }

    /// The same for each text, however short: two nodes of the tree, and a row of the last layer.
    pub fn bytes_per_text(&self) -> usize {
        self.backend.attention_bytes(self.config.heads, 0, 2) + self.bytes_per_token()
    }

    /// Memory of the keys and values of a [`forward::Prefix`], in bytes for each token.
    pub fn prefix_bytes_per_token(&self) -> usize {
        2 * size_of::<f32>() * self.layers.len() * self.attention_dims().1
    }
}

/// The matrix `name`, [n × k].
fn weight<B: Backend>(
    gguf: &Gguf,
    backend: &B,
    name: &str,
    n: usize,
    k: usize,
    precision: Precision,
) -> Result<B::Weight, ModelError> {
    let tensor = shaped(gguf, name, &[k, n])?;
    backend
        .weight(tensor.format, tensor.data, n, k, precision)
        .map_err(|source: WeightError| ModelError::Weight { name: name.into(), source })
}

/// The vector `name`, of `len` values in any format.
fn vector<B: Backend>(gguf: &Gguf, backend: &B, name: &str, len: usize) -> Result<B::Vector, ModelError> {
    let tensor = shaped(gguf, name, &[len])?;
    let mut values = vec![0.0; len];
    tensor.format.dequantize(&tensor.data, &mut values);
    Ok(backend.vector(&values))
}

/// The tensor `name`, whose dimensions must be `shape`, the length of a row first.
fn shaped(gguf: &Gguf, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
    let tensor = gguf.require_tensor(name)?;
    // Trailing dimensions of 1 say nothing.
    let found = &tensor.shape[..];
    let rank = found.iter().rposition(|dim| *dim != 1).map_or(1, |last| last + 1).max(shape.len().min(found.len()));
    if found[..rank] != *shape {
        let (expected, found) = (format!("{shape:?}"), format!("{found:?}"));
        return Err(ModelError::Shape { name: name.into(), expected, found });
    }
    Ok(tensor)
}
