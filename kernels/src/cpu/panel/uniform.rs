//! Weights of all quantized formats as 8-bit codes of one kind, for the products of `isa::vnni`.

use super::{CHUNK, GROUPS, Panel, TILE, TileRows};
use crate::buffer::Buffer;
use crate::cpu::activations::{GROUP, MEANS};
use crate::cpu::ops::quantize::TINY;
use crate::cpu::simd::IntLanes;
use crate::formats::Block;
use crate::rounding::MAGIC;

/// Bytes of a tile's codes: `[len / 4][TILE][4]`, and then, where mins leave [rests](Recode::Add), those of the groups, `[MEANS / 4][TILE][4]`.
pub(crate) const UNIFORM_CODES: usize = TILE * (CHUNK + MEANS);

/// Scales of a tile: for each group, and then for the rests.
pub(crate) const UNIFORM_SCALES: usize = TILE * (CHUNK / GROUP + 1);

/// The rests of a tile's mins, see [`Recode::Add`].
type RestCodes = [[[u8; 4]; TILE]; MEANS / 4];

/// What a panel of such codes has, besides the codes.
pub(crate) struct Uniform {
    /// [tiles × UNIFORM_SCALES], for as many tiles as were unpacked.
    pub(crate) scales: Buffer<f32>,
    /// Whether there are rests.
    pub(crate) rests: bool,
    /// What makes codes of one format into new ones, for each group of the format: [GROUPS × TILE]; see [`Recode`].
    pub(crate) factors: Buffer<i32>,
    pub(crate) offsets: Buffer<i32>,
}

/// How codes of a format become codes with one scale for each [`GROUP`] values and no min, each with 128 added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recode {
    /// They are such codes; only 128 is added.
    Keep,
    /// `code + offset`: the scale stays, and the min becomes the nearest whole number of steps. The offset, 128 included, is in each of four
    /// bytes. What is left of the min, at most half a step, is a code of its own, which meets the mean of the group's activations.
    Add,
    /// `(code − lowest) · factor + offset`, in 16 bits, of which the upper byte is the new code. What 16 bits cannot hold wraps around and
    /// comes back. Factor and offset each twice, for two values side by side.
    Round,
}

impl Default for Uniform {
    fn default() -> Self {
        Self {
            scales: Buffer::default(),
            rests: false,
            factors: Buffer::zeroed(TILE * GROUPS),
            offsets: Buffer::zeroed(TILE * GROUPS),
        }
    }
}

/// Where the codes of a tile are that are to be arranged.
pub(crate) enum Codes {
    /// In `Panel::rows`.
    Rows(Recode),
    /// In the file; to be added to if groups are as large as the new ones, and else rounded.
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
    panel.codes.resize(tiles * UNIFORM_CODES);
    let uniform = panel.own.get_or_make::<Uniform>();
    uniform.scales.resize(tiles * UNIFORM_SCALES);
    uniform.rests = B::GROUP == GROUP && B::HAS_MIN;
    let mut rests = RestCodes::default();
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
        } else if B::GROUP == GROUP && plan_offsets::<B>(panel, tile, &mut rests) {
            Recode::Add
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
        if B::GROUP == GROUP && B::HAS_MIN {
            let behind = &mut panel.codes[tile * UNIFORM_CODES + TILE * len..][..TILE * MEANS];
            behind.copy_from_slice(rests.as_flattened().as_flattened());
        }
    }
}

