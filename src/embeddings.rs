//! The vectors of a call.

use std::ops::Index;

/// One vector per text, in the order of the texts; each of length 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// [texts × dimensions]
    values: Vec<f32>,
    dimensions: usize,
    tokens: Vec<usize>,
}

impl Embeddings {
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { values: Vec::new(), dimensions, tokens: Vec::new() }
    }

    pub(crate) fn push(&mut self, vector: &[f32], tokens: usize) {
        debug_assert_eq!(vector.len(), self.dimensions);
        self.values.extend_from_slice(vector);
        self.tokens.push(tokens);
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Values per vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vectors, one after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimensions)
    }

    /// All values, [texts × dimensions].
    pub fn as_flat(&self) -> &[f32] {
        &self.values
    }

    /// Tokens of each text, instruction and end token included.
    pub fn tokens(&self) -> &[usize] {
        &self.tokens
    }
}

impl Index<usize> for Embeddings {
    type Output = [f32];

    /// # Panics
    /// When there is no such vector.
    fn index(&self, text: usize) -> &[f32] {
        &self.values[text * self.dimensions..(text + 1) * self.dimensions]
    }
}
