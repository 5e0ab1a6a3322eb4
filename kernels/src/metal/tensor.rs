//! What a model holds of the GPU's memory.

use super::gpu::Gpu;
use super::kernels::Products;
use super::memory::Memory;
use super::stream::View;
use crate::formats::Format;
use bytes::Bytes;
use std::sync::Arc;

/// A matrix of f32 [rows × cols], and rows of activations just as well.
///
/// Where memory was not to be had, none is in it: nothing is computed then, and whoever reads the end of it is told.
pub struct Tensor<D: Gpu> {
    pub(super) memory: Option<Memory<D>>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// How often something had failed when the oldest of what is in it was begun.
    pub(super) since: u64,
    /// Beyond a pass: whatever failed while it was filled was told then.
    pub(super) lasting: bool,
}

impl<D: Gpu> Tensor<D> {
    /// Its number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// From this row on.
    pub(super) fn view(&self, row: usize) -> Option<View<'_, D>> {
        let memory = self.memory.as_ref()?;
        Some((memory.buffer(), row * self.cols * size_of::<f32>(), Some(memory)))
    }

    /// Takes note that it has been made of `from`.
    pub(super) fn follows(&mut self, from: &Self) {
        if !from.lasting {
            self.since = self.since.min(from.since);
        }
    }
}

/// A weight matrix [n × k] in its storage format.
pub struct Weight<D: Gpu> {
    pub(super) buffer: D::Buffer,
    /// Where in it the matrix begins.
    pub(super) offset: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) products: Arc<Products<D>>,
}

/// A matrix of which single rows are looked up, by the host: it is in no buffer of the GPU.
pub struct Table {
    pub(super) format: Format,
    pub(super) bytes: Bytes,
    pub(super) row_bytes: usize,
    pub(super) cols: usize,
}

/// Parameters of a norm.
pub struct Vector<D: Gpu> {
    pub(super) memory: Option<Memory<D>>,
    pub(super) len: usize,
}

/// Cosines of all tokens [tokens × head_dim / 2], then their sines.
pub struct Rope<D: Gpu> {
    pub(super) memory: Option<Memory<D>>,
    pub(super) rows: usize,
    pub(super) half: usize,
}

/// There is one form of input only: f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form;

impl std::ops::BitOr for Form {
    type Output = Self;

    fn bitor(self, _: Self) -> Self {
        self
    }
}
