//! From texts to vectors: tokens, batches, the model, and the cut to unit length.

use crate::embeddings::Embeddings;
use crate::error::Error;
use crate::options::{EmbedOptions, LoadOptions, Truncate};
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::default_threads;
use qembed_models::gguf::Gguf;
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{Batch, Qwen3};
use std::path::Path;

/// Tokens of one forward pass, unless a single text has more. Enough that unpacking weights costs little, few enough
/// that activations stay near 150 MB for the 0.6B model.
const TOKENS_PER_PASS: usize = 2048;
/// Fewest dimensions that the models were trained to be cut to.
const MIN_DIMENSIONS: usize = 32;
const MAX_THREADS: usize = 1024;

/// An embedding model, ready to use.
pub struct Embedder {
    model: Qwen3<CpuBackend>,
    tokenizer: Tokenizer,
    file_size: u64,
}

impl Embedder {
    /// Opens a Qwen3-Embedding GGUF file; any part of one that is split. A `tokenizer.json` in the same folder takes
    /// the place of the file's own tokenizer.
    ///
    /// # Errors
    /// When the file cannot be read, is no such model, or its tokenizer cannot be used.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, &LoadOptions::default())
    }

    /// [`Embedder::open`] with choices.
    ///
    /// # Errors
    /// As [`Embedder::open`], and when the machine lacks the instruction set or the threads asked for.
    pub fn open_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let threads = options.threads.unwrap_or_else(default_threads);
        if threads > MAX_THREADS {
            return Err(Error::TooManyThreads { threads, limit: MAX_THREADS });
        }
        let isa = Isa::select(options.isa.as_deref())?;
        let gguf = Gguf::open(path)?;
        let backend = CpuBackend::new(isa, threads).map_err(|source| Error::Threads { threads, source })?;
        let model = Qwen3::load(&gguf, backend)?;
        let beside = path.with_file_name("tokenizer.json");
        let tokenizer = if beside.is_file() { Tokenizer::from_file(&beside)? } else { Tokenizer::from_gguf(&gguf)? };
        Ok(Self { model, tokenizer, file_size: gguf.file_size() })
    }

    /// One vector of length 1 for each text, in their order.
    ///
    /// # Errors
    /// A text that is empty or too long, dimensions that cannot be had, a vector that is not finite. Errors name the
    /// text; then no vector is returned.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T], options: &EmbedOptions) -> Result<Embeddings, Error> {
        let dimensions = self.check_dimensions(options.dimensions)?;
        let prefix = options.prompt.prefix();
        let mut embeddings = Embeddings::new(dimensions);
        // All of them before any pass: a text that cannot be embedded is found at once, not after an hour of work.
        let tokens = |(i, text): (usize, &T)| self.tokens(i, text.as_ref(), &prefix, options.truncate);
        let texts: Vec<Vec<u32>> = texts.iter().enumerate().map(tokens).collect::<Result<_, _>>()?;
        let mut at = 0;
        while at < texts.len() {
            let mut total = 0;
            let count = texts[at..]
                .iter()
                .take_while(|t| {
                    total += t.len();
                    total <= TOKENS_PER_PASS
                })
                .count()
                .max(1);
            self.run(&Batch::new(&texts[at..at + count]), &mut embeddings)?;
            at += count;
        }
        Ok(embeddings)
    }

    /// The model's own number of dimensions, the most that vectors can have.
    pub fn dimensions(&self) -> usize {
        self.model.config().hidden
    }

    /// The most tokens that a text may have, instruction and end token included.
    pub fn max_tokens(&self) -> usize {
        self.model.config().context
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
        self.file_size
    }

    /// Where the file's metadata disagrees with what is done; to be shown to the user.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.model.config().warnings.iter().chain(self.tokenizer.warnings()).map(String::as_str)
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

    /// Runs one batch and appends its vectors.
    fn run(&self, batch: &Batch, embeddings: &mut Embeddings) -> Result<(), Error> {
        let hidden = self.dimensions();
        let mut states = self.model.forward(batch)?;
        for (state, tokens) in states.chunks_exact_mut(hidden).zip(batch.lengths()) {
            let vector = &mut state[..embeddings.dimensions()];
            normalize(vector);
            if !vector.iter().all(|x| x.is_finite()) {
                return Err(Error::NonFinite { text: embeddings.len() });
            }
            embeddings.push(vector, tokens);
        }
        Ok(())
    }
}

/// Divides a vector by its Euclidean length; what is not finite, or has no length, becomes NaN.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}
