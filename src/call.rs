//! A call under way: texts that wait, their passes, and their vectors.

use crate::control::{Control, Progress};
use crate::embedder::Embedder;
use crate::error::Error;
use crate::options::EmbedOptions;
use crate::planner::Planner;
use crate::tokens::Tokens;
use std::cell::OnceCell;
use std::collections::HashMap;

/// Texts that were read but have no vectors yet, and what becomes of them.
pub(crate) struct Call<'a> {
    embedder: &'a Embedder,
    control: &'a Control<'a>,
    dimensions: usize,
    /// Whether vectors have length 1.
    unit: bool,
    /// Whether vectors are of no use unless all can be had.
    all_or_none: bool,
    planner: Planner,
    /// Values of the vectors of single texts, where they are others.
    own: HashMap<usize, usize>,
    /// Texts that have been given to the planner.
    added: usize,
    done: Progress,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        embedder: &'a Embedder,
        options: &EmbedOptions,
        control: &'a Control<'a>,
        all_or_none: bool,
    ) -> Result<Self, Error> {
        let dimensions = embedder.check_dimensions(options.dimensions)?;
        let (planner, own, done) = (Planner::new(embedder.limits()), HashMap::new(), Progress::default());
        Ok(Self { embedder, control, dimensions, unit: options.normalize, all_or_none, planner, own, added: 0, done })
    }

    /// Values of a vector.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Texts that came in so far.
    pub(crate) fn added(&self) -> usize {
        self.added
    }

    /// Takes a text in.
    pub(crate) fn add(&mut self, tokens: Tokens) {
        self.planner.push(tokens);
        self.added += 1;
    }

    /// Takes a text in whose vector has so many values, as the model can have; not for [`Self::run_in_order`].
    pub(crate) fn add_cut(&mut self, tokens: Tokens, dimensions: usize) {
        self.own.insert(self.added, dimensions);
        self.add(tokens);
    }

    /// Whether it is time to run.
    pub(crate) fn is_full(&self) -> bool {
        self.planner.is_full()
    }

    /// [`Self::run`], which gives the vectors in the order of the texts: none before those of all texts before it.
    pub(crate) fn run_in_order(&mut self, mut each: impl FnMut(usize, &[f32], usize)) -> Result<(), Error> {
        let (count, dimensions) = (self.planner.len(), self.dimensions);
        let first = self.added - count;
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

    fn states(&self, pass: &[(usize, Tokens)]) -> Result<Vec<f32>, Error> {
        let ended = OnceCell::new();
        let wanted = || match self.control.ended() {
            None => true,
            Some(why) => {
                ended.get_or_init(|| why);
                false
            }
        };
        let states = self.embedder.states(pass, &wanted);
        states.map_err(|error| match error {
            Error::Cancelled => ended.into_inner().unwrap_or(error),
            error => error,
        })
    }

    /// Runs what was taken in and gives each vector when it is computed.
    ///
    /// Where one is not finite, the texts before it still get theirs, unless all or none are wanted; the error names the
    /// first such text.
    pub(crate) fn run(&mut self, mut each: impl FnMut(usize, &[f32], usize)) -> Result<(), Error> {
        let mut vector = Vec::new();
        let mut broken: Option<usize> = None;
        loop {
            let pass = self.planner.next_pass();
            if pass.is_empty() {
                break;
            }
            let states = self.states(&pass)?;
            for (state, (i, tokens)) in states.chunks_exact(self.embedder.dimensions()).zip(&pass) {
                vector.clear();
                vector.extend_from_slice(&state[..self.own.remove(i).unwrap_or(self.dimensions)]);
                if self.unit {
                    normalize(&mut vector);
                }
                if vector.iter().all(|x| x.is_finite()) {
                    each(*i, &vector, tokens.len());
                } else {
                    broken = Some(broken.map_or(*i, |other| other.min(*i)));
                }
            }
            self.done.texts += pass.len();
            self.done.tokens += pass.iter().map(|(_, tokens)| tokens.len()).sum::<usize>();
            if let Some(broken) = broken {
                if self.all_or_none {
                    break;
                }
                self.planner.retain(|i| i < broken);
            }
            if let Some(progress) = self.control.progress {
                progress(self.done);
            }
        }
        broken.map_or(Ok(()), |text| Err(Error::NonFinite { text }))
    }
}

/// Divides a vector by its Euclidean length; what is not finite, or has no length, becomes NaN.
pub(crate) fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}
