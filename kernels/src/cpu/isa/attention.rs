//! Attention as a tier computes it: what a task is, and the two functions that it takes.

use crate::cpu::acts::Form;
use crate::cpu::ops::attention::{Scratch, Shape};
use std::ops::Range;

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

/// Attention over keys and values that are packed as `E`.
pub(crate) struct Attention<E: 'static> {
    /// Keys per block.
    pub(crate) keys: usize,
    /// Padding granularity of packed keys; divides `keys`.
    pub(crate) pad: usize,
    /// What the dimensions of a head must be a multiple of.
    pub(crate) dims: usize,
    /// The most dimensions of a head.
    pub(crate) most_dims: usize,
    /// Elements that a key, or a value, takes besides its dimensions.
    pub(crate) scale_len: usize,
    /// The forms of output that need nothing finer.
    pub(crate) serves: Form,
    pub(super) pack: unsafe fn(Shape, usize, Rows, &mut [E], &mut [E]),
    pub(super) attend: unsafe fn(AttendTask<E>, &mut Scratch, WriteRow),
}

/// Keys and values of one head: a row for each token, from one to the next so many floats.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) stride: usize,
}

/// Receives a finished attention row: which of the task's queries, head of the group, values.
pub(crate) type WriteRow<'a> = &'a mut dyn FnMut(usize, usize, &[f32]);

impl<E> Attention<E> {
    /// Whether it can have heads of so many dimensions.
    pub(crate) fn takes(&self, head_dim: usize) -> bool {
        head_dim.is_multiple_of(self.dims) && head_dim <= self.most_dims
    }

    /// See [`pack_block`](crate::cpu::ops::attention::pack_block).
    pub(crate) fn pack(&self, shape: Shape, keys: usize, rows: Rows, kt: &mut [E], vp: &mut [E]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.pack)(shape, keys, rows, kt, vp) }
    }

    /// See [`attend`](crate::cpu::ops::attention::attend).
    pub(crate) fn attend(&self, task: AttendTask<E>, scratch: &mut Scratch, write: WriteRow) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.attend)(task, scratch, write) }
    }
}

/// [`Attention`] in 16-bit codes (see [`words`](crate::cpu::ops::attention::words)) by a tier's [`DotWords`](crate::cpu::simd::DotWords).
#[cfg(target_arch = "x86_64")]
macro_rules! word_attention {
    ($words:expr, #[$attribute:meta]) => {{
        use crate::cpu::acts::Form;
        use crate::cpu::isa::{AttendTask, Attention, Rows, WriteRow};
        use crate::cpu::ops::attention::{PAD, Scratch, Shape, words};

        #[$attribute]
        unsafe fn pack(shape: Shape, keys: usize, rows: Rows, kt: &mut [u16], vp: &mut [u16]) {
            words::pack_block($words, shape, keys, rows, kt, vp)
        }
        #[$attribute]
        unsafe fn attend(task: AttendTask<u16>, scratch: &mut Scratch, write: WriteRow) {
            words::attend($words, task, scratch, write)
        }
        static ATTENTION: Attention<u16> = Attention {
            keys: words::KEYS,
            pad: PAD,
            dims: PAD,
            most_dims: words::ROW,
            scale_len: words::SCALE,
            serves: Form { bytes: true, uniform: true, ..Form::NONE },
            pack,
            attend,
        };
        Some(&ATTENTION)
    }};
}
#[cfg(target_arch = "x86_64")]
pub(super) use word_attention;
