//! Panels: a tile of weights unpacked once per batch into the form that an instruction set's GEMM eats.
//!
//! A tile is [`TILE`] rows of a weight matrix, a panel [`CHUNK`] columns of a tile: small enough to stay in the L1 or
//! L2 cache while every token of the batch passes over it. Formats only know how a block unpacks; instruction sets only
//! know the panel.

#[cfg(target_arch = "x86_64")]
pub(crate) mod planes;
#[cfg(target_arch = "x86_64")]
pub(crate) mod uniform;

use crate::buffer::{Buffer, CACHE_LINE, prefetch, prefetch_later};
use crate::cpu::own::Own;
use crate::formats::{Block, Format, LARGEST_SCALE, f16_to_f32};
use crate::rounding::MAGIC;
use std::cell::Cell;

/// Weight rows (output columns) per tile, of which kernels may take several at a time.
pub(crate) const TILE: usize = 32;
/// Values of each row per panel: a multiple of the largest block (256).
pub(crate) const CHUNK: usize = 512;
/// How many rows ahead of the one that is unpacked the file is asked for, into the L1 cache: processors do not foresee the next row's part, which
/// often lies on another page. It was asked for a tile ahead, into the L2 cache, but some hints are dropped.
const ROWS_AHEAD: usize = 8;
/// Smallest group of values that share a scale.
const MIN_GROUP: usize = 16;
/// Groups of a row in a panel, at most.
pub(crate) const GROUPS: usize = CHUNK / MIN_GROUP;

// Kernels start integer sums of up to 2^22 at the bits of [`MAGIC`] and scale them as they are: a finite scale times one must be
// finite. Scales are those of a block, or what requantizing makes of the block's values, (128 scales + a min) / 127.
const _: () = assert!(2.0 * LARGEST_SCALE * (MAGIC + 4_194_304.0) < f32::MAX);

/// Rows of a weight matrix, as stored: those of a tile or of several.
#[derive(Clone, Copy)]
pub(crate) struct TileRows<'a> {
    pub(crate) format: Format,
    /// The rows, `row_bytes` each.
    pub(crate) bytes: &'a [u8],
    pub(crate) row_bytes: usize,
    /// What the same thread will likely unpack after all of them; empty if nothing, or not soon. For hints only.
    pub(crate) next: &'a [u8],
}

impl<'a> TileRows<'a> {
    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// The bytes of values `first..first + len` of row `row`; whole blocks.
    pub(crate) fn slice(&self, row: usize, first: usize, len: usize) -> &'a [u8] {
        self.blocks((self.format.block_len(), self.format.block_bytes()), row, first, len)
    }

    /// The same, of blocks of so many values and bytes: where the compiler knows them, it need not divide.
    #[inline(always)]
    fn blocks(&self, (block, bytes): (usize, usize), row: usize, first: usize, len: usize) -> &'a [u8] {
        &self.bytes[row * self.row_bytes + first / block * bytes..][..len / block * bytes]
    }

    /// Where values `first..first + len` of the row are that is unpacked so many `rows` later, if panels of so many values are unpacked one after
    /// the other, and then [`Self::next`]; of blocks as in [`Self::blocks`]. For hints only.
    #[inline(always)]
    fn ahead(&self, rows: usize, (block, bytes): (usize, usize), row: usize, first: usize, len: usize) -> *const u8 {
        let row_at = (row + rows) * self.row_bytes;
        let (at, next) = (first / block * bytes, (first + len) / block * bytes);
        let bytes = self.bytes.as_ptr();
        match row_at.checked_sub(self.bytes.len()) {
            None => bytes.wrapping_add(row_at + at),
            Some(row_at) if next < self.row_bytes => bytes.wrapping_add(row_at + next),
            Some(_) if self.next.is_empty() => bytes.wrapping_add(row_at),
            Some(row_at) => self.next.as_ptr().wrapping_add(row_at),
        }
    }
}

/// Weights that will be unpacked next. Products ask for them bit by bit, while they leave the memory idle; but not for those that are read in
/// planes, which see to it themselves.
#[derive(Default)]
pub(crate) struct Ahead {
    /// The addresses that have not been asked for.
    rest: Cell<(usize, usize)>,
}

