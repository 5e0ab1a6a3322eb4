//! Weights of all quantized formats as 8-bit codes of one kind, for the products of `isa::vnni`.

use super::{CHUNK, GROUPS, Panel, TILE, TileRows};
use crate::buffer::Buffer;
use crate::cpu::activations::GROUP;
use crate::cpu::ops::quantize::TINY;
use crate::formats::Block;
use crate::rounding::MAGIC;

/// Scales of a tile.
pub(crate) const UNIFORM_SCALES: usize = TILE * CHUNK / GROUP;

/// What a panel of such codes has, besides the codes.
pub(crate) struct Uniform {
    /// [tiles × UNIFORM_SCALES], for as many tiles as were unpacked.
    pub(crate) scales: Buffer<f32>,
    /// What makes codes of one format into codes with one scale for each [`GROUP`] values: `(code + 128) · factor + offset`, in 16
    /// bits, of which the upper byte is the new code, with 128 added too. What 16 bits cannot hold wraps around and comes back.
    /// Each twice, for two values side by side, in each group of the format: [GROUPS × TILE].
    pub(crate) factors: Buffer<i32>,
    pub(crate) offsets: Buffer<i32>,
}

impl Default for Uniform {
    fn default() -> Self {
        Self {
            scales: Buffer::default(),
            factors: Buffer::zeroed(TILE * GROUPS),
            offsets: Buffer::zeroed(TILE * GROUPS),
        }
    }
}

/// Unpacks values `first..first + len` of up to `tiles` tiles of quantized rows into codes with one scale for each [`GROUP`] values
/// and no min; `arrange(panel, tile, requantize)` takes the codes of each tile from `rows` to part `tile` of `codes` and, where it
/// is to, by way of `factors` and `offsets`.
#[inline(always)]
pub(crate) fn unpack<B: Block>(
    panel: &mut Panel,
    rows: TileRows,
    tiles: usize,
    first: usize,
    len: usize,
    mut arrange: impl FnMut(&mut Panel, usize, bool),
) {
    assert!(rows.rows() <= tiles * TILE);
    panel.codes.resize(tiles * TILE * CHUNK);
    panel.own.get_or_make::<Uniform>().scales.resize(tiles * UNIFORM_SCALES);
    for tile in 0..rows.rows().div_ceil(TILE) {
        panel.unpack_rows::<B>(rows, tile, first, len);
        panel.scales_by_group();
        let is_uniform = B::GROUP == GROUP && !B::HAS_MIN;
        if is_uniform {
            let scales = len / GROUP * TILE;
            let uniform = panel.own.get_or_make::<Uniform>();
            uniform.scales[tile * UNIFORM_SCALES..][..scales].copy_from_slice(&panel.scales[..scales]);
        } else {
            plan_requantization::<B>(panel, tile);
        }
        arrange(panel, tile, !is_uniform);
    }
}

/// What makes one scale, in part `tile` of `Uniform::scales`, for each [`GROUP`] values, and no min.
///
/// What is lost is no more than what rounding activations to 8 bits loses, and far below what a file of at most six bits
/// has lost. Scales come from the range of the codes, not from those that occur, so that they are seen only once.
#[inline(always)]
fn plan_requantization<B: Block>(panel: &mut Panel, tile: usize) {
    const { assert!(GROUP.is_multiple_of(B::GROUP)) };
    let Panel { scales, mins, len, own, .. } = panel;
    let Uniform { scales: uniform_scales, factors, offsets } = own.get_or_make();
    let uniform_scales = &mut uniform_scales[tile * UNIFORM_SCALES..][..UNIFORM_SCALES];
    let parts = GROUP / B::GROUP;
    let scales = scales.as_chunks::<TILE>().0.chunks_exact(parts).zip(mins.as_chunks::<TILE>().0.chunks_exact(parts));
    let factors = factors.as_chunks_mut::<TILE>().0.chunks_exact_mut(parts);
    let plan = factors.zip(offsets.as_chunks_mut::<TILE>().0.chunks_exact_mut(parts));
    let groups = scales.zip(plan).zip(uniform_scales.as_chunks_mut::<TILE>().0);
    for (((scales, mins), (factors, offsets)), uniform_scales) in groups.take(*len / GROUP) {
        // For all rows of the tile at once. `poison` stays 0 for finite values and becomes NaN otherwise.
        let (mut largest, mut poison) = ([0f32; TILE], [0f32; TILE]);
        let min = |part: usize, row: usize| if B::HAS_MIN { mins[part][row] } else { 0.0 };
        for part in 0..parts {
            for row in 0..TILE {
                for code in [B::CODES.0, B::CODES.1] {
                    let value = (scales[part][row] * f32::from(code) + min(part, row)).abs();
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
        for part in 0..parts {
            for row in 0..TILE {
                let factor = fixed(scales[part][row] * inverse[row]);
                let offset = fixed(min(part, row) * inverse[row]).wrapping_sub(factor.wrapping_mul(128));
                factors[part][row] = twice(factor);
                // And one half, for the upper byte to be the nearest integer.
                offsets[part][row] = twice(offset.wrapping_add(128).wrapping_add(i16::MIN));
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

/// 16 bits and the same 16 bits.
#[inline(always)]
pub(crate) fn twice(bits: i16) -> i32 {
    (u32::from(bits as u16) * 0x1_0001) as i32
}