/// Prepares [`Recode::Add`], with scales in part `tile` of `Uniform::scales`, for a format with one min for each [`GROUP`] values, and the rests
/// of the mins. False if a group has to be rounded, because its min is further from 0 than its codes reach; it has no
/// rest.
#[inline(always)]
fn plan_offsets<B: Block>(panel: &mut Panel, tile: usize, rest_codes: &mut RestCodes) -> bool {
    let Panel { scales, mins, len, own, .. } = panel;
    let Uniform { scales: uniform_scales, offsets, .. } = own.get_or_make();
    let uniform_scales = uniform_scales[tile * UNIFORM_SCALES..][..UNIFORM_SCALES].as_chunks_mut::<TILE>().0;
    let count = *len / GROUP;
    let old = scales.as_chunks::<TILE>().0.iter().zip(mins.as_chunks::<TILE>().0);
    let new = offsets.as_chunks_mut::<TILE>().0.iter_mut().zip(uniform_scales.iter_mut());
    let mut rests = [[0f32; TILE]; MEANS];
    let (mut largest, mut far) = ([0f32; TILE], 0);
    for (((scales, mins), (offsets, new_scales)), rests) in old.zip(new).zip(&mut rests).take(count) {
        for row in 0..TILE {
            let (scale, min) = (scales[row], mins[row]);
            let ratio = if scale == 0.0 { 0.0 } else { min / scale };
            let sum = ratio + MAGIC;
            let is_far = is_far::<B>(scale, min);
            let rest = if is_far { 0.0 } else { min - (sum - MAGIC) * scale };
            rests[row] = rest;
            largest[row] = if rest.abs() > largest[row] { rest.abs() } else { largest[row] };
            offsets[row] = ((sum.to_bits().wrapping_add(128) & 0xff) * 0x101_0101) as i32;
            // Not finite where the scale or the min is not.
            new_scales[row] = significant(scale) + rest * 0.0;
            far |= i32::from(is_far);
        }
    }
    let fits = |largest: f32| largest > TINY;
    let mut inverses = [0f32; TILE];
    for row in 0..TILE {
        let largest = largest[row];
        inverses[row] = if fits(largest) { 127.0 / largest } else { 0.0 };
        // A mean is a 32nd of the sum that a min meets.
        let scale = largest * (GROUP as f32 / 127.0);
        uniform_scales[count][row] = if fits(largest) { significant(scale) } else { 0.0 };
    }
    for (words, rests) in rest_codes.iter_mut().zip(rests.as_chunks::<4>().0) {
        for row in 0..TILE {
            let code = |i: usize| (rests[i][row] * inverses[row] + MAGIC).to_bits().wrapping_add(128) & 0xff;
            words[row] = (code(0) | code(1) << 8 | code(2) << 16 | code(3) << 24).to_le_bytes();
        }
    }
    far == 0
}

/// Whether values reach too far from 0 for [`Recode::Add`]: not those of a scale and a min one of which is NaN.
#[inline(always)]
fn is_far<B: Block>(scale: f32, min: f32) -> bool {
    let (min, most) = (if scale < 0.0 { -min } else { min }, f32::from(B::CODES.1) + 0.5);
    (min < -most * scale.abs()) | (min > 0.5 * scale.abs())
}

/// Prepares [`Recode::Round`], with scales in part `tile` of `Uniform::scales`.
///
/// What is lost is no more than what rounding activations to 8 bits loses, and far below what a file of at most six bits
/// has lost. Scales come from the range of the codes, not from those that occur, so that they are seen only once. Without mins, the
/// codes of the part whose scale is largest stay exact. After [`plan_offsets`] for groups that are far; all others keep what it chose, so that no
/// row depends on the rows beside it.
#[inline(always)]
fn plan_rounding<B: Block>(panel: &mut Panel, tile: usize) {
    const { assert!(GROUP.is_multiple_of(B::GROUP)) };
    let Panel { scales, mins, len, own, .. } = panel;
    let Uniform { scales: uniform_scales, factors, offsets, .. } = own.get_or_make();
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
        let chosen = |row: usize| B::GROUP == GROUP && !is_far::<B>(scales[0][row], mins[0][row]);
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
                let chosen_offset = (offsets[part][row] << 8) as i16;
                let (factor, offset) = if chosen(row) { (256, chosen_offset) } else { (factor, offset) };
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
