//! Hyperparameters of a Qwen3 model, all of them from metadata.

use crate::error::ModelError;
use crate::gguf::Gguf;
use qembed_kernels::Heads;

/// The architecture that this crate runs, as `general.architecture` names it.
pub const ARCHITECTURE: &str = "qwen3";

/// Pooling by the last token, in the numbering of `{arch}.pooling_type`.
const POOLING_LAST: u32 = 3;

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
    /// Where the metadata disagrees with what is done; to be shown to the user.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the hyperparameters of a file.
    ///
    /// # Errors
    /// Another architecture, a missing key, a value that no such model can have, or a feature that is not supported
    /// (scaled rotary embedding): rather no vector than a wrong one.
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
        if let Some(scaling) = gguf.str(&key("rope.scaling.type"))?
            && scaling != "none"
        {
            return Err(bad("rope.scaling.type", &scaling, "scaled rotary embeddings are not supported"));
        }

        let mut warnings = Vec::new();
        if let Some(pooling) = gguf.u32(&key("pooling_type"))?
            && pooling != POOLING_LAST
        {
            warnings.push(format!(
                "metadata {} is {pooling}, Qwen3-Embedding pools the last token ({POOLING_LAST}): the last token is used",
                key("pooling_type")
            ));
        }
        Ok(Self {
            layers: size("block_count")?,
            hidden,
            ffn: size("feed_forward_length")?,
            heads: Heads { heads, kv_heads, head_dim },
            context: size("context_length")?,
            eps: positive("attention.layer_norm_rms_epsilon")?,
            rope_base: positive("rope.freq_base")?,
            warnings,
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
        for (name, shape) in [
            ("attn_norm", vec![hidden]),
            ("attn_q", vec![hidden, q]),
            ("attn_k", vec![hidden, kv]),
            ("attn_v", vec![hidden, kv]),
            ("attn_q_norm", vec![head_dim]),
            ("attn_k_norm", vec![head_dim]),
            ("attn_output", vec![q, hidden]),
            ("ffn_norm", vec![hidden]),
            ("ffn_gate", vec![hidden, ffn]),
            ("ffn_up", vec![hidden, ffn]),
            ("ffn_down", vec![ffn, hidden]),
        ] {
            expected.push((format!("blk.{layer}.{name}.weight"), shape));
        }
    }
    expected.push(("output_norm.weight".into(), vec![hidden]));
    expected
}
