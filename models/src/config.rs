//! Hyperparameters of a Qwen3 model, all of them from metadata.

use crate::error::ModelError;
use crate::gguf::Gguf;
use qembed_kernels::Heads;

/// The architecture that this crate runs, as `general.architecture` names it.
pub const ARCHITECTURE: &str = "qwen3";

/// The tensors of a layer: `blk.{layer}.{part}.weight`.
pub(crate) const PARTS: [&str; 11] = [
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_q_norm",
    "attn_k_norm",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];

/// More than any model has; names of tensors are made for each.
pub(crate) const MAX_LAYERS: usize = 4096;

/// Hyperparameters of a Qwen3 model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream, and of the vectors.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Attention heads and their width.
    pub heads: Heads,
    /// Longest text, in tokens.
    pub context: usize,
    /// Epsilon of every RMSNorm.
    pub eps: f32,
    /// Base of the rotary embedding's angles.
    pub rope_base: f32,
}

impl Config {
    /// Reads the hyperparameters of a file. What else its metadata says is for
    /// [`not_understood`](crate::not_understood()) to judge.
    ///
    /// # Errors
    /// Another architecture, a missing key, or a value that no such model can have.
    pub fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let architecture = gguf.require_str("general.architecture")?;
        if architecture != ARCHITECTURE {
            return Err(ModelError::Architecture { found: architecture.into() });
        }
        let key = |name: &str| format!("{ARCHITECTURE}.{name}");
        let bad = |name: &str, found: &dyn ToString, problem| ModelError::Hyperparameter {
            key: key(name),
            found: found.to_string(),
            problem,
        };
        let size = |name: &str| match gguf.require_u32(&key(name))? {
            0 => Err(bad(name, &0, "it must be at least 1")),
            n => Ok(n as usize),
        };
        let positive = |name: &str| match gguf.require_f32(&key(name))? {
            x if x.is_finite() && x > 0.0 => Ok(x),
            x => Err(bad(name, &x, "it must be positive and finite")),
        };

        let hidden = size("embedding_length")?;
        let heads = size("attention.head_count")?;
        let kv_heads = match gguf.u32(&key("attention.head_count_kv"))? {
            None => heads,
            Some(_) => size("attention.head_count_kv")?,
        };
        if heads % kv_heads != 0 {
            return Err(bad("attention.head_count", &heads, "it must be a multiple of attention.head_count_kv"));
        }
        let head_dim = match gguf.u32(&key("attention.key_length"))? {
            None => hidden / heads,
            Some(n) => n as usize,
        };
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(bad("attention.key_length", &head_dim, "it must be even and at least 2"));
        }
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(n) = gguf.u32(&key(name))?
                && n as usize != head_dim
            {
                return Err(bad(name, &n, "it must equal attention.key_length"));
            }
        }
        let layers = match size("block_count")? {
            n if n > MAX_LAYERS => return Err(bad("block_count", &n, "no model has so many layers")),
            n => n,
        };
        Ok(Self {
            layers,
            hidden,
            ffn: size("feed_forward_length")?,
            heads: Heads { heads, kv_heads, head_dim },
            context: size("context_length")?,
            eps: positive("attention.layer_norm_rms_epsilon")?,
            rope_base: positive("rope.freq_base")?,
        })
    }
}

/// Names and shapes (the length of a row first) of the tensors of such a model; the rows of `token_embd.weight`, which files
/// pad differently, are 0.
pub fn tensor_shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, ffn, head_dim) = (config.hidden, config.ffn, config.heads.head_dim);
    let (q, kv) = (config.heads.heads * head_dim, config.heads.kv_heads * head_dim);
    let mut expected = vec![("token_embd.weight".into(), vec![hidden, 0])];
    for layer in 0..config.layers {
        let shapes = [
            vec![hidden],
            vec![hidden, q],
            vec![hidden, kv],
            vec![hidden, kv],
            vec![head_dim],
            vec![head_dim],
            vec![q, hidden],
            vec![hidden],
            vec![hidden, ffn],
            vec![hidden, ffn],
            vec![ffn, hidden],
        ];
        for (part, shape) in PARTS.into_iter().zip(shapes) {
            expected.push((format!("blk.{layer}.{part}.weight"), shape));
        }
    }
    expected.push(("output_norm.weight".into(), vec![hidden]));
    expected
}
