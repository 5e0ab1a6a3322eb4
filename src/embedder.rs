//! From texts to vectors: tokens, batches, the model, and the cut to unit length.

use crate::call::Call;
use crate::control::Control;
use crate::embeddings::Embeddings;
use crate::error::Error;
use crate::memory::{self, MemoryNeeds};
use crate::options::{EmbedOptions, LoadOptions};
use crate::prefixes::PrefixCache;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::default_threads;
use qembed_models::gguf::{Gguf, Watch};
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{Qwen3, is_called_reranker};
use std::path::Path;

/// Tokens of one forward pass, unless a single text has more. Enough that unpacking weights costs little, few enough that
/// activations stay near the cores: 4,096 tokens at once run at three quarters of the speed (docs/kernels.md).
const TOKENS_PER_PASS: usize = 1024;
/// The fewest tokens that a memory budget must allow for a pass.
const MIN_TOKENS_PER_PASS: usize = 64;
/// Fewest dimensions that the models were trained to be cut to.
const MIN_DIMENSIONS: usize = 32;
const MAX_THREADS: usize = 1024;

/// An embedding model, ready to use.
pub struct Embedder {
    pub(crate) model: Qwen3<CpuBackend>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) prefixes: PrefixCache<CpuBackend>,
    pub(crate) share_prefixes: bool,
    pub(crate) memory: MemoryNeeds,
    warnings: Vec<String>,
    /// The model file, which must stay as it is.
    pub(crate) watch: Watch,
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
    /// As [`Embedder::open`], and when the machine lacks the instruction set or the threads asked for.
    pub fn open_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        Self::new(&Gguf::open_with(path, options.access)?, options)
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
    /// When the machine lacks the instruction set or the threads asked for.
    #[cfg(feature = "builtin")]
    pub fn builtin_with(options: &LoadOptions) -> Result<Self, Error> {
        Self::new(&qembed_models::builtin()?, options)
    }

    fn backend(options: &LoadOptions) -> Result<CpuBackend, Error> {
        let threads = options.threads.unwrap_or_else(default_threads);
        if threads > MAX_THREADS {
            return Err(Error::TooManyThreads { threads, limit: MAX_THREADS });
        }
        let isa = Isa::select(options.isa.as_deref())?;
        CpuBackend::new(isa, threads).map_err(|source| Error::Threads { threads, source })
    }

    /// The model of an open file; `options.access` was for whoever opened it.
    pub(crate) fn new(gguf: &Gguf, options: &LoadOptions) -> Result<Self, Error> {
        let model = Qwen3::load(gguf, Self::backend(options)?, &options.allow)?;
        let memory = Self::needs(gguf, &model, options.memory_budget)?;
        let tokenizer = match &options.tokenizer {
            Some(path) => Tokenizer::from_file(path)?,
            None => Tokenizer::from_gguf(gguf)?,
        };
        let allowed = |name: &&String| model.allowed().iter().any(|item| item.name == **name);
        let idle = options.allow.iter().filter(|name| !allowed(name));
        let warnings = (model.allowed().iter().map(|item| format!("{item}; it is passed over, as allowed")))
            .chain(idle.map(|name| format!("nothing by the name of {name:?} had to be allowed")))
            .chain(is_called_reranker(gguf).then(|| {
                "the file calls itself a reranker: its vectors are of no use, it scores pairs of texts".into()
            }))
            .chain(tokenizer.warnings().iter().cloned())
            .collect();
        let prefixes = PrefixCache::new(options.prefix_cache, model.prefix_bytes_per_token());
        let (share_prefixes, watch) = (options.share_prefixes, gguf.watch());
        Ok(Self { model, tokenizer, prefixes, share_prefixes, memory, warnings, watch })
    }

    /// One vector of length 1 for each text, in their order.
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
        let mut call = Call::new(self, options, control, true)?;
        let mut embeddings = Embeddings::new(call.dimensions());
        // All of them before any pass: a text that cannot be embedded is found at once, not after an hour of work.
        texts.iter().try_for_each(|text| call.add(text.as_ref()))?;
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
        let mut call = Call::new(self, options, control, false)?;
        for text in texts {
            let added = call.add(text.as_ref());
            // What was read before a text that cannot be embedded does not share its fate.
            if added.is_err() || call.is_full() {
                run(&mut call)?;
            }
            added?;
        }
        run(&mut call)
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
        let control = Control::default();
        let call = Call::new(self, options, &control, true)?;
        texts.into_iter().enumerate().try_for_each(|(i, text)| call.tokenize(i, text.as_ref()).map(drop))
    }

    /// The model's own number of dimensions, the most that vectors can have.
    pub fn dimensions(&self) -> usize {
        self.model.config().hidden
    }

    /// The most tokens that a text may have, instruction and end token included.
    pub fn max_tokens(&self) -> usize {
        self.model.config().context
    }

    /// Tokens of a forward pass, unless a single text has more.
    pub fn pass_tokens(&self) -> usize {
        self.memory.tokens().min(TOKENS_PER_PASS)
    }

    /// The instruction-set tier in use.
    pub fn isa(&self) -> &'static str {
        self.model.backend().isa().name
    }

    /// The number of threads that work.
    pub fn threads(&self) -> usize {
        self.model.backend().threads()
    }

    /// Size of the model file, all parts, in bytes.
    pub fn file_size(&self) -> u64 {
        self.memory.file
    }

    /// Where the file disagrees with what is done, and what was allowed of it; to be shown to the user.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    fn needs(gguf: &Gguf, model: &Qwen3<CpuBackend>, budget: Option<u64>) -> Result<MemoryNeeds, Error> {
        let available = memory::available();
        let per_token = model.bytes_per_token() as u64;
        let needs = MemoryNeeds {
            file: gguf.file_size(),
            fixed: memory::fixed(model.vocabulary()),
            per_token,
            per_text: model.bytes_per_text() as u64,
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
        Ok(MemoryNeeds { budget: budget.min(left - needs.fixed), ..needs })
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
