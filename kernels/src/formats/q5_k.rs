//! Q5_K: 256 values of 5 bits in 8 groups, each with a 6-bit scale and min of its own, under one f16 scale for each.
//! Layout: `block_q5_K` of `ggml-common.h`: `d` and `dmin` (f16), `scales` (12 bytes, see [`ScalesAndMins`]), `qh` (32
//! bytes: the fifth bits, bit `g` of byte `l` for value `32 g + l`), `qs` (128 bytes: of each 32 bytes, the low nibbles
//! are 32 values and the high nibbles the next 32). Mins are subtracted.

use super::block::{Block, Planes, bytes_at, f16_at, head};
use super::pack::{Found, Pack, put};
use super::q4_k::{ScalesAndMins, scale_and_min, scales_and_mins, scales_and_mins_of_rows};

const LEN: usize = 256;
const BYTES: usize = 176;
const GROUP: usize = 32;

/// Q5_K blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q5_K;

impl Block for Q5_K {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = true;
    const CODES: (i8, i8) = (0, 31);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
        for g in 0..LEN / GROUP {
            let (scale, min) = scale_and_min(bytes_at(block, 4), g);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for l in 0..GROUP {
                let q = block[48 + 32 * (g / 2) + l] >> (4 * (g % 2)) & 15;
                let fifth = block[16 + l] >> g & 1;
                out[GROUP * g + l] = scale * f32::from(q | fifth << 4) - min;
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
        let qh: &[u8; 32] = bytes_at(block, 16);
        for pair in 0..4 {
            let qs: &[u8; 32] = bytes_at(block, 48 + 32 * pair);
            for l in 0..32 {
                codes[64 * pair + l] = (qs[l] & 15 | (qh[l] >> (2 * pair) & 1) << 4) as i8;
            }
            for l in 0..32 {
                codes[64 * pair + 32 + l] = (qs[l] >> 4 | (qh[l] >> (2 * pair + 1) & 1) << 4) as i8;
            }
        }
    }

    const PLANES: Option<Planes> = Some(Planes {
        scales: 0,
        d: None,
        low: [48, 112],
        low_bits: 4,
        runs: [(0, 0), (0, 4), (8, 0), (8, 4)],
        high: 16,
        high_bits: 1,
        high_runs: [[(0, 0), (0, 1), (0, 2), (0, 3)], [(0, 4), (0, 5), (0, 6), (0, 7)]],
    });

    #[inline(always)]
    fn unpack_scales<const N: usize>(words: &[[u32; N]; 4], _: &[u16; N], set: impl FnMut(usize, [f32; N], [f32; N])) {
        scales_and_mins_of_rows(words, set);
    }
}

impl Pack for Q5_K {
    const RANGE: (f32, f32) = (0.0, 31.0);
    const SCALES: (i32, i32) = (0, 63);
    const MINS: i32 = 63;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        put(block, 0, found.d);
        put(block, 2, found.dmin);
        scales_and_mins(found, &mut block[4..16]);
        for (i, code) in found.codes.iter().enumerate() {
            let code = *code as u8;
            block[16 + i % 32] |= (code >> 4) << (i / 32);
            block[48 + 32 * (i / 64) + i % 32] |= (code & 15) << (4 * (i / 32 % 2));
        }
    }
}
