//! Q4_K: 256 values of 4 bits in 8 groups, each with a 6-bit scale and min of its own, under one f16 scale for each.
//! Layout: `block_q4_K` of `ggml-common.h`: `d` and `dmin` (f16), `scales` (12 bytes, see [`ScalesAndMins`]), `qs` (128
//! bytes: of each 32 bytes, the low nibbles are 32 values and the high nibbles the next 32). Mins are subtracted.

use super::block::{Block, Planes, bytes_at, f16_at, head};
use super::f16::f16_to_f32;
use super::pack::{Found, Pack, put};

const LEN: usize = 256;
const BYTES: usize = 144;
const GROUP: usize = 32;

/// Q4_K blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q4_K;

impl Block for Q4_K {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = true;
    const CODES: (i8, i8) = (0, 15);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
        for g in 0..LEN / GROUP {
            let (scale, min) = scale_and_min(bytes_at(block, 4), g);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for l in 0..GROUP {
                let q = block[16 + 32 * (g / 2) + l] >> (4 * (g % 2)) & 15;
                out[GROUP * g + l] = scale * f32::from(q) - min;
            }
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);
        let mins: &mut [f32; LEN / GROUP] = head(mins);

        let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
        let packed = ScalesAndMins::unpack(bytes_at(block, 4));
        for g in 0..LEN / GROUP {
            scales[g] = d * f32::from(packed.scales[g]);
            mins[g] = -(dmin * f32::from(packed.mins[g]));
        }
        for pair in 0..4 {
            let qs: &[u8; 32] = bytes_at(block, 16 + 32 * pair);
            for l in 0..32 {
                codes[64 * pair + l] = (qs[l] & 15) as i8;
            }
            for l in 0..32 {
                codes[64 * pair + 32 + l] = (qs[l] >> 4) as i8;
            }
        }
    }

    const PLANES: Option<Planes> = Some(Planes {
        scales: 0,
        d: None,
        low: [16, 80],
        low_bits: 4,
        runs: [(0, 0), (0, 4), (8, 0), (8, 4)],
        high: 0,
        high_bits: 0,
        high_runs: [[(0, 0); 4]; 2],
    });

    #[inline(always)]
    fn unpack_scales<const N: usize>(words: &[[u32; N]; 4], _: &[u16; N], set: impl FnMut(usize, [f32; N], [f32; N])) {
        scales_and_mins_of_rows(words, set);
    }
}

impl Pack for Q4_K {
    const RANGE: (f32, f32) = (0.0, 15.0);
    const SCALES: (i32, i32) = (0, 63);
    const MINS: i32 = 63;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        put(block, 0, found.d);
        put(block, 2, found.dmin);
        scales_and_mins(found, &mut block[4..16]);
        for (i, code) in found.codes.iter().enumerate() {
            block[16 + 32 * (i / 64) + i % 32] |= (*code as u8) << (4 * (i / 32 % 2));
        }
    }
}

/// The eight 6-bit scales and eight 6-bit mins of a Q4_K or Q5_K block, which share 12 bytes: scales 0 .. 4 and mins
/// 0 .. 4 in the low six bits of bytes 0 .. 4 and 4 .. 8; of scales and mins 4 .. 8, the low nibbles in the low and high
/// nibbles of bytes 8 .. 12, the upper two bits on top of scales and mins 0 .. 4.
pub(super) struct ScalesAndMins {
    pub(super) scales: [u8; 8],
    pub(super) mins: [u8; 8],
}

impl ScalesAndMins {
    /// All of them at once, four to a word.
    #[inline(always)]
    pub(super) fn unpack(packed: &[u8; 12]) -> Self {
        let word = |at| u32::from_le_bytes(*bytes_at(packed, at));
        let (scales, mins, rest) = (word(0), word(4), word(8));
        let upper = |first: u32| (first >> 6 & 0x0303_0303) << 4;
        let join = |first: u32, last: u32| {
            (u64::from(first & 0x3f3f_3f3f) | u64::from(last & 0x0f0f_0f0f | upper(first)) << 32).to_le_bytes()
        };
        Self { scales: join(scales, rest), mins: join(mins, rest >> 4) }
    }
}

/// The scales and mins of a Q4_K or Q5_K block, of whose first 16 bytes `words` are made, in each of `N` rows: as
/// [`Block::unpack_scales`].
#[inline(always)]
pub(super) fn scales_and_mins_of_rows<const N: usize>(
    [floats, first, second, rest]: &[[u32; N]; 4],
    mut set: impl FnMut(usize, [f32; N], [f32; N]),
) {
    use std::array::from_fn;
    let d: [f32; N] = from_fn(|row| f16_to_f32(floats[row] as u16));
    let dmin: [f32; N] = from_fn(|row| -f16_to_f32((floats[row] >> 16) as u16));
    for g in 0..4 {
        let shift = 8 * g as u32;
        set(
            g,
            from_fn(|row| d[row] * (first[row] >> shift & 63) as i32 as f32),
            from_fn(|row| dmin[row] * (second[row] >> shift & 63) as i32 as f32),
        );
    }
    for g in 0..4 {
        let shift = 8 * g as u32;
        let upper = |word: u32| (word >> shift & 0xc0) >> 2;
        set(
            g + 4,
            from_fn(|row| d[row] * (rest[row] >> shift & 15 | upper(first[row])) as i32 as f32),
            from_fn(|row| dmin[row] * (rest[row] >> shift >> 4 & 15 | upper(second[row])) as i32 as f32),
        );
    }
}

/// The scale and min of group `g`, taken by themselves.
pub(super) fn scale_and_min(packed: &[u8; 12], g: usize) -> (u8, u8) {
    if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        (packed[g + 4] & 15 | packed[g - 4] >> 6 << 4, packed[g + 4] >> 4 | packed[g] >> 6 << 4)
    }
}

/// The 12 bytes that [`ScalesAndMins`] reads.
#[inline(always)]
pub(super) fn scales_and_mins(found: &Found, packed: &mut [u8]) {
    for g in 0..4 {
        let (scale, min) = (found.scales[g + 4] as u8, found.mins[g + 4]);
        packed[g] = found.scales[g] as u8 | (scale >> 4) << 6;
        packed[g + 4] = found.mins[g] | (min >> 4) << 6;
        packed[g + 8] = scale & 15 | min << 4;
    }
}
