//! The seam between who has texts and a model on a device: what runs a pass of tokenized texts.

use crate::batch::{Batch, Text};
use crate::config::Config;
use crate::error::ModelError;
use crate::known::NotUnderstood;
use crate::prefixes::PrefixCache;
use crate::qwen3::Qwen3;
use crate::qwen3::forward::Pass;
use qembed_kernels::{Backend, Device};

/// What a pass takes of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassMemory {
    /// For each token that it computes.
    pub per_token: u64,
    /// For each text besides, however short.
    pub per_text: u64,
    /// What the device can hold, weights included; `None` where only the host's memory bounds it.
    pub limit: Option<u64>,
}

/// A model on a device, whatever both are.
pub trait Runner: Send + Sync {
    /// The hyperparameters.
    fn config(&self) -> &Config;
    /// Tokens that the model knows: their numbers are below this.
    fn vocabulary(&self) -> usize;
    /// What of the file was not understood, and passed over because the caller allowed it.
    fn allowed(&self) -> &[NotUnderstood];
    /// The device.
    fn device(&self) -> Device;
    /// What a pass takes.
    fn memory(&self) -> PassMemory;
    /// Whether what texts have in common from their start is computed once, so that it pays to put such texts into one pass.
    fn shares_prefixes(&self) -> bool;
    /// The final hidden state of each text, [texts × hidden], not yet cut or normalized. `wanted` is asked from time to time
    /// whether the result is still wanted.
    ///
    /// # Errors
    /// A text without tokens, longer than the context, or with a token beyond the vocabulary; a device that fails;
    /// [`ModelError::Unwanted`].
    fn run(&self, texts: &[Text], wanted: &dyn Fn() -> bool) -> Result<Vec<f32>, ModelError>;
}

/// [`Qwen3`] as a [`Runner`], which may keep prefixes from pass to pass.
pub struct Qwen3Runner<B: Backend> {
    model: Qwen3<B>,
    /// `None`: each text is computed by itself.
    prefixes: Option<PrefixCache<B>>,
}

impl<B: Backend> Qwen3Runner<B> {
    /// Computes what texts have in common once, and keeps prefixes of up to `budget` bytes; with `None`, each text is computed
    /// by itself. The states are the same either way, to the bit.
    pub fn new(model: Qwen3<B>, budget: Option<usize>) -> Self {
        let prefixes = budget.map(|budget| PrefixCache::new(budget, model.prefix_bytes_per_token()));
        Self { model, prefixes }
    }
}

impl<B: Backend> Runner for Qwen3Runner<B> {
    fn config(&self) -> &Config {
        self.model.config()
    }

    fn vocabulary(&self) -> usize {
        self.model.vocabulary()
    }

    fn allowed(&self) -> &[NotUnderstood] {
        self.model.allowed()
    }

    fn device(&self) -> Device {
        self.model.backend().device()
    }

    fn memory(&self) -> PassMemory {
        PassMemory {
            per_token: self.model.bytes_per_token() as u64,
            per_text: self.model.bytes_per_text() as u64,
            limit: self.model.backend().limit(),
        }
    }

    fn shares_prefixes(&self) -> bool {
        self.prefixes.is_some()
    }

    fn run(&self, texts: &[Text], wanted: &dyn Fn() -> bool) -> Result<Vec<f32>, ModelError> {
        let tokens: Vec<&[u32]> = texts.iter().map(|text| text.tokens).collect();
        let Some(cache) = &self.prefixes else {
            let pass = Pass { prefixes: &[], keep: &[], wanted };
            return Ok(self.model.run(&Batch::separate(&tokens), &pass)?.states);
        };
        let known = cache.of(&tokens);
        let batch = Batch::continuing(&tokens, &known.iter().map(|prefix| prefix.tokens()).collect::<Vec<_>>());
        let keep = cache.worth_keeping(texts, &known);
        let outcome = self.model.run(&batch, &Pass { prefixes: &known, keep: &keep, wanted })?;
        // Where a value is not finite, what was computed beside it may not be either.
        if outcome.states.iter().all(|x| x.is_finite()) {
            outcome.kept.into_iter().for_each(|prefix| cache.put(prefix));
        }
        Ok(outcome.states)
    }
}
