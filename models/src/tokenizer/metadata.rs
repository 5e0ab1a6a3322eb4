//! The tokenizer that a GGUF file carries in its metadata.

use super::{Tokenizer, TokenizerError, Vocabulary};
use crate::gguf::{Gguf, GgufError};

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file from its `tokenizer.ggml.*` keys.
    ///
    /// # Errors
    /// A missing key, one of the wrong type, or all that [`Tokenizer::new`] finds.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        Self::new(&vocabulary(gguf)?)
    }
}

fn vocabulary(gguf: &Gguf) -> Result<Vocabulary<'_>, GgufError> {
    let strings = |key| gguf.require_array(key)?.iter_str()?.collect::<Result<Vec<_>, _>>();
    Ok(Vocabulary {
        model: gguf.require_str("tokenizer.ggml.model")?,
        pre: gguf.require_str("tokenizer.ggml.pre")?,
        tokens: strings("tokenizer.ggml.tokens")?,
        // What is no type of llama.cpp is of no consequence.
        token_types: gguf
            .require_array("tokenizer.ggml.token_type")?
            .iter_int()?
            .map(|n| n.try_into().unwrap_or(0))
            .collect(),
        merges: strings("tokenizer.ggml.merges")?,
        // -1, in 32 bits of either kind, is llama.cpp's word for none.
        eos: gguf.i64("tokenizer.ggml.eos_token_id")?.and_then(|id| id.try_into().ok()).filter(|id| *id != u32::MAX),
        add_eos: gguf.bool("tokenizer.ggml.add_eos_token")?,
        add_bos: gguf.bool("tokenizer.ggml.add_bos_token")?,
    })
}
