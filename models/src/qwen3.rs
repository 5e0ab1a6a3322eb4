//! The Qwen3 transformer as an embedding model: the last token of each text, after the final norm.
//!
//! Written once over [`Backend`]; "Qwen3 Technical Report" (2025) has the architecture, "Qwen3 Embedding" (2025) the
//! pooling. In reading order: the weights, how they are found in a file, the forward pass.

use crate::config::Config;
use crate::error::ModelError;
use crate::gguf::{Gguf, Tensor};
use qembed_kernels::{Backend, Precision, WeightError};

/// The first layers, one of so many and at least one, run in high precision: what they round away passes through all
/// others. On random 4B weights in Q4_K_M, the worst case for this, 1 − cosine to the float32 reference falls from 0.0012
/// to 0.0005 with one such layer of 36, 0.0003 with two and 0.0002 with four.
const PRECISE_PART: usize = 16;

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

/// A ragged batch: the tokens of all texts laid end to end.
#[derive(Clone, Debug)]
pub struct Batch {
    tokens: Vec<u32>,
    /// Text i is `offsets[i]..offsets[i + 1]`.
    offsets: Vec<usize>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// A batch without texts.
    pub fn new() -> Self {
        Self { tokens: Vec::new(), offsets: vec![0] }
    }

    /// Appends a text.
    pub fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.offsets.push(self.tokens.len());
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Tokens of each text.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.offsets.windows(2).map(|text| text[1] - text[0])
    }

    /// Number of tokens of all texts.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }
}

impl<B: Backend> Qwen3<B> {
    /// Finds the weights of a Qwen3 model in a file and hands them to `backend`; nothing is read but the header and
    /// the norm vectors. Tensors that an embedding does not need, such as `output.weight`, are ignored.
    ///
    /// # Errors
    /// Wrong architecture or hyperparameters, a missing tensor, one of the wrong shape or an unknown type, or a bias.
    pub fn load(gguf: &Gguf, backend: B) -> Result<Self, ModelError> {
        let config = Config::read(gguf)?;
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
        if let Some(bias) = gguf.tensors().find(|tensor| tensor.name.ends_with(".bias")) {
            return Err(ModelError::Bias { name: bias.name.clone() });
        }

        Ok(Self { backend, config, token_embd, vocabulary, layers, output_norm })
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

    /// The final-normed hidden state of each text's last token, [texts × hidden], not yet cut or normalized.
    ///
    /// # Errors
    /// A text without tokens, longer than the context, or with a token beyond the vocabulary.
    pub fn forward(&self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        self.check(batch)?;
        let Config { hidden, ffn, heads, eps, rope_base, .. } = self.config;
        let (t, be) = (batch.tokens(), &self.backend);
        if t == 0 {
            return Ok(Vec::new());
        }
        let (q_dim, kv_dim) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        let positions: Vec<u32> = batch.offsets.windows(2).flat_map(|text| 0..(text[1] - text[0]) as u32).collect();
        let rope = be.rope(&positions, heads.head_dim, rope_base);

        let mut x = be.tensor(t, hidden); // the residual stream
        let (mut q, mut k, mut v) = (be.tensor(t, q_dim), be.tensor(t, kv_dim), be.tensor(t, kv_dim));
        // Inputs of products: the normed residual stream, what attention gathered, silu(gate) · up.
        let inputs =
            |[h, context, f]: [B::Form; 3]| (be.acts(t, hidden, h), be.acts(t, q_dim, context), be.acts(t, ffn, f));
        let mut forms = self.layers.first().map_or(Default::default(), |layer| layer.forms);
        let (mut h, mut context, mut f) = inputs(forms);

        be.embed(&self.token_embd, &batch.tokens, &mut x);
        for layer in &self.layers {
            if layer.forms != forms {
                forms = layer.forms;
                (h, context, f) = inputs(forms);
            }
            be.rms_norm(&x, &layer.attn_norm, eps, &mut h);
            be.matmul(&h, &mut [(&layer.attn_q, &mut q), (&layer.attn_k, &mut k), (&layer.attn_v, &mut v)]);
            be.norm_rope(&mut q, &layer.attn_q_norm, eps, &rope);
            be.norm_rope(&mut k, &layer.attn_k_norm, eps, &rope);
            be.attention(heads, &batch.offsets, &q, &k, &v, &mut context);
            be.matmul_add(&context, &layer.attn_output, &mut x);

            be.rms_norm(&x, &layer.ffn_norm, eps, &mut h);
            be.gated(&h, &layer.ffn_gate, &layer.ffn_up, &mut f);
            be.matmul_add(&f, &layer.ffn_down, &mut x);
        }
        let last: Vec<usize> = batch.offsets[1..].iter().map(|end| end - 1).collect();
        let mut pooled = be.tensor(last.len(), hidden);
        be.rms_norm_rows(&x, &last, &self.output_norm, eps, &mut pooled);
        Ok(be.read(&pooled))
    }

    fn check(&self, batch: &Batch) -> Result<(), ModelError> {
        for (text, o) in batch.offsets.windows(2).enumerate() {
            let tokens = &batch.tokens[o[0]..o[1]];
            if tokens.is_empty() {
                return Err(ModelError::NoTokens { text });
            }
            if tokens.len() > self.config.context {
                return Err(ModelError::TooLong { text, tokens: tokens.len(), limit: self.config.context });
            }
            if let Some(token) = tokens.iter().find(|token| **token as usize >= self.vocabulary) {
                return Err(ModelError::Token { text, token: *token, limit: self.vocabulary });
            }
        }
        Ok(())
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
