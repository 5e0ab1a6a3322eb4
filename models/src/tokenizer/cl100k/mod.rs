//! Ids of cl100k_base, the vocabulary of OpenAI's embedding models, read by a tokenizer of Qwen.
//!
//! Clients written for OpenAI send texts as such ids; taken for the model's own they give a vector of nonsense, without a sign.
//! No second vocabulary is needed to read them: Qwen's first 99,156 tokens are those of cl100k_base in their order, save the
//! numbers of two and three digits, whose ranks are in [`numbers`].

mod numbers;

use std::sync::{LazyLock, OnceLock};

use super::decode::TokenTexts;
use numbers::{FINGERPRINT, RANKS, SHARED};

/// Tokens of cl100k_base; its special ones, which stand for no text, come after them.
const TOKENS: u32 = SHARED + RANKS.len() as u32;

/// Why ids of cl100k_base give no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cl100kError {
    /// The tokenizer has another vocabulary than Qwen's.
    #[error(
        "ids of cl100k_base can be read with the vocabulary of Qwen only, and this model has another: send texts in their \
         place, or ids of the model's own vocabulary"
    )]
    OtherVocabulary,
    /// An id that stands for no text.
    #[error(
        "id {} of the list is {id}: cl100k_base has text for ids below {TOKENS}; if these are ids of the model's own \
         vocabulary, say so, or send texts in their place",
        position + 1
    )]
    UnknownToken {
        /// Its place in the list, from 0.
        position: usize,
        /// The id.
        id: u32,
    },
    /// Bytes that are no UTF-8, and no part of a character that was cut off at either end.
    #[error(
        "as ids of cl100k_base the list is no text in UTF-8, from id {} on; if these are ids of the model's own vocabulary, \
         say so, or send texts in their place",
        position + 1
    )]
    NotText {
        /// Place of the id with the first such byte, from 0.
        position: usize,
    },
}

/// Numbers of two and three digits by their rank: where each stands in [`RANKS`].
static NUMBERS: LazyLock<Vec<(u32, usize)>> = LazyLock::new(|| {
    let mut numbers: Vec<(u32, usize)> = RANKS.iter().copied().zip(0..).collect();
    numbers.sort_unstable();
    numbers
});

/// Whether a vocabulary is Qwen's, found out once.
#[derive(Default)]
pub(super) struct IsQwen(OnceLock<bool>);

impl IsQwen {
    fn get(&self, texts: &TokenTexts) -> bool {
        *self.0.get_or_init(|| fingerprint(texts) == Some(FINGERPRINT))
    }
}

/// FNV-1a of the tokens that cl100k_base has as well, the length of each before it; `None` if there are not so many.
fn fingerprint(texts: &TokenTexts) -> Option<u64> {
    let mut token = Vec::new();
    let mut value = 0xCBF2_9CE4_8422_2325_u64;
    for id in 0..SHARED {
        token.clear();
        if !texts.push_bytes(id, &mut token) {
            return None;
        }
        for byte in (token.len() as u32).to_le_bytes().iter().chain(&token) {
            value = (value ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
    }
    Some(value)
}

/// The text of ids of cl100k_base. A character that was cut at the start or the end of the list is left out.
pub(super) fn decode(texts: &TokenTexts, is_qwen: &IsQwen, ids: &[u32]) -> Result<String, Cl100kError> {
    if !is_qwen.get(texts) {
        return Err(Cl100kError::OtherVocabulary);
    }
    let mut bytes = Vec::with_capacity(4 * ids.len());
    let mut ends = Vec::with_capacity(ids.len());
    for (position, &id) in ids.iter().enumerate() {
        if id >= TOKENS {
            return Err(Cl100kError::UnknownToken { position, id });
        }
        match NUMBERS.binary_search_by_key(&id, |(rank, _)| *rank) {
            Ok(found) => match NUMBERS[found].1 {
                number @ 0..100 => bytes.extend(format!("{number:02}").bytes()),
                number => bytes.extend(format!("{:03}", number - 100).bytes()),
            },
            // Qwen has none of the numbers before it.
            Err(before) => {
                texts.push_bytes(id - before as u32, &mut bytes);
            }
        }
        ends.push(bytes.len());
    }
    let start = bytes.iter().take(3).take_while(|byte| matches!(byte, 0x80..=0xBF)).count();
    let whole = match str::from_utf8(&bytes[start..]) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&bytes[start..][..error.valid_up_to()]).unwrap_or("")
        }
        Err(error) => {
            let at = start + error.valid_up_to();
            return Err(Cl100kError::NotText { position: ends.partition_point(|end| *end <= at) });
        }
    };
    Ok(whole.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rank_is_that_of_one_number() {
        assert!(NUMBERS.windows(2).all(|pair| pair[0].0 < pair[1].0) && NUMBERS[RANKS.len() - 1].0 < TOKENS);
        assert_eq!((RANKS.len(), TOKENS, size_of_val(&RANKS)), (1100, 100_256, 4400));
    }
}
