//! The Qwen3 transformer as an embedding model: the last token of each text, after the final norm.
//!
//! Written once over [`Backend`]; "Qwen3 Technical Report" (2025) has the architecture, "Qwen3 Embedding" (2025) the
//! pooling. In reading order: the weights, how they are found in a file, the forward pass.

use crate::batch::Batch;
use crate::config::Config;
use crate::error::ModelError;
use crate::gguf::{Gguf, Tensor};
use crate::known::{NotUnderstood, not_understood};
use qembed_kernels::{Backend, Precision, WeightError};
use std::sync::Arc;

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
    token_embd: B::Weight,
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
    /// The forms in which these weights consume their inputs: `h`, `context` and `f` of the forward pass.
    forms: [B::Form; 3],
}

/// Keys and values of the first tokens of texts, computed in an earlier pass.
pub struct Prefix<B: Backend> {
    tokens: Vec<u32>,
    /// Of each layer, [tokens × kv_heads · head_dim] each.
    layers: Vec<(B::Tensor, B::Tensor)>,
}

impl<B: Backend> Prefix<B> {
    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

/// How to run a pass.
pub struct Pass<'a, B: Backend> {
    /// The beginnings that the batch continues, in its order.
    pub prefixes: &'a [Arc<Prefix<B>>],
    /// Keep the keys and values of a text's first tokens: which text, and these tokens.
    pub keep: Option<(usize, &'a [u32])>,
    /// Asked before each layer whether the result is still wanted.
    pub wanted: &'a dyn Fn() -> bool,
}

/// What a pass gives.
pub struct Outcome<B: Backend> {
    /// The final-normed hidden state of each text's last token, [texts × hidden], not yet cut or normalized.
    pub states: Vec<f32>,
    /// What was to be kept.
    pub kept: Option<Prefix<B>>,
}

impl<B: Backend> Qwen3<B> {
    /// Finds the weights of a Qwen3 model in a file and hands them to `backend`; nothing is read but the header and
    /// the norm vectors. Keys and tensors that are not understood are passed over if `allow` names them.
    ///
    /// # Errors
    /// Wrong architecture or hyperparameters, a missing tensor, one of the wrong shape or an unknown type, or a key or
    /// tensor that is not understood: rather no vector than a wrong one.
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

        // Checked for its row length only: files pad their vocabulary differently.
        let vocabulary = gguf.require_tensor("token_embd.weight")?.shape.rows();
        let token_embd = weight(gguf, &backend, "token_embd.weight", vocabulary, hidden, Precision::Standard)?;
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