impl Ahead {
    /// These bytes, in place of those of before.
    pub(crate) fn set(&self, bytes: &[u8]) {
        let start = bytes.as_ptr() as usize;
        self.rest.set((start, start + bytes.len()));
    }

    /// Asks for what is left, into the L2 cache, or for one of so many `parts` of it.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn ask(&self, parts: usize) {
        let (start, end) = self.rest.get();
        let stop = end.min(start + (end - start).div_ceil(CACHE_LINE).div_ceil(parts) * CACHE_LINE);
        (start..stop).step_by(CACHE_LINE).for_each(|at| prefetch_later(at as *const u8));
        self.rest.set((stop, end));
    }
}

/// The unpacked form of one panel, and the room in which it is made.
pub(crate) struct Panel {
    pub(crate) ahead: Ahead,
    /// The values of each row that it holds: `first..first + len` of K.
    pub(crate) first: usize,
    pub(crate) len: usize,
    /// Quantized weights: codes in the layout of the instruction set. Grown for several tiles when first used.
    pub(crate) codes: Buffer<u8>,
    /// [CHUNK / group × TILE], see [`Panel::scales_by_group`].
    pub(crate) scales: Buffer<f32>,
    /// [CHUNK / group × TILE], meaningful only with `has_min`.
    pub(crate) mins: Buffer<f32>,
    pub(crate) group: usize,
    pub(crate) has_min: bool,
    /// The smallest and the largest code that the format has.
    pub(crate) range: (i8, i8),
    /// Float weights: [CHUNK × TILE].
    pub(crate) floats: Buffer<f32>,
    /// Codes by row [TILE × CHUNK], on their way to `codes`, with their scales and mins [TILE × GROUPS].
    pub(crate) rows: Buffer<i8>,
    pub(crate) row_scales: Buffer<f32>,
    pub(crate) row_mins: Buffer<f32>,
    /// What a kernel's own layout needs besides.
    pub(crate) own: Own,
}

impl Panel {
    pub(crate) fn new() -> Self {
        Self {
            ahead: Ahead::default(),
            first: 0,
            len: 0,
            codes: Buffer::zeroed(TILE * CHUNK * 2),
            scales: Buffer::zeroed(TILE * GROUPS),
            mins: Buffer::zeroed(TILE * GROUPS),
            group: 0,
            has_min: false,
            range: (0, 0),
            floats: Buffer::zeroed(TILE * CHUNK),
            rows: Buffer::zeroed(TILE * CHUNK),
            row_scales: Buffer::zeroed(TILE * GROUPS),
            row_mins: Buffer::zeroed(TILE * GROUPS),
            own: Own::default(),
        }
    }

    /// Of a format of codes, values `first..first + len`.
    #[inline(always)]
    fn begin<B: Block>(&mut self, first: usize, len: usize) {
        (self.first, self.len) = (first, len);
        self.group = B::GROUP;
        self.has_min = B::HAS_MIN;
        self.range = B::CODES;
    }

    /// Unpacks values `first..first + len` of the quantized rows of tile number `tile` of `all` into `rows`, `row_scales` and
    /// `row_mins`. Rows that the tile lacks become zeros.
    #[inline(always)]
    pub(crate) fn unpack_rows<B: Block>(&mut self, all: TileRows, tile: usize, first: usize, len: usize) {
        // What products tell apart.
        const { assert!(B::GROUP == MIN_GROUP || B::GROUP == 2 * MIN_GROUP) };
        assert!(all.format.block_bytes() == B::BYTES && len <= CHUNK && len.is_multiple_of(B::LEN));
        self.begin::<B>(first, len);
        self.ahead.set(&[]);
        let rows = self.rows.chunks_exact_mut(CHUNK);
        let scales = self.row_scales.chunks_exact_mut(GROUPS).zip(self.row_mins.chunks_exact_mut(GROUPS));
        for (row, (codes, (scales, mins))) in (tile * TILE..).zip(rows.zip(scales)) {
            if row >= all.rows() {
                codes[..len].fill(0);
                scales.fill(0.0);
                mins.fill(0.0);
                continue;
            }
            let soon = all.ahead(ROWS_AHEAD, (B::LEN, B::BYTES), row, first, len);
            let later = all.ahead(TILE, (B::LEN, B::BYTES), row, first, len);
            let mut halves = [0; GROUPS];
            let groups = scales.chunks_exact_mut(B::LEN / B::GROUP).zip(mins.chunks_exact_mut(B::LEN / B::GROUP));
            let blocks = all
                .blocks((B::LEN, B::BYTES), row, first, len)
                .chunks_exact(B::BYTES)
                .zip(codes.chunks_exact_mut(B::LEN));
            for (i, ((block, codes), (scales, mins))) in blocks.zip(groups).enumerate() {
                for at in (0..B::BYTES).step_by(CACHE_LINE).map(|at| i * B::BYTES + at) {
                    prefetch_later(later.wrapping_add(at));
                    prefetch(soon.wrapping_add(at));
                }
                match B::HALF_SCALE {
                    Some(at) => {
                        halves[i] = u16::from_le_bytes([block[at], block[at + 1]]);
                        B::unpack(block, codes, &mut [0.0], mins);
                    }
                    None => B::unpack(block, codes, scales, mins),
                }
            }
            if B::HALF_SCALE.is_some() {
                for (scale, half) in scales.iter_mut().zip(halves).take(CHUNK / B::LEN) {
                    *scale = f16_to_f32(half);
                }
            }
        }
    }

