//! From texts to vectors: tokens, batches, the model, and the cut to unit length.

use crate::call::Call;
use crate::control::Control;
use crate::device;
use crate::embeddings::Embeddings;
use crate::error::Error;
use crate::memory::{self, MemoryNeeds};
use crate::options::{EmbedOptions, LoadOptions};
use crate::planner::Limits;
use crate::tokens::{Encoder, TextLimits, Tokens};
use qembed_models::gguf::{Gguf, Watch};
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{ModelError, PassMemory, Runner, Text, is_called_reranker};
use std::path::Path;

/// Tokens of one forward pass, unless a single text has more. Enough that unpacking weights costs little, few enough that
/// activations stay near the cores: 4,096 tokens at once run at three quarters of the speed (docs/kernels.md).
const TOKENS_PER_PASS: usize = 1024;
/// The fewest tokens that a memory budget must allow for a pass.
const MIN_TOKENS_PER_PASS: usize = 64;
/// Texts that are tokenized before it is asked again whether they are still wanted.
const TEXTS_UNASKED: usize = 64;
/// Fewest dimensions that the models were trained to be cut to.
const MIN_DIMENSIONS: usize = 32;

/// An embedding model, ready to use.
pub struct Embedder {
    runner: Box<dyn Runner>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) memory: MemoryNeeds,
    warnings: Vec<String>,
    /// The model file, which must stay as it is.
    watch: Watch,
}

