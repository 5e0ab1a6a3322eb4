//! Weight matrices as they lie in their file, cut into the tiles that tasks take.

use super::isa::Kernel;
use super::panel::TileRows;
use crate::formats::Format;
use bytes::Bytes;
use std::ops::Range;

/// A weight matrix [n × k], as stored.
#[derive(Clone)]
pub struct Weight {
    pub(super) format: Format,
    pub(super) bytes: Bytes,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) row_bytes: usize,
    /// How it is multiplied.
    pub(super) kernel: Kernel,
    /// Rows of a task's tile: `TILE` (see `panel`) or, where the kernel takes several at a time, so many times as much.
    pub(super) width: usize,
}

impl Weight {
    /// The columns of an output that a tile computes.
    pub(super) fn columns(&self, tile: usize) -> Range<usize> {
        tile * self.width..self.n.min((tile + 1) * self.width)
    }

    pub(super) fn tiles(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    /// The blocks of `rows` rows of activations that meet a tile one after the other.
    pub(super) fn blocks(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let size = self.kernel.rows;
        (0..rows).step_by(size).map(move |first| first..rows.min(first + size))
    }

    /// Whether all of so many rows meet a tile at once. Then unpacking is much of the work, and what is asked for meanwhile is used before
    /// it is gone from the L2 cache again.
    pub(super) fn one_block(&self, rows: usize) -> bool {
        rows <= self.kernel.rows
    }

    pub(super) fn tile(&self, tile: usize) -> TileRows<'_> {
        let rows = self.columns(tile);
        let bytes = &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes];
        TileRows { format: self.format, bytes, row_bytes: self.row_bytes, next: &[] }
    }
}
