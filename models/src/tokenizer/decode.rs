//! Token ids back to the bytes that they stand for: what a tokenizer keeps of its vocabulary for that.

use super::bpe::char_byte;
use super::{TokenType, TokenizerError, Vocabulary};

/// An id that is no token of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("id {} of the list is {id}: the vocabulary has {tokens} tokens, from 0 on", position + 1)]
pub struct UnknownToken {
    /// Its place in the list, from 0.
    pub position: usize,
    /// The id.
    pub id: u32,
    /// Tokens of the vocabulary.
    pub tokens: usize,
}

/// The tokens as the vocabulary writes them: 2 MB for the 151,936 of Qwen.
pub(super) struct TokenTexts {
    /// One after the other, in the order of their ids.
    text: String,
    /// Where each ends.
    ends: Vec<u32>,
    /// Those that stand for their own text, in order: control and user-defined tokens.
    verbatim: Vec<u32>,
    /// Those of them that are no text: control tokens, and the one that ends a text.
    special: Vec<u32>,
}

impl TokenTexts {
    /// Of a vocabulary with as many token types as tokens.
    pub(super) fn new(vocab: &Vocabulary<'_>, eos: u32) -> Result<Self, TokenizerError> {
        let text = vocab.tokens.concat();
        if u32::try_from(text.len()).is_err() {
            return Err(TokenizerError::TokensTooLong { bytes: text.len() });
        }
        let mut end = 0;
        let ends = vocab.tokens.iter().map(|token| {
            end += token.len() as u32;
            end
        });
        let ends = ends.collect();
        let of_types = |types: &[i32]| {
            let ids = (0..).zip(&vocab.token_types);
            ids.filter(|(id, kind)| *id == eos || types.contains(kind)).map(|(id, _)| id).collect()
        };
        let verbatim = of_types(&[TokenType::CONTROL, TokenType::USER_DEFINED]);
        Ok(Self { text, ends, verbatim, special: of_types(&[TokenType::CONTROL]) })
    }

    /// A token as the vocabulary writes it.
    pub(super) fn get(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        let end = *self.ends.get(id)? as usize;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.text[start..end])
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }

    /// Appends the bytes that a token stands for; false if there is no such token.
    pub(super) fn push_bytes(&self, id: u32, out: &mut Vec<u8>) -> bool {
        let Some(token) = self.get(id) else { return false };
        let start = out.len();
        if self.verbatim.binary_search(&id).is_err() {
            out.extend(token.chars().map_while(char_byte));
            if token.chars().count() == out.len() - start {
                return true;
            }
            // A token with a character that is no byte's.
            out.truncate(start);
        }
        out.extend_from_slice(token.as_bytes());
        true
    }

    /// The bytes of a list of tokens, without the special ones where those are to be skipped.
    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<Vec<u8>, UnknownToken> {
        let mut out = Vec::with_capacity(4 * ids.len());
        for (position, &id) in ids.iter().enumerate() {
            if !(skip_special && self.is_special(id) || self.push_bytes(id, &mut out)) {
                return Err(UnknownToken { position, id, tokens: self.ends.len() });
            }
        }
        Ok(out)
    }
}
