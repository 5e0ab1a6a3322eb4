//! Weights of all quantized formats as 8-bit codes of one kind, for the products of `isa::vnni`.

use super::{CHUNK, GROUPS, Panel, TILE, TileRows};
use crate::buffer::Buffer;
use crate::cpu::activations::GROUP;
use crate::cpu::ops::quantize::TINY;
use crate::cpu::simd::IntLanes;
use crate::formats::Block;
use crate::rounding::MAGIC;

/// Scales of a tile.
pub(crate) const UNIFORM_SCALES: usize = TILE * CHUNK / GROUP;

/// What a panel of such codes has, besides the codes.
pub(crate) struct Uniform {
    /// [tiles × UNIFORM_SCALES], for as many tiles as were unpacked.
    pub(crate) scales: Buffer<f32>,
    /// What makes codes of one format into new ones, for each group of the format: [GROUPS × TILE]; see [`Recode`].
    pub(crate) factors: Buffer<i32>,
    pub(crate) offsets: Buffer<i32>,
}

/// How codes of a format become codes with one scale for each [`GROUP`] values and no min, each with 128 added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recode {
    /// They are such codes; only 128 is added.
    Keep,
    /// `code · factor + offset` in whole numbers. No product exceeds a byte, so that those of two values side by side are one product of 16
    /// bits, and the factor stands there once; the offset, 128 included, is in each of four bytes.
    Multiply,
    /// `(code − lowest) · factor + offset`, in 16 bits, of which the upper byte is the new code. What 16 bits cannot hold wraps around and
    /// comes back. Factor and offset each twice, for two values side by side.
    Round,
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

/// Where the codes of a tile are that are to be arranged.
pub(crate) enum Codes {
    /// In `Panel::rows`.
    Rows(Recode),
    /// In the file; to be multiplied if groups are as large as the new ones, and else rounded.
    Planes,
}

/// Unpacks values `first..first + len` of up to `tiles` tiles of quantized rows into codes with one scale for each [`GROUP`] values
/// and no min; `arrange(panel, tile, codes)` takes those of each tile to part `tile` of `codes`, by way of `factors` and `offsets`.
#[inline(always)]
pub(crate) fn unpack<S: IntLanes, B: Block>(
    s: S,
    panel: &mut Panel,
    rows: TileRows,
    tiles: usize,
    first: usize,
    len: usize,
    mut arrange: impl FnMut(&mut Panel, usize, Codes),
) {
    assert!(rows.rows() <= tiles * TILE);
    panel.codes.resize(tiles * TILE * CHUNK);
    panel.own.get_or_make::<Uniform>().scales.resize(tiles * UNIFORM_SCALES);
    for tile in 0..rows.rows().div_ceil(TILE) {
        if B::PLANES.is_some() {
            panel.unpack_scales::<S, B>(s, rows, tile, first, len);
        } else {
            panel.unpack_rows::<B>(rows, tile, first, len);
            panel.scales_by_group();
        }
        let recode = if B::GROUP == GROUP && !B::HAS_MIN {
            let scales = len / GROUP * TILE;
            let uniform = panel.own.get_or_make::<Uniform>();
            uniform.scales[tile * UNIFORM_SCALES..][..scales].copy_from_slice(&panel.scales[..scales]);
            Recode::Keep
        } else if B::GROUP == GROUP && plan_multiplication::<B>(panel, tile) {
            Recode::Multiply
        } else {
            plan_rounding::<B>(panel, tile);
            Recode::Round
        };
        let codes = match recode {
            // Planes are only read in one way.
            Recode::Round if B::PLANES.is_some() && B::GROUP == GROUP => {
                panel.unpack_rows::<B>(rows, tile, first, len);
                Codes::Rows(recode)
            }
            _ if B::PLANES.is_some() => Codes::Planes,
            _ => Codes::Rows(recode),
        };
        arrange(panel, tile, codes);
    }
}

/// Prepares [`Recode::Multiply`], with scales in part `tile` of `Uniform::scales`, for a format with one min for each [`GROUP`] values.
/// False if the new codes would be too coarse for a group, because its min is further from 0 than its codes reach.
///
/// New codes are exact but for the min, which has to be a whole number of them. Of the four largest factors, the one is taken that makes
/// it most nearly so: half a code becomes a tenth on average.
#[inline(always)]
fn plan_multiplication<B: Block>(panel: &mut Panel, tile: usize) -> bool {
    const FACTORS: u32 = 4;
    let Panel { scales, mins, len, own, .. } = panel;
    let Uniform { scales: uniform_scales, factors, offsets } = own.get_or_make();
    let uniform_scales = &mut uniform_scales[tile * UNIFORM_SCALES..][..UNIFORM_SCALES];
    let old = scales.as_chunks::<TILE>().0.iter().zip(mins.as_chunks::<TILE>().0);
    let plan = factors.as_chunks_mut::<TILE>().0.iter_mut().zip(offsets.as_chunks_mut::<TILE>().0);
    let groups = old.zip(plan).zip(uniform_scales.as_chunks_mut::<TILE>().0);
    let mut far = 0;
    for (((scales, mins), (factors, offsets)), uniform_scales) in groups.take(*len / GROUP) {
        for row in 0..TILE {
            let (scale, min) = (scales[row], mins[row]);
            // All values are the min, 127 times the new scale.
            let alone = scale == 0.0;
            let (ratio, most) = ratio_and_most::<B>(scale, min);
            // How far off a whole number the min is, and in the last bits of it, which factor that is.
            let mut best = u32::MAX;
            for i in 0..FACTORS {
                let exact = (most - i as f32) * ratio;
                let off = exact - ((exact + MAGIC) - MAGIC);
                best = best.min(off.abs().to_bits() & !(FACTORS - 1) | i);
            }
            let factor = most - (best % FACTORS) as i32 as f32;
            let offset = (factor * ratio + MAGIC).to_bits();
            let unit = if alone { min * (1.0 / 127.0) } else { scale / factor };
            let factor = if alone { 0.0 } else { factor };
            let offset = if alone { 127 } else { offset };
            factors[row] = (((factor + MAGIC).to_bits() & 0xff) * 0x1_0001) as i32;
            offsets[row] = ((offset.wrapping_add(128) & 0xff) * 0x101_0101) as i32;
            // Not finite where the scale or the min is not, as then the factor is 0 or NaN.
            uniform_scales[row] = significant(unit);
            far |= i32::from(is_far::<B>(ratio));
        }
    }
    far == 0
}

