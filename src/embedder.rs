//! From texts to vectors: tokens, batches, the model, and the cut to unit length.

use crate::control::{Control, Progress};
use crate::embeddings::Embeddings;
use crate::error::Error;
use crate::memory::{self, MemoryNeeds};
use crate::options::{EmbedOptions, LoadOptions, Truncate};
use crate::prefixes::PrefixCache;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::default_threads;
use qembed_models::gguf::{Gguf, Watch};
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{Batch, ModelError, Pass, Qwen3, common_tokens, is_called_reranker};
use std::path::Path;

/// Tokens of one forward pass, unless a single text has more. Enough that unpacking weights costs little, few enough that
/// activations stay near the cores: 4,096 tokens at once run at three quarters of the speed (docs/kernels.md).
const TOKENS_PER_PASS: usize = 1024;
/// The fewest tokens that a memory budget must allow for a pass.
const MIN_TOKENS_PER_PASS: usize = 64;
/// Of a stream, so many passes or texts are looked at together for what they have in common.
const WINDOW_PASSES: usize = 8;
const WINDOW_TEXTS: usize = 4096;
/// Fewest dimensions that the models were trained to be cut to.
const MIN_DIMENSIONS: usize = 32;
const MAX_THREADS: usize = 1024;

/// An embedding model, ready to use.
pub struct Embedder {
    model: Qwen3<CpuBackend>,
    tokenizer: Tokenizer,
    prefixes: PrefixCache<CpuBackend>,
    share_prefixes: bool,
    memory: MemoryNeeds,
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
    /// As [`Embedder::open`], and when the machine lacks the instruction set or the threads asked for.
    pub fn open_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let backend = Self::backend(options)?;
        Self::new(&Gguf::open_with(path, options.access)?, backend, options)
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
        let backend = Self::backend(options)?;
        Self::new(&qembed_models::builtin()?, backend, options)
    }

    fn backend(options: &LoadOptions) -> Result<CpuBackend, Error> {
        let threads = options.threads.unwrap_or_else(default_threads);
        if threads > MAX_THREADS {
            return Err(Error::TooManyThreads { threads, limit: MAX_THREADS });
        }
        let isa = Isa::select(options.isa.as_deref())?;
        CpuBackend::new(isa, threads).map_err(|source| Error::Threads { threads, source })
    }

    fn new(gguf: &Gguf, backend: CpuBackend, options: &LoadOptions) -> Result<Self, Error> {
        let model = Qwen3::load(gguf, backend, &options.allow)?;
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
        let mut call = Call::new(self, options, control)?;
        let mut embeddings = Embeddings::new(call.dimensions);
        // All of them before any pass: a text that cannot be embedded is found at once, not after an hour of work.
        texts.iter().try_for_each(|text| call.add(text.as_ref()))?;
        call.run(|_, vector, tokens| embeddings.push(vector, tokens))?;
        Ok(embeddings)
    }

    /// Calls `each(index, vector, tokens)` for each text, in their order, while it reads on: memory does not grow with
    /// the number of texts. Texts that share a beginning share work if they are near each other.
    ///
    /// # Errors
    /// As [`Embedder::embed_with`]; vectors of texts before the one that fails may have been given already.
    pub fn embed_each<T: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        options: &EmbedOptions,
        control: &Control,
        mut each: impl FnMut(usize, &[f32], usize),
    ) -> Result<(), Error> {
        let mut call = Call::new(self, options, control)?;
        for text in texts {
            call.add(text.as_ref())?;
            if call.tokens >= WINDOW_PASSES * call.pass_tokens || call.texts.len() >= WINDOW_TEXTS {
                call.run(&mut each)?;
            }
        }
        call.run(each)
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

    fn check_dimensions(&self, asked: Option<usize>) -> Result<usize, Error> {
        let max = self.dimensions();
        let min = MIN_DIMENSIONS.min(max);
        match asked {
            None => Ok(max),
            Some(asked) if (min..=max).contains(&asked) => Ok(asked),
            Some(asked) => Err(Error::Dimensions { asked, min, max }),
        }
    }

    /// Tokens of a text with what stands before it and the one token that ends it.
    fn tokens(&self, i: usize, text: &str, prefix: &str, truncate: Option<Truncate>) -> Result<Vec<u32>, Error> {
        if text.is_empty() {
            return Err(Error::EmptyText { text: i });
        }
        let encode = |text: &str| self.tokenizer.encode(text).map_err(|source| Error::Tokenize { text: i, source });
        let mut tokens = encode(&format!("{prefix}{text}"))?;
        let limit = self.max_tokens();
        let room = limit - 1;
        if tokens.len() > room {
            let Some(end) = truncate else {
                return Err(Error::TooLong { text: i, tokens: tokens.len() + 1, limit });
            };
            // Where no token spans the border between instruction and text, these are the instruction's own tokens.
            let kept = if prefix.is_empty() { 0 } else { encode(prefix)?.len() };
            if kept >= room {
                return Err(Error::InstructionTooLong { tokens: kept, limit });
            }
            match end {
                Truncate::Right => tokens.truncate(room),
                Truncate::Left => drop(tokens.drain(kept..tokens.len() - (room - kept))),
            }
        }
        tokens.push(self.tokenizer.eos());
        // Checked here and not by the model, which knows texts by their place in a pass only.
        let rows = self.model.vocabulary();
        match tokens.iter().find(|token| **token as usize >= rows) {
            Some(token) => Err(Error::Vocabulary { text: i, token: *token, rows }),
            None => Ok(tokens),
        }
    }
}