    /// Anonymous memory that a pass needs, in bytes for each token that it computes.
    pub fn bytes_per_token(&self) -> usize {
        let Config { hidden, ffn, heads, .. } = self.config;
        let (q_dim, kv_dim) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        let inputs = |[h, context, f]: [B::Form; 3]| {
            let be = &self.backend;
            be.acts_bytes(hidden, h) + be.acts_bytes(q_dim, context) + be.acts_bytes(ffn, f)
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

    /// Memory of the keys and values of a [`Prefix`], in bytes for each token.
    pub fn prefix_bytes_per_token(&self) -> usize {
        2 * size_of::<f32>() * self.layers.len() * self.config.heads.kv_heads * self.config.heads.head_dim
    }

    /// The final-normed hidden state of each text's last token, [texts × hidden], not yet cut or normalized.
    ///
    /// # Errors
    /// A text without tokens, longer than the context, or with a token beyond the vocabulary.
    pub fn forward(&self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        let pass = Pass { prefixes: &[], keep: None, wanted: &|| true };
        self.run(batch, &pass).map(|outcome| outcome.states)
    }

    /// [`Qwen3::forward`] with beginnings known, kept, or a pass that may be called off.
    ///
    /// # Errors
    /// As [`Qwen3::forward`], and when the result is no longer wanted.
    ///
    /// # Panics
    /// When `prefixes` are not those that the batch was made with.
    pub fn run(&self, batch: &Batch, pass: &Pass<B>) -> Result<Outcome<B>, ModelError> {
        self.check(batch)?;
        let known = pass.prefixes.iter().map(|prefix| prefix.tokens.len());
        assert!(known.eq(batch.nodes[..batch.known].iter().map(|node| node.rows.len())), "the prefixes of the batch");
        let Config { hidden, ffn, heads, eps, rope_base, .. } = self.config;
        let (t, be) = (batch.tokens(), &self.backend);
        if t == 0 {
            return Ok(Outcome { states: Vec::new(), kept: None });
        }
        let (q_dim, kv_dim) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        let positions = batch.positions();
        let rope = be.rope(&positions, heads.head_dim, rope_base);
        let nodes = batch.all_queries();
        // Of the last layer only the last tokens are wanted.
        let (last_nodes, last) = batch.last_queries();
        let last_positions: Vec<u32> = last.iter().map(|row| positions[*row]).collect();
        let last_rope = be.rope(&last_positions, heads.head_dim, rope_base);
        let kept_rows = pass.keep.map(|(text, tokens)| batch.rows_of_beginning(text, tokens.len()));
        let mut kept = Vec::new();

        let mut x = be.tensor(t, hidden); // the residual stream
        let mut q = be.tensor(t, q_dim);
        // Keys and values, those that are known after the others.
        let (mut k, mut v) = (be.tensor(batch.rows(), kv_dim), be.tensor(batch.rows(), kv_dim));
        // Inputs of products: the normed residual stream, what attention gathered, silu(gate) · up.
        let inputs = |rows, [h, context, f]: [B::Form; 3]| {
            (be.acts(rows, hidden, h), be.acts(rows, q_dim, context), be.acts(rows, ffn, f))
        };
        let mut forms = self.layers.first().map_or(Default::default(), |layer| layer.forms);
        let (mut h, mut context, mut f) = inputs(t, forms);

        be.embed(&self.token_embd, &batch.tokens, &mut x);
        for (i, layer) in self.layers.iter().enumerate() {
            if !(pass.wanted)() {
                return Err(ModelError::Unwanted);
            }
            if layer.forms != forms {
                forms = layer.forms;
                drop((h, context, f));
                (h, context, f) = inputs(t, forms);
            }
            for (prefix, node) in pass.prefixes.iter().zip(&batch.nodes) {
                let (known_k, known_v) = &prefix.layers[i];
                let rows: Vec<usize> = (0..prefix.tokens.len()).collect();
                be.copy_rows(known_k, &rows, &mut k, node.rows.start);
                be.copy_rows(known_v, &rows, &mut v, node.rows.start);
            }
            let is_last = i + 1 == self.layers.len();

            be.rms_norm(&x, &layer.attn_norm, eps, &mut h);
            if is_last {
                be.matmul(&h, &mut [(&layer.attn_k, &mut k), (&layer.attn_v, &mut v)]);
                // From here on, rows are those of `last`.
                let mut rest = be.tensor(last.len(), hidden);
                be.copy_rows(&x, &last, &mut rest, 0);
                drop((q, h, context, f));
                x = rest;
                q = be.tensor(last.len(), q_dim);
                (h, context, f) = inputs(last.len(), forms);
                be.rms_norm(&x, &layer.attn_norm, eps, &mut h);
                be.matmul(&h, &mut [(&layer.attn_q, &mut q)]);
            } else {
                be.matmul(&h, &mut [(&layer.attn_q, &mut q), (&layer.attn_k, &mut k), (&layer.attn_v, &mut v)]);
            }
            let (nodes, query_rope) = if is_last { (&last_nodes, &last_rope) } else { (&nodes, &rope) };
            be.norm_rope(&mut q, &layer.attn_q_norm, eps, query_rope);
            be.norm_rope(&mut k, &layer.attn_k_norm, eps, &rope);
            if let Some(rows) = &kept_rows {
                let keep = |from: &B::Tensor| {
                    let mut to = be.lasting_tensor(rows.len(), kv_dim);
                    be.copy_rows(from, rows, &mut to, 0);
                    to
                };
                kept.push((keep(&k), keep(&v)));
            }
            be.attention(heads, nodes, &q, &k, &v, &mut context);
            be.matmul_add(&context, &layer.attn_output, &mut x);

            be.rms_norm(&x, &layer.ffn_norm, eps, &mut h);
            be.gated(&h, &layer.ffn_gate, &layer.ffn_up, &mut f);
            be.matmul_add(&f, &layer.ffn_down, &mut x);
        }
        // The row of `x` in which each text ends.
        let rows: Vec<usize> = batch.ends.iter().flatten().map(|node| last_nodes[*node].queries.start).collect();
        let mut pooled = be.tensor(rows.len(), hidden);
        be.rms_norm_rows(&x, &rows, &self.output_norm, eps, &mut pooled);
        let states = be.read(&pooled);
        let kept = pass.keep.map(|(_, tokens)| Prefix { tokens: tokens.to_vec(), layers: kept });
        Ok(Outcome { states, kept })
    }

    fn check(&self, batch: &Batch) -> Result<(), ModelError> {
        for (text, tokens) in batch.lengths().enumerate() {
            if tokens == 0 {
                return Err(ModelError::NoTokens { text });
            }
            if tokens > self.config.context {
                return Err(ModelError::TooLong { text, tokens, limit: self.config.context });
            }
        }
        match batch.tokens.iter().position(|token| *token as usize >= self.vocabulary) {
            Some(row) => {
                let (token, limit) = (batch.tokens[row], self.vocabulary);
                Err(ModelError::Token { text: batch.text_with(row), token, limit })
            }
            None => Ok(()),
        }
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
