//! Q5_1: 32 values of 5 bits, one f16 scale and min. Layout: `block_q5_1` of `ggml-common.h`:
//! `d` and `m` (f16), `qh` (32 bits: the fifth bit of value `j` is bit `j`), `qs` (16 bytes: value `j` in the low nibble
//! of byte `j`, value `j + 16` in its high nibble).

use super::block::{Block, bytes_at, f16_at, head};
use super::pack::{Found, Pack, fifth_bits, nibbles, put};
use super::q5_0::five_bit_codes;

const LEN: usize = 32;
const BYTES: usize = 24;
const GROUP: usize = 32;

/// Q5_1 blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q5_1;

impl Block for Q5_1 {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = true;
    const CODES: (i8, i8) = (0, 31);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let (d, m) = (f16_at(block, 0), f16_at(block, 2));
        let qh = u32::from_le_bytes(*bytes_at(block, 4));
        let fifth = |j: usize| ((qh >> j & 1) << 4) as u8;
        for (j, q) in block[8..BYTES].iter().enumerate() {
            out[j] = f32::from(q & 15 | fifth(j)) * d + m;
            out[j + 16] = f32::from(q >> 4 | fifth(j + 16)) * d + m;
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);
        let mins: &mut [f32; LEN / GROUP] = head(mins);

        scales[0] = f16_at(block, 0);
        mins[0] = f16_at(block, 2);
        let words = five_bit_codes(bytes_at(block, 4), bytes_at(block, 8));
        for (codes, word) in codes.as_chunks_mut().0.iter_mut().zip(words) {
            *codes = word.to_le_bytes().map(|code| code as i8);
        }
    }
}

impl Pack for Q5_1 {
    const RANGE: (f32, f32) = (0.0, 31.0);
    const SCALES: (i32, i32) = (1, 1);
    const MINS: i32 = 1;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        put(block, 0, found.d);
        put(block, 2, -found.dmin);
        block[4..8].copy_from_slice(&fifth_bits(&found.codes, 0));
        nibbles(&found.codes, 0, &mut block[8..]);
    }
}
