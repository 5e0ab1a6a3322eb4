//! Panels: a tile of weights unpacked once per batch into the form that an instruction set's GEMM eats.
//!
//! A tile is [`TILE`] rows of a weight matrix, a panel [`CHUNK`] columns of a tile: small enough to stay in the L1 or
//! L2 cache while every token of the batch passes over it. Formats only know how a block unpacks; instruction sets only
//! know the panel.

use crate::buffer::Buffer;
use crate::cpu::acts::MAGIC;
use crate::cpu::ops::quantize::{GROUP, TINY};
use crate::cpu::prefetch;
use crate::formats::{Block, Format};

/// Weight rows (output columns) per tile, of which kernels may take several at a time.
pub(crate) const TILE: usize = 32;
/// Values of each row per panel: a multiple of the largest block (256).
pub(crate) const CHUNK: usize = 512;
/// How far ahead of the block that is unpacked the file is asked for, in bytes: rows follow each other, but processors do
/// not foresee what lies on the next page.
const AHEAD: usize = 2048;
/// Scales of a tile whose codes have one for each [`GROUP`] values.
pub(crate) const UNIFORM_SCALES: usize = TILE * CHUNK / GROUP;
/// Smallest group of values that share a scale.
const MIN_GROUP: usize = 16;

/// Up to [`TILE`] rows of a weight matrix, as stored.
#[derive(Clone, Copy)]
pub(crate) struct TileRows<'a> {
    pub(crate) format: Format,
    /// The rows, `row_bytes` each.
    pub(crate) bytes: &'a [u8],
    pub(crate) row_bytes: usize,
}

impl<'a> TileRows<'a> {
    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// The bytes of values `first..first + len` of row `row`; whole blocks.
    pub(crate) fn slice(&self, row: usize, first: usize, len: usize) -> &'a [u8] {
        let (block, bytes) = (self.format.block_len(), self.format.block_bytes());
        &self.bytes[row * self.row_bytes + first / block * bytes..][..len / block * bytes]
    }
}

/// The unpacked form of one panel, and the room in which it is made.
pub(crate) struct Panel {
    /// The values of each row that it holds: `first..first + len` of K.
    pub(crate) first: usize,
    pub(crate) len: usize,
    /// Quantized weights: codes in the layout of the instruction set.
    pub(crate) codes: Buffer<u8>,
    /// [CHUNK / group × TILE]
    pub(crate) scales: Buffer<f32>,
    /// [CHUNK / group × TILE], meaningful only with `has_min`.
    pub(crate) mins: Buffer<f32>,
    pub(crate) group: usize,
    pub(crate) has_min: bool,
    /// The smallest and the largest code that the format has.
    pub(crate) range: (i8, i8),
    /// Of codes with one scale for each [`GROUP`] values: [tiles × CHUNK / GROUP × TILE]. Grown when first used, as are `codes` for
    /// several tiles.
    pub(crate) uniform_scales: Buffer<f32>,
    /// Float weights: [CHUNK × TILE].
    pub(crate) floats: Buffer<f32>,
    /// Codes by row [TILE × CHUNK], on their way to `codes`.
    pub(crate) rows: Buffer<i8>,
    /// Weights in bfloat16, in the layout of the instruction set, and what rounding took away. Grown when first used.
    pub(crate) halves: Buffer<u16>,
    pub(crate) rests: Buffer<u16>,
}

impl Panel {
    pub(crate) fn new() -> Self {
        Self {
            first: 0,
            len: 0,
            codes: Buffer::zeroed(TILE * CHUNK * 2),
            scales: Buffer::zeroed(TILE * CHUNK / MIN_GROUP),
            mins: Buffer::zeroed(TILE * CHUNK / MIN_GROUP),
            group: 0,
            has_min: false,
            range: (0, 0),
            uniform_scales: Buffer::zeroed(0),
            floats: Buffer::zeroed(TILE * CHUNK),
            rows: Buffer::zeroed(TILE * CHUNK),
            halves: Buffer::zeroed(0),
            rests: Buffer::zeroed(0),
        }
    }

    /// Unpacks values `first..first + len` of quantized rows into `rows`, `scales` and `mins`. Rows that the tile
    /// lacks become zeros.
    #[inline(always)]
    pub(crate) fn unpack_rows<B: Block>(&mut self, tile: TileRows, first: usize, len: usize) {
        assert!(tile.format == B::FORMAT && len <= CHUNK && len.is_multiple_of(B::LEN) && tile.rows() <= TILE);
        (self.first, self.len) = (first, len);
        self.group = B::GROUP;
        self.has_min = B::HAS_MIN;
        self.range = B::CODES;
        let present = tile.rows();
        let per_block = B::LEN / B::GROUP;
        for row in 0..present {
            let codes = &mut self.rows[row * CHUNK..row * CHUNK + len];
            let blocks = tile.slice(row, first, len).chunks_exact(B::BYTES).zip(codes.chunks_exact_mut(B::LEN));
            for (i, (block, codes)) in blocks.enumerate() {
                (0..B::BYTES).step_by(64).for_each(|at| prefetch(block.as_ptr().wrapping_add(AHEAD + at)));
                let (mut scales, mut mins) = ([0f32; 256 / MIN_GROUP], [0f32; 256 / MIN_GROUP]);
                B::unpack(block, codes, &mut scales, &mut mins);
                for j in 0..per_block {
                    self.scales[(i * per_block + j) * TILE + row] = scales[j];
                    if B::HAS_MIN {
                        self.mins[(i * per_block + j) * TILE + row] = mins[j];
                    }
                }
            }
        }
        for row in present..TILE {
            self.rows[row * CHUNK..row * CHUNK + len].fill(0);
            for g in 0..len / B::GROUP {
                self.scales[g * TILE + row] = 0.0;
                self.mins[g * TILE + row] = 0.0;
            }
        }
    }

