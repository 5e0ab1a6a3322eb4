//! A call under way: texts that were read, cut into passes, and their vectors.

use crate::control::{Control, Progress};
use crate::embedder::Embedder;
use crate::error::{Error, InstructionError};
use crate::options::{EmbedOptions, Empty, Truncate};
use qembed_models::{Batch, ModelError, Pass, common_tokens};

/// Of a stream, so many passes or texts are looked at together for what they have in common.
const WINDOW_PASSES: usize = 8;
const WINDOW_TEXTS: usize = 4096;

/// Texts that were read but have no vectors yet, and how they are to be embedded.
pub(crate) struct Call<'a> {
    embedder: &'a Embedder,
    control: &'a Control<'a>,
    truncate: Option<Truncate>,
    empty: Empty,
    dimensions: usize,
    /// What stands before each text, and its tokens when it stands alone.
    prefix: String,
    prefix_tokens: Vec<u32>,
    /// Tokens of a forward pass, unless a single text has more.
    pass_tokens: usize,
    /// Whether vectors are of no use unless all can be had.
    all_or_none: bool,
    /// Texts before those in `texts`.
    done: Progress,
    texts: Vec<Vec<u32>>,
    /// Tokens of `texts`.
    tokens: usize,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        embedder: &'a Embedder,
        options: &EmbedOptions,
        control: &'a Control<'a>,
        all_or_none: bool,
    ) -> Result<Self, Error> {
        let prefix = options.prompt.prefix();
        let prefix_tokens = embedder.tokenizer.encode(&prefix).map_err(InstructionError::Tokenize)?;
        let call = Self {
            embedder,
            control,
            truncate: options.truncate,
            empty: options.empty,
            dimensions: embedder.check_dimensions(options.dimensions)?,
            prefix,
            prefix_tokens,
            pass_tokens: embedder.pass_tokens(),
            all_or_none,
            done: Progress::default(),
            texts: Vec::new(),
            tokens: 0,
        };
        call.check_instruction()?;
        Ok(call)
    }

    /// Values of a vector.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Whether an instruction leaves room for a text: where it does not, no text is to blame.
    fn check_instruction(&self) -> Result<(), Error> {
        let tokens = self.prefix_tokens.len();
        if tokens == 0 {
            return Ok(());
        }
        let (rows, limit) = (self.embedder.model.vocabulary(), self.embedder.max_tokens());
        if let Some(&token) = self.prefix_tokens.iter().find(|token| **token as usize >= rows) {
            return Err(InstructionError::Vocabulary { token, rows }.into());
        }
        if tokens + 1 >= limit {
            return Err(Error::InstructionTooLong { tokens, limit });
        }
        let memory = &self.embedder.memory;
        if tokens + 1 >= memory.tokens() {
            let (needed, budget, limit) = (memory.of_pass(tokens + 2, 1), memory.budget, memory.tokens());
            return Err(InstructionError::OverBudget { tokens, needed, budget, limit }.into());
        }
        Ok(())
    }

    /// Tokens of text `i` with what stands before it and the one token that ends it.
    pub(crate) fn tokenize(&self, i: usize, text: &str) -> Result<Vec<u32>, Error> {
        if text.is_empty() && self.empty == Empty::Refuse {
            return Err(Error::EmptyText { text: i });
        }
        let tokenizer = &self.embedder.tokenizer;
        let encoded = tokenizer.encode(&format!("{}{text}", self.prefix));
        let mut tokens = encoded.map_err(|source| Error::Tokenize { text: i, source })?;
        let limit = self.embedder.max_tokens();
        let room = limit - 1;
        if tokens.len() > room {
            // Where no token spans the border between instruction and text, these are the instruction's own tokens.
            let kept = self.prefix_tokens.len();
            match self.truncate {
                None => return Err(Error::TooLong { text: i, tokens: tokens.len() + 1, limit }),
                Some(Truncate::Right) => tokens.truncate(room),
                Some(Truncate::Left) => drop(tokens.drain(kept..tokens.len() - (room - kept))),
            }
        }
        tokens.push(tokenizer.eos());
        // Checked here and not by the model, which knows texts by their place in a pass only.
        let rows = self.embedder.model.vocabulary();
        if let Some(&token) = tokens.iter().find(|token| **token as usize >= rows) {
            return Err(Error::Vocabulary { text: i, token, rows });
        }
        let memory = &self.embedder.memory;
        let (budget, limit) = (memory.budget, memory.tokens());
        if tokens.len() > limit {
            let needed = memory.of_pass(tokens.len(), 1);
            return Err(Error::OverBudget { text: i, tokens: tokens.len(), needed, budget, limit });
        }
        Ok(tokens)
    }

    /// Takes a text in.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), Error> {
        let tokens = self.tokenize(self.done.texts + self.texts.len(), text)?;
        self.tokens += tokens.len();
        self.texts.push(tokens);
        Ok(())
    }

    /// Whether it is time to run.
    pub(crate) fn is_full(&self) -> bool {
        self.tokens >= WINDOW_PASSES * self.pass_tokens || self.texts.len() >= WINDOW_TEXTS
    }

    /// [`Self::run`], which gives the vectors in the order of the texts: none before those of all texts before it.
    pub(crate) fn run_in_order(&mut self, mut each: impl FnMut(usize, &[f32], usize)) -> Result<(), Error> {
        let (first, count, dimensions) = (self.done.texts, self.texts.len(), self.dimensions);
        let mut vectors = vec![0f32; count * dimensions];
        // 0 where there is no vector yet.
        let mut tokens = vec![0; count];
        let mut next = 0;
        self.run(|i, vector, length| {
            let at = i - first;
            vectors[at * dimensions..][..dimensions].copy_from_slice(vector);
            tokens[at] = length;
            while tokens.get(next).is_some_and(|length| *length > 0) {
                each(first + next, &vectors[next * dimensions..][..dimensions], tokens[next]);
                next += 1;
            }
        })
    }

    /// Runs what was taken in and gives each vector when it is computed.
    ///
    /// Where one is not finite, the texts before it still get theirs, unless all or none are wanted; the error names the
    /// first such text.
    pub(crate) fn run(&mut self, mut each: impl FnMut(usize, &[f32], usize)) -> Result<(), Error> {
        let texts = std::mem::take(&mut self.texts);
        self.tokens = 0;
        let first = self.done.texts;
        // Neighbours in this order have the longest beginnings in common.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        if self.embedder.share_prefixes {
            order.sort_by_key(|i| &texts[*i]);
        }
        let mut vector = vec![0f32; self.dimensions];
        let mut broken: Option<usize> = None;
        let mut start = 0;
        while start < order.len() {
            let pass = &order[start..][..self.texts_of_pass(&texts, &order[start..])];
            let tokens: Vec<&[u32]> = pass.iter().map(|i| &texts[*i][..]).collect();
            let states = self.pass(&tokens)?;
            for (state, &i) in states.chunks_exact(self.embedder.dimensions()).zip(pass) {
                vector.copy_from_slice(&state[..self.dimensions]);
                normalize(&mut vector);
                if vector.iter().all(|x| x.is_finite()) {
                    each(first + i, &vector, texts[i].len());
                } else {
                    broken = Some(broken.map_or(i, |other| other.min(i)));
                }
            }
            self.done.texts += pass.len();
            self.done.tokens += tokens.iter().map(|text| text.len()).sum::<usize>();
            start += pass.len();
            if let Some(broken) = broken {
                if self.all_or_none {
                    break;
                }
                let mut rest = order.split_off(start);
                rest.retain(|i| *i < broken);
                order.append(&mut rest);
            }
            if let Some(progress) = self.control.progress {
                progress(self.done);
            }
        }
        broken.map_or(Ok(()), |i| Err(Error::NonFinite { text: first + i }))
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