/// A call under way: texts that were read but have no vectors yet.
struct Call<'a> {
    embedder: &'a Embedder,
    control: &'a Control<'a>,
    truncate: Option<Truncate>,
    dimensions: usize,
    /// What stands before each text, and its tokens when it stands alone.
    prefix: String,
    prefix_tokens: Vec<u32>,
    /// Tokens of a forward pass, unless a single text has more.
    pass_tokens: usize,
    /// Texts before those in `texts`.
    done: Progress,
    texts: Vec<Vec<u32>>,
    /// Tokens of `texts`.
    tokens: usize,
}

impl<'a> Call<'a> {
    fn new(embedder: &'a Embedder, options: &EmbedOptions, control: &'a Control<'a>) -> Result<Self, Error> {
        let prefix = options.prompt.prefix();
        let encode = |text: &str| embedder.tokenizer.encode(text);
        let prefix_tokens = encode(&prefix).map_err(|source| Error::Tokenize { text: 0, source })?;
        Ok(Self {
            embedder,
            control,
            truncate: options.truncate,
            dimensions: embedder.check_dimensions(options.dimensions)?,
            prefix,
            prefix_tokens,
            pass_tokens: embedder.pass_tokens(),
            done: Progress::default(),
            texts: Vec::new(),
            tokens: 0,
        })
    }

    /// Takes a text in.
    fn add(&mut self, text: &str) -> Result<(), Error> {
        let i = self.done.texts + self.texts.len();
        let tokens = self.embedder.tokens(i, text, &self.prefix, self.truncate)?;
        let memory = &self.embedder.memory;
        let (budget, limit) = (memory.budget, memory.tokens());
        if tokens.len() > limit {
            let needed = memory.of_pass(tokens.len(), 1);
            return Err(Error::OverBudget { text: i, tokens: tokens.len(), needed, budget, limit });
        }
        self.tokens += tokens.len();
        self.texts.push(tokens);
        Ok(())
    }