    /// Takes the scales and mins of all rows to `scales` and `mins`, those of a group side by side.
    #[inline(always)]
    pub(crate) fn scales_by_group(&mut self) {
        let groups = self.len / self.group;
        transpose(&self.row_scales, &mut self.scales, groups);
        if self.has_min {
            transpose(&self.row_mins, &mut self.mins, groups);
        }
    }

    /// Unpacks values `first..first + len` of float rows into `floats`, row by row [TILE × CHUNK]. Zeros follow, up to a
    /// multiple of 32 values. Rows that the tile lacks become zeros.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn unpack_float_rows(&mut self, tile: TileRows, first: usize, len: usize) {
        assert!(len <= CHUNK && tile.rows() <= TILE);
        self.group = 1;
        for (row, to) in self.floats.chunks_exact_mut(CHUNK).enumerate() {
            let (values, rest) = to[..len.next_multiple_of(32)].split_at_mut(len);
            if row < tile.rows() {
                tile.format.dequantize(tile.slice(row, first, len), values);
            } else {
                values.fill(0.0);
            }
            rest.fill(0.0);
        }
    }

    /// Unpacks values `first..first + len` of float rows into `floats`. Rows that the tile lacks become zeros.
    pub(crate) fn unpack_floats(&mut self, tile: TileRows, first: usize, len: usize) {
        assert!(len <= CHUNK && tile.rows() <= TILE);
        (self.first, self.len, self.group) = (first, len, 1);
        // A few rows at a time, a line apart from a power of two so that they do not share the sets of the cache.
        const ROWS: usize = 8;
        let mut values = [[0f32; CHUNK + 16]; ROWS];
        for first_row in (0..TILE).step_by(ROWS) {
            for (row, values) in (first_row..).zip(&mut values) {
                if row < tile.rows() {
                    tile.format.dequantize(tile.slice(row, first, len), &mut values[..len]);
                } else {
                    values[..len].fill(0.0);
                }
            }
            for (i, to) in self.floats.chunks_exact_mut(TILE).take(len).enumerate() {
                for (to, values) in to[first_row..first_row + ROWS].iter_mut().zip(&values) {
                    *to = values[i];
                }
            }
        }
    }
}

/// The first `groups` columns of [TILE × GROUPS], and up to three more, as rows of [GROUPS × TILE].
#[inline(always)]
fn transpose(from: &[f32], to: &mut [f32], groups: usize) {
    const SIDE: usize = 4;
    let (from, to) = (from.as_chunks::<SIDE>().0, to.as_chunks_mut::<SIDE>().0);
    for g in 0..groups.div_ceil(SIDE) {
        for row in 0..TILE / SIDE {
            let square: [[f32; SIDE]; SIDE] = std::array::from_fn(|i| from[(SIDE * row + i) * GROUPS / SIDE + g]);
            for i in 0..SIDE {
                to[(SIDE * g + i) * TILE / SIDE + row] = square.map(|of_row| of_row[i]);
            }
        }
    }
}