/// The min in units of the scale, and the largest factor with which all values stay in a signed byte.
#[inline(always)]
fn ratio_and_most<B: Block>(scale: f32, min: f32) -> (f32, f32) {
    let (low, high) = (min.abs(), (scale * f32::from(B::CODES.1) + min).abs());
    let largest = if low > high { low } else { high };
    // One division for two. Scale and min are an f16 times at most 63: no product here overflows or becomes subnormal.
    let inverse = 1.0 / (scale * largest);
    (min * largest * inverse, (127.0 * scale * scale * inverse).abs().floor())
}

/// Whether values reach too far from 0 for [`Recode::Multiply`], given the min in units of the scale. Not for NaN and infinity.
#[inline(always)]
fn is_far<B: Block>(ratio: f32) -> bool {
    ((ratio < -(f32::from(B::CODES.1) + 0.5)) | (ratio > 0.5)) & (ratio.abs() < f32::INFINITY)
}

/// Prepares [`Recode::Round`], with scales in part `tile` of `Uniform::scales`.
///
/// What is lost is no more than what rounding activations to 8 bits loses, and far below what a file of at most six bits
/// has lost. Scales come from the range of the codes, not from those that occur, so that they are seen only once. Without mins, the
/// codes of the part whose scale is largest stay exact. After [`plan_multiplication`] for groups that are far; all others keep what it chose, so
/// that no row depends on the rows beside it.
#[inline(always)]
fn plan_rounding<B: Block>(panel: &mut Panel, tile: usize) {
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
                if !B::HAS_MIN {
                    let scale = scales[part][row];
                    poison[row] += scale * 0.0;
                    largest[row] = if scale.abs() > largest[row].abs() { scale } else { largest[row] };
                    continue;
                }
                for code in [B::CODES.0, B::CODES.1] {
                    let value = (scales[part][row] * f32::from(code) + min(part, row)).abs();
                    poison[row] += value * 0.0;
                    largest[row] = if value > largest[row] { value } else { largest[row] };
                }
            }
        }
        // New codes in what is largest: a value, or the scale of codes that are symmetric.
        let steps = if B::HAS_MIN { 127.0 } else { -128.0 / f32::from(B::CODES.0) };
        let mut inverse = [0f32; TILE];
        let chosen =
            |row: usize| B::GROUP == GROUP && !is_far::<B>(ratio_and_most::<B>(scales[0][row], mins[0][row]).0);
        for row in 0..TILE {
            let fits = largest[row].abs() > TINY;
            inverse[row] = if fits { steps / largest[row] } else { 0.0 };
            if !chosen(row) {
                uniform_scales[row] = if fits { significant(largest[row] * (1.0 / steps)) } else { 0.0 } + poison[row];
            }
        }
        for part in 0..parts {
            for row in 0..TILE {
                let mut factor = scales[part][row] * inverse[row];
                if !B::HAS_MIN {
                    // The lowest code must not become 128.
                    let least = 127.0 / f32::from(B::CODES.0);
                    factor = if factor < least { least } else { factor };
                }
                let factor = fixed(factor);
                let lowest = factor.wrapping_mul(i16::from(B::CODES.0));
                let offset = fixed(min(part, row) * inverse[row]).wrapping_add(lowest);
                // And one half, for the upper byte to be the nearest integer.
                let offset = offset.wrapping_add(128).wrapping_add(i16::MIN);
                let whole = |byte: i32| (byte << 8) as i16;
                let (factor, offset) =
                    if chosen(row) { (whole(factors[part][row]), whole(offsets[part][row])) } else { (factor, offset) };
                (factors[part][row], offsets[part][row]) = (twice(factor), twice(offset));
            }
        }
    }
}

/// A scale, cut to the 22 significant bits that `isa::vnni` relies on.
#[inline(always)]
fn significant(scale: f32) -> f32 {
    f32::from_bits(scale.to_bits() & !3)
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