    /// Runs what was taken in and gives the vectors, in order.
    fn run(&mut self, mut each: impl FnMut(usize, &[f32], usize)) -> Result<(), Error> {
        let texts = std::mem::take(&mut self.texts);
        self.tokens = 0;
        let first = self.done.texts;
        let mut vectors = vec![0f32; texts.len() * self.dimensions];
        // Neighbours in this order have the longest beginnings in common.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        if self.embedder.share_prefixes {
            order.sort_by_key(|i| &texts[*i]);
        }
        let mut rest = &order[..];
        while !rest.is_empty() {
            let (pass, others) = rest.split_at(self.texts_of_pass(&texts, rest));
            rest = others;
            let tokens: Vec<&[u32]> = pass.iter().map(|i| &texts[*i][..]).collect();
            let states = self.pass(&tokens)?;
            let mut broken = None;
            for (state, i) in states.chunks_exact(self.embedder.dimensions()).zip(pass) {
                let vector = &mut vectors[i * self.dimensions..][..self.dimensions];
                vector.copy_from_slice(&state[..self.dimensions]);
                normalize(vector);
                if !vector.iter().all(|x| x.is_finite()) {
                    broken = Some(broken.map_or(*i, |other: usize| other.min(*i)));
                }
            }
            if let Some(i) = broken {
                return Err(Error::NonFinite { text: first + i });
            }
            self.done.texts += pass.len();
            self.done.tokens += tokens.iter().map(|text| text.len()).sum::<usize>();
            if let Some(progress) = self.control.progress {
                progress(self.done);
            }
        }
        for (i, (vector, tokens)) in vectors.chunks_exact(self.dimensions).zip(&texts).enumerate() {
            each(first + i, vector, tokens.len());
        }
        Ok(())
    }

    /// How many of the first texts of `order` make a pass: those whose tokens, common beginnings counted once, fit.
    fn texts_of_pass(&self, texts: &[Vec<u32>], order: &[usize]) -> usize {
        let memory = &self.embedder.memory;
        let (mut total, mut count) = (0, 0);
        let mut before: &[u32] = &[];
        let fits = |i: &&usize| {
            let text = &texts[**i];
            let shared = if self.embedder.share_prefixes { common_tokens(before, text) } else { 0 };
            before = text;
            total += text.len() - shared;
            count += 1;
            total <= self.pass_tokens && memory.of_pass(total, count) <= memory.budget
        };
        order.iter().take_while(fits).count().max(1)
    }

    /// The final hidden states of texts.
    fn pass(&self, texts: &[&[u32]]) -> Result<Vec<f32>, Error> {
        let Embedder { model, prefixes, share_prefixes, watch, .. } = self.embedder;
        let wanted = || !self.control.cancelled() && !self.control.late() && watch.unchanged().is_ok();
        let known = if *share_prefixes { prefixes.of(texts) } else { Vec::new() };
        let batch = if *share_prefixes {
            Batch::continuing(texts, &known.iter().map(|prefix| prefix.tokens()).collect::<Vec<_>>())
        } else {
            Batch::separate(texts)
        };
        // What the first text has of the instruction, unless that is known. A text's first token may have merged with the
        // instruction's last.
        let instruction = &texts[0][..common_tokens(&self.prefix_tokens, texts[0]).min(texts[0].len() - 1)];
        let is_known = known.iter().any(|prefix| prefix.tokens() == instruction);
        let keep = *share_prefixes && !instruction.is_empty() && !is_known && prefixes.takes(instruction.len());
        let pass = Pass { prefixes: &known, keep: keep.then_some((0, instruction)), wanted: &wanted };
        let outcome = model.run(&batch, &pass);
        // What was computed from other weights than those that were opened is worth nothing.
        watch.unchanged()?;
        let outcome = outcome.map_err(|error| match error {
            ModelError::Unwanted if self.control.cancelled() => Error::Cancelled,
            ModelError::Unwanted => Error::DeadlineExceeded,
            error => error.into(),
        })?;
        // Where a value is not finite, what was computed beside it may not be either.
        if let Some(prefix) = outcome.kept
            && outcome.states.iter().all(|x| x.is_finite())
        {
            prefixes.put(prefix);
        }
        Ok(outcome.states)
    }
}

/// Divides a vector by its Euclidean length; what is not finite, or has no length, becomes NaN.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}
