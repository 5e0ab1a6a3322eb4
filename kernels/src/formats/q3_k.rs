//! Q3_K: 256 values of 3 bits around 4 in 16 groups, each with a 6-bit scale around 32, under one f16 scale.
//! Layout: `block_q3_K` of `ggml-common.h`: `hmask` (32 bytes: the third bits, bit `r` of byte `l` for value `32 r + l`),
//! `qs` (64 bytes: of each 32 bytes, the four pairs of bits are four runs of 32 values), `scales` (12 bytes: the low
//! nibbles of all 16 in 8 bytes, then their upper two bits in 4), `d` (f16).

use super::block::{Block, bytes_at, f16_at, head};
use super::pack::{Found, Pack, put};

const LEN: usize = 256;
const BYTES: usize = 110;
const GROUP: usize = 16;

/// Q3_K blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q3_K;

impl Block for Q3_K {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;
    const CODES: (i8, i8) = (-4, 3);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 108);
        for (i, out) in out[..LEN].iter_mut().enumerate() {
            let (half, run, l, g) = (i / 128, i / 32, i % 32, i / GROUP);
            let low = block[96 + g % 8] >> (4 * (g / 8)) & 15;
            let high = block[104 + g % 4] >> (2 * (g / 4)) & 3;
            let scale = f32::from(low | high << 4) - 32.0;
            let q = block[32 + 32 * half + l] >> (2 * (run % 4)) & 3;
            let third = block[l] >> run & 1;
            *out = d * scale * (f32::from(q | third << 2) - 4.0);
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);

        let d = f16_at(block, 108);
        let codes6 = scale_codes(bytes_at(block, 96));
        for g in 0..LEN / GROUP {
            scales[g] = d * f32::from(codes6[g] as i8 - 32);
        }
        let hmask: &[u8; 32] = bytes_at(block, 0);
        for half in 0..2 {
            let qs: &[u8; 32] = bytes_at(block, 32 + 32 * half);
            for run in 0..4 {
                for l in 0..32 {
                    let third = hmask[l] >> (4 * half + run) & 1;
                    codes[128 * half + 32 * run + l] = (qs[l] >> (2 * run) & 3 | third << 2) as i8 - 4;
                }
            }
        }
    }
}

impl Pack for Q3_K {
    const RANGE: (f32, f32) = (-4.0, 3.0);
    const SCALES: (i32, i32) = (-32, 31);
    const MINS: i32 = 0;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        for (i, code) in found.codes.iter().enumerate() {
            let (half, run, l, code) = (i / 128, i / 32, i % 32, (code + 4) as u8);
            block[l] |= (code >> 2) << run;
            block[32 + 32 * half + l] |= (code & 3) << (2 * (run % 4));
        }
        for (g, scale) in found.scales.iter().enumerate() {
            let scale = (scale + 32) as u8;
            block[96 + g % 8] |= (scale & 15) << (4 * (g / 8));
            block[104 + g % 4] |= (scale >> 4) << (2 * (g / 4));
        }
        put(block, 108, found.d);
    }
}

/// The 16 six-bit scales, not yet moved down by 32.
#[inline(always)]
fn scale_codes(packed: &[u8; 12]) -> [u8; 16] {
    const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    const PAIRS: u64 = 0x0303_0303_0303_0303;
    let low = u64::from_le_bytes(*bytes_at(packed, 0));
    let high = u64::from(u32::from_le_bytes(*bytes_at(packed, 8)));
    // Scales 4 s .. 4 s + 4 have their upper bits in pair s of the four bytes.
    let high_of = |s: u32| high >> (2 * s) & PAIRS & 0xffff_ffff;
    let first = low & NIBBLES | (high_of(0) | high_of(1) << 32) << 4;
    let last = low >> 4 & NIBBLES | (high_of(2) | high_of(3) << 32) << 4;
    let mut out = [0; 16];
    out[..8].copy_from_slice(&first.to_le_bytes());
    out[8..].copy_from_slice(&last.to_le_bytes());
    out
}