impl Embedder {
    /// Opens a Qwen3-Embedding GGUF file; any part of one that is split.
    ///
    /// # Errors
    /// When the file cannot be read, is no such model or differs from one in a way that is not understood, or when its
    /// tokenizer cannot be used.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, &LoadOptions::default())
    }

    /// [`Embedder::open`] with choices.
    ///
    /// # Errors
    /// As [`Embedder::open`], and when the machine lacks the device, the instruction set or the threads asked for.
    pub fn open_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        Self::from_gguf(&Gguf::open_with(path, options.access)?, options)
    }

    /// The small model that the program carries (feature `builtin`, on by default): no file is needed. It is good for a
    /// first try and for tests, and no substitute for a Qwen3-Embedding file.
    ///
    /// # Errors
    /// When the operating system gives no threads, or `QEMBED_ISA` names an instruction set that the machine lacks.
    #[cfg(feature = "builtin")]
    pub fn builtin() -> Result<Self, Error> {
        Self::builtin_with(&LoadOptions::default())
    }

    /// [`Embedder::builtin`] with choices.
    ///
    /// # Errors
    /// When the machine lacks the device, the instruction set or the threads asked for.
    #[cfg(feature = "builtin")]
    pub fn builtin_with(options: &LoadOptions) -> Result<Self, Error> {
        Self::from_gguf(&qembed_models::builtin()?, options)
    }

    /// The model of an open file; `options.access` was for whoever opened it.
    ///
    /// # Errors
    /// As [`Embedder::open_with`].
    pub fn from_gguf(gguf: &Gguf, options: &LoadOptions) -> Result<Self, Error> {
        let fits = |runner: &dyn Runner| Self::needs(gguf, runner, options.memory_budget).map(drop);
        let (runner, notes) = device::load(gguf, options, &fits)?;
        let mut embedder = Self::on(runner, gguf, options)?;
        embedder.warnings.splice(..0, notes);
        Ok(embedder)
    }

    /// The same with a runner that is there already.
    pub(crate) fn on(runner: Box<dyn Runner>, gguf: &Gguf, options: &LoadOptions) -> Result<Self, Error> {
        let memory = Self::needs(gguf, &*runner, options.memory_budget)?;
        let tokenizer = match &options.tokenizer {
            Some(path) => Tokenizer::from_file(path)?,
            None => Tokenizer::from_gguf(gguf)?,
        };
        let allowed = |name: &&String| runner.allowed().iter().any(|item| item.name == **name);
        let idle = options.allow.iter().filter(|name| !allowed(name));
        let warnings = (runner.allowed().iter().map(|item| format!("{item}; it is passed over, as allowed")))
            .chain(idle.map(|name| format!("nothing by the name of {name:?} had to be allowed")))
            .chain(is_called_reranker(gguf).then(|| {
                "the file calls itself a reranker: its vectors are of no use, it scores pairs of texts".into()
            }))
            .chain(tokenizer.warnings().iter().cloned())
            .collect();
        let watch = gguf.watch();
        Ok(Self { runner, tokenizer, memory, warnings, watch })
    }

    /// One vector for each text, in their order; of length 1 by default.
    ///
    /// # Errors
    /// A text that is empty or too long, dimensions that cannot be had, a vector that is not finite. Errors name the
    /// text; then no vector is returned.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T], options: &EmbedOptions) -> Result<Embeddings, Error> {
        self.embed_with(texts, options, &Control::default())
    }

    /// [`Embedder::embed`], watched and with an end that the caller may set.
    ///
    /// # Errors
    /// As [`Embedder::embed`], and when `control` ends it.
    pub fn embed_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
        control: &Control,
    ) -> Result<Embeddings, Error> {
        self.check_dimensions(options.dimensions)?;
        // All of them before any pass: a text that cannot be embedded is found at once, not after an hour of work.
        self.embed_tokens(self.tokenize_with(texts, options, control)?, options, control)
    }

    /// Texts as tokens, for [`Embedder::embed_tokens`]: the cheap part of embedding, on whatever thread. Of `options`, what
    /// concerns vectors is for later.
    ///
    /// # Errors
    /// A text that is empty or too long; errors name the text.
    pub fn tokenize<T: AsRef<str>>(&self, texts: &[T], options: &EmbedOptions) -> Result<Vec<Tokens>, Error> {
        self.tokenize_with(texts, options, &Control::default())
    }

    /// [`Embedder::tokenize`] with an end that the caller may set: many texts take a while. Of `control`, the progress is of no
    /// consequence.
    ///
    /// # Errors
    /// As [`Embedder::tokenize`], and when `control` ends it.
    pub fn tokenize_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
        control: &Control,
    ) -> Result<Vec<Tokens>, Error> {
        let encoder = self.encoder(options)?;
        let encode = |(i, text): (usize, &T)| match i.is_multiple_of(TEXTS_UNASKED).then(|| control.ended()).flatten() {
            Some(why) => Err(why),
            None => encoder.encode(i, text.as_ref()),
        };
        texts.iter().enumerate().map(encode).collect()
    }

    /// A text that the caller has tokenized, by the ids of the model's own vocabulary, for [`Embedder::embed_tokens`]: the
    /// instruction is put before them, and the end token after them unless it is there.
    ///
    /// # Errors
    /// No ids, too many, or one that the model has no embedding for; errors call it text 0.
    pub fn tokens_of_ids(&self, ids: &[u32], options: &EmbedOptions) -> Result<Tokens, Error> {
        self.encoder(options)?.of_ids(0, ids)
    }

    /// A text of any length as pieces that fit into the model's context and the memory budget, for
    /// [`Embedder::embed_tokens`], whose vectors the caller may put together: a list of one if the text fits as a whole.
    /// Each piece has the instruction and the end token; the tokens of the text that it shares with the one before are
    /// `overlap`. Pieces are as few as can be and of one length, save the last, which may be shorter by less than their
    /// number. `truncate` of the options is of no consequence.
    ///
    /// # Errors
    /// A text that is empty, an overlap that leaves nothing new in a piece; errors call it text 0.
    pub fn tokenize_chunks(&self, text: &str, options: &EmbedOptions, overlap: usize) -> Result<Vec<Tokens>, Error> {
        self.encoder(options)?.chunks(0, text, overlap)
    }

    /// One vector for each text that this embedder has tokenized, in their order, whatever their instructions. Of `options`,
    /// what concerns texts was for [`Embedder::tokenize`].
    ///
    /// # Errors
    /// Dimensions that cannot be had, a vector that is not finite, a device that fails, and when `control` ends it.
    pub fn embed_tokens(
        &self,
        texts: impl IntoIterator<Item = Tokens>,
        options: &EmbedOptions,
        control: &Control,
    ) -> Result<Embeddings, Error> {
        let mut call = Call::new(self, options, control, true)?;
        let mut embeddings = Embeddings::new(call.dimensions());
        texts.into_iter().for_each(|tokens| call.add(tokens));
        call.run_in_order(|_, vector, tokens| embeddings.push(vector, tokens))?;
        Ok(embeddings)
    }

    /// Calls `each(index, vector, tokens)` for each text, in their order, while it reads on: memory does not grow with
    /// the number of texts. Texts that share a beginning share work if they are near each other.
    ///
    /// # Errors
    /// As [`Embedder::embed_with`]. Unless `control` ended the call, `each` was then called for all texts before the one
    /// that failed.
    pub fn embed_each<T: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        options: &EmbedOptions,
        control: &Control,
        mut each: impl FnMut(usize, &[f32], usize),
    ) -> Result<(), Error> {
        self.in_windows(texts, options, control, |call| call.run_in_order(&mut each))
    }

    /// [`Embedder::embed_each`] for who needs no order: each vector is given when it is computed, so that nothing computed
    /// is lost, whatever ends the call.
    ///
    /// # Errors
    /// As [`Embedder::embed_each`].
    pub fn embed_unordered<T: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        options: &EmbedOptions,
        control: &Control,
        mut each: impl FnMut(usize, &[f32], usize),
    ) -> Result<(), Error> {
        self.in_windows(texts, options, control, |call| call.run(&mut each))
    }

    fn in_windows<T: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        options: &EmbedOptions,
        control: &Control,
        mut run: impl FnMut(&mut Call) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let encoder = self.encoder(options)?;
        let mut call = Call::new(self, options, control, false)?;
        for text in texts {
            let tokens = encoder.encode(call.added(), text.as_ref());
            // What was read before a text that cannot be embedded does not share its fate.
            if tokens.is_err() || call.is_full() {
                run(&mut call)?;
            }
            call.add(tokens?);
        }
        run(&mut call)
    }

    /// [`Embedder::embed_unordered`] for texts that this embedder has tokenized, whatever their instructions.
    ///
    /// # Errors
    /// As [`Embedder::embed_tokens`]. Unless `control` ended the call, `each` was then called for all texts before the one
    /// that failed.
    pub fn embed_tokens_unordered(
        &self,
        texts: impl IntoIterator<Item = Tokens>,
        options: &EmbedOptions,
        control: &Control,
        each: impl FnMut(usize, &[f32], usize),
    ) -> Result<(), Error> {
        self.embed_cut_unordered(texts.into_iter().map(|tokens| (tokens, None)), options, control, each)
    }

    /// [`Embedder::embed_tokens_unordered`], with a number of dimensions that a text may have of its own, which must be one that the model
    /// can have.
    pub(crate) fn embed_cut_unordered(
        &self,
        texts: impl IntoIterator<Item = (Tokens, Option<usize>)>,
        options: &EmbedOptions,
        control: &Control,
        mut each: impl FnMut(usize, &[f32], usize),
    ) -> Result<(), Error> {
        let mut call = Call::new(self, options, control, false)?;
        for (tokens, own) in texts {
            if call.is_full() {
                call.run(&mut each)?;
            }
            match own {
                Some(own) => call.add_cut(tokens, own),
                None => call.add(tokens),
            }
        }
        call.run(&mut each)
    }

    /// The model's hyperparameters.
    #[cfg(feature = "serve")]
    pub(crate) fn config(&self) -> &qembed_models::Config {
        self.runner.config()
    }

    /// How many tokens there are, numbered from 0.
    #[cfg(feature = "serve")]
    pub(crate) fn vocabulary(&self) -> usize {
        self.runner.vocabulary()
    }

    /// Whether texts can be embedded, found out without computing a vector: of a list of texts that will be streamed, what
    /// is wrong is known before any work.
    ///
    /// # Errors
    /// As [`Embedder::embed`], save for vectors that are not finite.
    pub fn check<T: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        options: &EmbedOptions,
    ) -> Result<(), Error> {
        self.check_dimensions(options.dimensions)?;
        let encoder = self.encoder(options)?;
        texts.into_iter().enumerate().try_for_each(|(i, text)| encoder.encode(i, text.as_ref()).map(drop))
    }

    /// The model's own number of dimensions, the most that vectors can have.
    pub fn dimensions(&self) -> usize {
        self.runner.config().hidden
    }

    /// The most tokens that a text may have, instruction and end token included.
    pub fn max_tokens(&self) -> usize {
        self.runner.config().context
    }

    /// Tokens of a forward pass, unless a single text has more.
    pub fn pass_tokens(&self) -> usize {
        self.memory.tokens().min(TOKENS_PER_PASS)
    }

    /// The device's name, such as `cpu`.
    pub fn device(&self) -> &'static str {
        self.runner.device().name
    }

    /// The instruction-set tier in use.
    pub fn isa(&self) -> &'static str {
        self.runner.device().isa
    }

    /// The number of threads that work.
    pub fn threads(&self) -> usize {
        self.runner.device().threads
    }

    /// Size of the model file, all parts, in bytes.
    pub fn file_size(&self) -> u64 {
        self.memory.file
    }

    /// Where the file disagrees with what is done, what was allowed of it, and why the device is another than one might expect;
    /// to be shown to the user.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    pub(crate) fn encoder(&self, options: &EmbedOptions) -> Result<Encoder<'_>, Error> {
        let (tokens, vocabulary) = (self.max_tokens(), self.runner.vocabulary());
        Encoder::new(&self.tokenizer, TextLimits { tokens, vocabulary, memory: self.memory }, options)
    }

    /// What bounds a pass.
    pub(crate) fn limits(&self) -> Limits {
        let shares_prefixes = self.runner.shares_prefixes();
        Limits { tokens: self.pass_tokens(), memory: self.memory, shares_prefixes }
    }

    /// The final hidden states of the texts of a pass, [texts × hidden], as long as it is `wanted`: asked before each layer.
    ///
    /// # Errors
    /// A device that fails, a file that was changed, and [`Error::Cancelled`] where it was not wanted to the end.
    pub(crate) fn states(&self, pass: &[(usize, Tokens)], wanted: &dyn Fn() -> bool) -> Result<Vec<f32>, Error> {
        let texts: Vec<Text> = pass.iter().map(|(_, tokens)| tokens.as_text()).collect();
        let states = self.runner.run(&texts, &|| wanted() && self.watch.unchanged().is_ok());
        // What was computed from other weights than those that were opened is worth nothing.
        self.watch.unchanged()?;
        states.map_err(|error| match error {
            ModelError::Unwanted => Error::Cancelled,
            error => error.into(),
        })
    }

    fn needs(gguf: &Gguf, runner: &dyn Runner, budget: Option<u64>) -> Result<MemoryNeeds, Error> {
        let available = memory::available();
        let PassMemory { per_token, per_text, limit } = runner.memory();
        let needs = MemoryNeeds {
            file: gguf.file_size(),
            fixed: memory::fixed(runner.vocabulary()),
            per_token,
            per_text,
            budget: 0,
            available,
        };
        // Half: the pages of the file want room too. Without a word from the system, what a usual pass takes.
        let usual = needs.of_pass(TOKENS_PER_PASS, TOKENS_PER_PASS / 32);
        let budget = budget.unwrap_or_else(|| available.map_or(usual, |free| free.saturating_sub(needs.fixed) / 2));
        let least = needs.of_pass(MIN_TOKENS_PER_PASS, 1);
        let left = memory::address_space();
        let needed = needs.fixed + least;
        if left < needed {
            return Err(Error::AddressSpace { left, needed });
        }
        if budget < least {
            return Err(Error::BudgetTooSmall { budget, least });
        }
        let budget = budget.min(left - needs.fixed);
        // A device's own memory holds the weights as well.
        let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(needs.file));
        if room < least {
            let (device, limit) = (runner.device().name, limit.unwrap_or(u64::MAX));
            return Err(Error::DeviceTooSmall { device, limit, needed: needs.file + least });
        }
        Ok(MemoryNeeds { budget: budget.min(room), ..needs })
    }

    /// What the model takes of memory, and what there is.
    pub fn memory(&self) -> MemoryNeeds {
        MemoryNeeds { available: memory::available(), ..self.memory }
    }

    pub(crate) fn check_dimensions(&self, asked: Option<usize>) -> Result<usize, Error> {
        let max = self.dimensions();
        let min = MIN_DIMENSIONS.min(max);
        match asked {
            None => Ok(max),
            Some(asked) if (min..=max).contains(&asked) => Ok(asked),
            Some(asked) => Err(Error::Dimensions { asked, min, max }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Prompt;
    use std::sync::Mutex;

    /// An embedder that gives each text the number of its tokens, and the texts of each pass.
    fn embedder(limit: impl Fn(u64) -> Option<u64>) -> (Result<Embedder, Error>, &'static Mutex<Vec<usize>>) {
        let passes: &Mutex<Vec<usize>> = Box::leak(Box::default());
        let memory = |file| PassMemory { per_token: 1000, per_text: 100, limit: limit(file) };
        let embedder = crate::tests::embedder(1000, memory, |texts, hidden, wanted| {
            if !wanted() {
                return Err(ModelError::Unwanted);
            }
            passes.lock().unwrap().push(texts.len());
            let state = |text: &Text| {
                let mut state = vec![1.0; hidden];
                state[0] = text.tokens.len() as f32;
                state
            };
            Ok(texts.iter().flat_map(state).collect())
        });
        (embedder, passes)
    }

    #[test]
    fn any_runner_will_do() {
        let (embedder, passes) = embedder(|_| None);
        let embedder = embedder.unwrap();
        assert_eq!((embedder.device(), embedder.isa()), ("abacus", "beads"));
        let options = EmbedOptions::default();
        let vectors = embedder.embed(&["a", "abc", "a"], &options).unwrap();
        assert_eq!((&vectors[0], vectors.tokens()[1]), (&vectors[2], 4));
        assert_eq!(vectors[0][0] / vectors[0][1], 2.0);
        assert_eq!(*passes.lock().unwrap(), [3]);

        // Tokens of two callers, with instructions and without, are one list to it.
        let query = EmbedOptions { prompt: Prompt::Query, ..EmbedOptions::default() };
        let tokens =
            [embedder.tokenize(&["a"], &query).unwrap(), embedder.tokenize(&["abc"], &options).unwrap()].concat();
        let mixed = embedder
            .embed_tokens(tokens.clone(), &EmbedOptions::default().dimensions(32), &Control::default())
            .unwrap();
        assert_eq!((mixed.len(), mixed.tokens()[0], &mixed[1]), (2, tokens[0].len(), &vectors[1]));
        assert!(matches!(
            embedder.embed_tokens(tokens, &EmbedOptions::default().dimensions(31), &Control::default()),
            Err(Error::Dimensions { asked: 31, min: 32, max: 32 })
        ));
    }

    #[test]
    fn what_a_device_can_hold_bounds_a_pass() {
        let least = 1000 * MIN_TOKENS_PER_PASS as u64 + 100;
        let (small, _) = embedder(|file| Some(file + least - 1));
        let error = small.err().unwrap();
        assert!(matches!(error, Error::DeviceTooSmall { device: "abacus", .. }), "{error}");
        let (embedder, passes) = embedder(|file| Some(file + least));
        let embedder = embedder.unwrap();
        assert_eq!(embedder.memory().budget, least);
        let texts: Vec<String> = (0..8).map(|i| format!("{i}{}", "a".repeat(20))).collect();
        embedder.embed(&texts, &EmbedOptions::default()).unwrap();
        let passes = passes.lock().unwrap();
        assert!(passes.len() > 1 && passes.iter().sum::<usize>() == 8, "{passes:?}");
    }
}