    /// Unpacks values `first..first + len` of up to `tiles` tiles of quantized rows into codes with one scale for each
    /// [`GROUP`] values and no min;
    /// `arrange(panel, tile)` takes the codes of each tile from `rows` to part `tile` of `codes`.
    #[inline(always)]
    pub(crate) fn unpack_uniform<B: Block>(
        &mut self,
        rows: TileRows,
        tiles: usize,
        first: usize,
        len: usize,
        mut arrange: impl FnMut(&mut Self, usize),
    ) {
        assert!(rows.rows() <= tiles * TILE);
        self.codes.resize(tiles * TILE * CHUNK);
        self.uniform_scales.resize(tiles * UNIFORM_SCALES);
        for (tile, bytes) in rows.bytes.chunks(TILE * rows.row_bytes).enumerate() {
            self.unpack_rows::<B>(TileRows { bytes, ..rows }, first, len);
            self.make_uniform::<B>(tile);
            arrange(self, tile);
        }
    }

    /// Gives the codes in `rows` one scale, in part `tile` of `uniform_scales`, for each [`GROUP`] values, and no min.
    ///
    /// Formats that are so already keep what they have. Of the others, what is lost is no more than what rounding activations
    /// to 8 bits loses, and far below what a file of at most six bits has lost. Scales come from the range of the codes,
    /// not from those that occur, so that they are seen only once.
    #[inline(always)]
    fn make_uniform<B: Block>(&mut self, tile: usize) {
        let Self { rows, scales, mins, uniform_scales, len, .. } = self;
        let uniform_scales = &mut uniform_scales[tile * UNIFORM_SCALES..][..UNIFORM_SCALES];
        let groups = *len / GROUP;
        if B::GROUP == GROUP && !B::HAS_MIN {
            uniform_scales[..groups * TILE].copy_from_slice(&scales[..groups * TILE]);
            return;
        }
        const { assert!(GROUP.is_multiple_of(B::GROUP)) };
        let scales = scales.as_chunks::<TILE>().0.chunks(GROUP / B::GROUP);
        let mins = mins.as_chunks::<TILE>().0.chunks(GROUP / B::GROUP);
        let groups = scales.zip(mins).zip(uniform_scales.as_chunks_mut::<TILE>().0).take(groups);
        for (first, ((scales, mins), uniform_scales)) in (0..).step_by(GROUP).zip(groups) {
            let min = |g: usize, row: usize| if B::HAS_MIN { mins[g][row] } else { 0.0 };
            // For all rows of the tile at once. `poison` stays 0 for finite values and becomes NaN otherwise.
            let (mut largest, mut poison) = ([0f32; TILE], [0f32; TILE]);
            for (g, scales) in scales.iter().enumerate() {
                for row in 0..TILE {
                    for code in [B::CODES.0, B::CODES.1] {
                        let value = (scales[row] * f32::from(code) + min(g, row)).abs();
                        poison[row] += value * 0.0;
                        largest[row] = if value > largest[row] { value } else { largest[row] };
                    }
                }
            }
            let mut inverse = [0f32; TILE];
            for row in 0..TILE {
                let fits = largest[row] > TINY;
                inverse[row] = if fits { 127.0 / largest[row] } else { 0.0 };
                uniform_scales[row] = if fits { scale(largest[row]) } else { 0.0 } + poison[row];
            }
            for (g, scales) in scales.iter().enumerate() {
                let (mut factors, mut offsets) = ([0i16; TILE], [0i16; TILE]);
                for row in 0..TILE {
                    factors[row] = fixed(scales[row] * inverse[row]);
                    offsets[row] = fixed(min(g, row) * inverse[row]);
                }
                let codes = rows.chunks_exact_mut(CHUNK).map(|row| &mut row[first + g * B::GROUP..][..B::GROUP]);
                for (codes, (factor, offset)) in codes.zip(factors.into_iter().zip(offsets)) {
                    requantize(codes, factor, offset);
                }
            }
        }
    }

    /// Unpacks values `first..first + len` of float rows into `floats`, row by row [TILE × CHUNK]. Zeros follow, up to a
    /// multiple of 32 values. Rows that the tile lacks become zeros.
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
        (self.first, self.len) = (first, len);
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

/// The scale of codes up to 127 for values up to `largest`, cut to the 22 significant bits that `isa::vnni` relies on.
#[inline(always)]
fn scale(largest: f32) -> f32 {
    f32::from_bits((largest * (1.0 / 127.0)).to_bits() & !3)
}

/// To 8 binary places, to the nearest: the low bits of a sum that has no others.
#[inline(always)]
fn fixed(x: f32) -> i16 {
    (x * 256.0 + MAGIC).to_bits() as i16
}

/// `code · factor + offset`, both with 8 binary places, to the nearest integer. It fits 8 bits, and what comes before it
/// 16 bits, or it wraps around and comes back.
#[inline(always)]
fn requantize(codes: &mut [i8], factor: i16, offset: i16) {
    let offset = offset.wrapping_add(128);
    for code in codes {
        *code = (i16::from(*code).wrapping_mul(factor).wrapping_add(offset) >> 8) as i8;
    }
}
