//! What an attention task is: the queries that it takes, and where their keys and values are packed.

use std::ops::Range;

/// Columns of a packed panel, to which keys and the head dimension are padded: the widest vector, in floats.
pub(crate) const PAD: usize = 16;
/// Query rows (tokens × heads of the group) that a task aims at.
const ROWS: usize = 64;

/// The shape of an attention layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Query heads per key/value head.
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
    /// From one token's queries to the next's, in floats.
    pub(crate) q_stride: usize,
}

impl Shape {
    /// Width of a packed value row.
    pub(crate) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(PAD)
    }
    /// What a product of a query and a key is multiplied by, so that the softmax needs exp2 only: scores in units of log2.
    pub(crate) fn score_unit(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.head_dim as f32).sqrt()
    }
    /// Query tokens per task.
    pub(crate) fn query_block(&self) -> usize {
        (ROWS / self.group).max(1)
    }
}

/// One attention task; see [`attend`](crate::cpu::ops::attention::attend).
pub(crate) struct AttendTask<'a, E> {
    pub(crate) shape: Shape,
    /// Position of the first query in its text.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Keys that are packed: those of the last query, or more.
    pub(crate) len: usize,
    /// From the first query and the first head of the group on.
    pub(crate) q: &'a [f32],
    /// Where each block of keys starts in `kt` and `vp`, in keys.
    pub(crate) blocks: &'a [usize],
    pub(crate) kt: &'a [E],
    pub(crate) vp: &'a [E],
}

/// A block of keys that queries of a task see.
pub(crate) struct KeyBlock {
    /// Position of its first key.
    pub(crate) start: usize,
    /// Where it is packed, in keys, with padding.
    pub(crate) packed: Range<usize>,
    /// How many of them a query may see, with padding.
    pub(crate) width: usize,
}

impl<E> AttendTask<'_, E> {
    /// The blocks of up to `keys` keys that its queries see, padded to `pad`.
    #[inline(always)]
    pub(crate) fn key_blocks(&self, keys: usize, pad: usize) -> impl Iterator<Item = KeyBlock> + use<'_, E> {
        let end = self.first + self.count;
        assert!(end <= self.len);
        (0..end).step_by(keys).zip(self.blocks).map(move |(start, at)| {
            let padded = |end: usize| (end - start).min(keys).next_multiple_of(pad);
            KeyBlock { start, packed: *at..at + padded(self.len), width: padded(end) }
        })
    }

    /// How many keys from position `start` on row `row` sees: rows are the heads of the first query, then of the next.
    #[inline(always)]
    pub(crate) fn visible(&self, row: usize, start: usize) -> usize {
        (self.first + row / self.shape.group + 1).saturating_sub(start)
    }

    /// The values of row `row`.
    #[inline(always)]
    pub(crate) fn query(&self, row: usize) -> &[f32] {
        let Shape { group, head_dim, q_stride } = self.shape;
        &self.q[row / group * q_stride + row % group * head_dim..][..head_dim]
    }
}

/// Keys and values of one head: a row for each token, from one to the next so many floats.
#[derive(Clone, Copy)]
pub(crate) struct KeyValueRows<'a> {
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) stride: usize,
}

/// Receives a finished attention row: which of the task's queries, head of the group, values.
pub(crate) type WriteRow<'a> = &'a mut dyn FnMut(usize, usize, &[f32]);
