//! From texts to tokens that are ready for a pass.

use crate::error::{Error, InstructionError};
use crate::memory::MemoryNeeds;
use crate::options::{EmbedOptions, Empty, Truncate};
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{Text, common_tokens};

/// A text as the tokens that a pass computes: its instruction's, its own, and the one that ends it. Made by
/// [`Embedder::tokenize`](crate::Embedder::tokenize) and its kin, for that embedder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tokens {
    ids: Vec<u32>,
    /// How many of the first ones are the instruction's.
    prefix: usize,
    cut: usize,
}

impl Tokens {
    /// The numbers of the tokens, the end token last.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of tokens: at least one, the end token.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many tokens of the text were cut away because it was too long: 0 unless truncation was asked for.
    pub fn cut(&self) -> usize {
        self.cut
    }

    pub(crate) fn as_text(&self) -> Text<'_> {
        Text { tokens: &self.ids, prefix: self.prefix }
    }
}

/// What bounds a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextLimits {
    /// Tokens that a text may have, its end token included.
    pub(crate) tokens: usize,
    /// Tokens that the model knows: their numbers are below this.
    pub(crate) vocabulary: usize,
    /// A pass of the text alone stays within its budget.
    pub(crate) memory: MemoryNeeds,
}

/// Options made ready for many texts.
pub(crate) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    limits: TextLimits,
    truncate: Option<Truncate>,
    empty: Empty,
    /// What stands before each text, and its tokens when it stands alone.
    prefix: String,
    prefix_tokens: Vec<u32>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, limits: TextLimits, options: &EmbedOptions) -> Result<Self, Error> {
        let prefix = options.prompt.prefix();
        let prefix_tokens = tokenizer.encode(&prefix).map_err(InstructionError::Tokenize)?;
        let EmbedOptions { truncate, empty, .. } = *options;
        let encoder = Self { tokenizer, limits, truncate, empty, prefix, prefix_tokens };
        encoder.check_instruction()?;
        Ok(encoder)
    }

    /// Whether an instruction leaves room for a text: where it does not, no text is to blame.
    fn check_instruction(&self) -> Result<(), Error> {
        let tokens = self.prefix_tokens.len();
        if tokens == 0 {
            return Ok(());
        }
        let TextLimits { tokens: limit, vocabulary: rows, memory } = self.limits;
        if let Some(&token) = self.prefix_tokens.iter().find(|token| **token as usize >= rows) {
            return Err(InstructionError::Vocabulary { token, rows }.into());
        }
        if tokens + 1 >= limit {
            return Err(Error::InstructionTooLong { tokens, limit });
        }
        if tokens + 1 >= memory.tokens() {
            let (needed, budget, limit) = (memory.of_pass(tokens + 2, 1), memory.budget, memory.tokens());
            return Err(InstructionError::OverBudget { tokens, needed, budget, limit }.into());
        }
        Ok(())
    }

    /// The same for texts of no more tokens than this, the instruction's and the end token not among them.
    #[cfg(feature = "serve")]
    pub(crate) fn at_most(mut self, tokens: usize) -> Self {
        let whole = tokens.saturating_add(self.prefix_tokens.len() + 1);
        self.limits.tokens = self.limits.tokens.min(whole);
        self
    }

    /// The most tokens of a text that stand in one piece of [`Self::chunks`].
    pub(crate) fn room(&self) -> usize {
        (self.limits.tokens.min(self.limits.memory.tokens()) - 1).saturating_sub(self.prefix_tokens.len())
    }

    /// Text `i` of a call.
    pub(crate) fn encode(&self, i: usize, text: &str) -> Result<Tokens, Error> {
        self.fit(i, self.ids(i, text)?)
    }

    /// Text `i` of a call, of which the caller has the tokens, with or without the one that ends it.
    pub(crate) fn of_ids(&self, i: usize, ids: &[u32]) -> Result<Tokens, Error> {
        let ids = ids.strip_suffix(&[self.tokenizer.eos()]).unwrap_or(ids);
        self.check_empty(i, ids.is_empty())?;
        self.fit(i, [&self.prefix_tokens[..], ids].concat())
    }

    /// Text `i` of a call in pieces, each with the instruction, of which neighbours have `overlap` tokens of the text in common;
    /// one piece if it fits.
    pub(crate) fn chunks(&self, i: usize, text: &str, overlap: usize) -> Result<Vec<Tokens>, Error> {
        let ids = self.ids(i, text)?;
        let limit = self.limits.tokens.min(self.limits.memory.tokens());
        if ids.len() < limit {
            return Ok(vec![self.fit(i, ids)?]);
        }
        let room = self.room();
        if overlap >= room {
            return Err(Error::Overlap { overlap, room });
        }
        // What has merged with the instruction is the first piece's.
        let (instruction, own) = ids.split_at(common_tokens(&self.prefix_tokens, &ids));
        // As few as can be, and of one length save the last: so no part of the text weighs more than another in their mean.
        let new = own.len() - overlap;
        let step = new.div_ceil(new.div_ceil(room - overlap));
        let chunk = |start: usize| {
            let instruction = if start == 0 { instruction } else { &self.prefix_tokens };
            let end = own.len().min(start + step + overlap);
            self.fit(i, [instruction, &own[start..end]].concat())
        };
        (0..new).step_by(step).map(chunk).collect()
    }

    fn check_empty(&self, i: usize, empty: bool) -> Result<(), Error> {
        if empty && self.empty == Empty::Refuse { Err(Error::EmptyText { text: i }) } else { Ok(()) }
    }

    /// Tokens of text `i` after the instruction's.
    fn ids(&self, i: usize, text: &str) -> Result<Vec<u32>, Error> {
        self.check_empty(i, text.is_empty())?;
        let encoded = self.tokenizer.encode(&format!("{}{text}", self.prefix));
        encoded.map_err(|source| Error::Tokenize { text: i, source })
    }

    /// Tokens of text `i`, the instruction's before them: cut where that is wanted, with the end token, and looked at whether the
    /// model can take them.
    fn fit(&self, i: usize, mut ids: Vec<u32>) -> Result<Tokens, Error> {
        let TextLimits { tokens: limit, vocabulary: rows, memory } = self.limits;
        let room = limit - 1;
        let cut = ids.len().saturating_sub(room);
        if cut > 0 {
            // Where no token spans the border between instruction and text, these are the instruction's own tokens.
            let kept = self.prefix_tokens.len();
            match self.truncate {
                None => return Err(Error::TooLong { text: i, tokens: ids.len() + 1, limit }),
                Some(Truncate::Right) => ids.truncate(room),
                Some(Truncate::Left) => drop(ids.drain(kept..kept + cut)),
            }
        }
        // The first token of the text may have merged with the instruction's last.
        let prefix = common_tokens(&self.prefix_tokens, &ids);
        ids.push(self.tokenizer.eos());
        // Checked here and not by the model, which knows texts by their place in a pass only.
        if let Some(&token) = ids.iter().find(|token| **token as usize >= rows) {
            return Err(Error::Vocabulary { text: i, token, rows });
        }
        let (budget, limit) = (memory.budget, memory.tokens());
        if ids.len() > limit {
            let needed = memory.of_pass(ids.len(), 1);
            return Err(Error::OverBudget { text: i, tokens: ids.len(), needed, budget, limit });
        }
        Ok(Tokens { ids, prefix, cut })
    }
}

#[cfg(test)]
impl Tokens {
    /// Tokens of no text.
    pub(crate) fn of_ids(ids: &[u32]) -> Self {
        Self { ids: ids.to_vec(), prefix: 0, cut: 0 }
    }
}
