//! Weights of all quantized formats as 8-bit codes of one kind, for the products of `isa::vnni`.

use super::{CHUNK, Panel, TILE, TileRows};
use crate::cpu::acts::MAGIC;
use crate::cpu::ops::quantize::{GROUP, TINY};
use crate::formats::Block;

/// Scales of a tile.
pub(crate) const UNIFORM_SCALES: usize = TILE * CHUNK / GROUP;

impl Panel {
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
