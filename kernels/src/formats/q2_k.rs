//! Q2_K: 256 values of 2 bits in 16 groups, each with a 4-bit scale and min of its own, under one f16 scale for each.
//! Layout: `block_q2_K` of `ggml-common.h`: `scales` (16 bytes: scale in the low nibble, min in the high one), `qs` (64
//! bytes: of each 32 bytes, the four pairs of bits are four runs of 32 values), `d` and `dmin` (f16). Mins are subtracted.

use super::block::{Block, bytes_at, f16_at, head};
use super::pack::{Found, Pack, put};

const LEN: usize = 256;
const BYTES: usize = 84;
const GROUP: usize = 16;

/// Q2_K blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q2_K;

impl Block for Q2_K {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = true;
    const CODES: (i8, i8) = (0, 3);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
        for (i, out) in out[..LEN].iter_mut().enumerate() {
            let scale = block[i / GROUP];
            let (half, run, l) = (i / 128, i / 32 % 4, i % 32);
            let q = block[16 + 32 * half + l] >> (2 * run) & 3;
            *out = d * f32::from(scale & 15) * f32::from(q) - dmin * f32::from(scale >> 4);
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);
        let mins: &mut [f32; LEN / GROUP] = head(mins);

        let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
        for g in 0..LEN / GROUP {
            scales[g] = d * f32::from(block[g] & 15);
            mins[g] = -(dmin * f32::from(block[g] >> 4));
        }
        for half in 0..2 {
            let qs: &[u8; 32] = bytes_at(block, 16 + 32 * half);
            for run in 0..4 {
                for l in 0..32 {
                    codes[128 * half + 32 * run + l] = (qs[l] >> (2 * run) & 3) as i8;
                }
            }
        }
    }
}

impl Pack for Q2_K {
    const RANGE: (f32, f32) = (0.0, 3.0);
    const SCALES: (i32, i32) = (0, 15);
    const MINS: i32 = 15;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        for ((byte, scale), min) in block.iter_mut().zip(found.scales).zip(found.mins) {
            *byte = scale as u8 | min << 4;
        }
        for (i, code) in found.codes.iter().enumerate() {
            let (half, run, l) = (i / 128, i / 32 % 4, i % 32);
            block[16 + 32 * half + l] |= (*code as u8) << (2 * run);
        }
        put(block, 80, found.d);
        put(block, 82, found.dmin);
    }
}
