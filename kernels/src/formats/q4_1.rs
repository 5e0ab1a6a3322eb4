//! Q4_1: 32 values of 4 bits, one f16 scale and min. Layout: `block_q4_1` of `ggml-common.h`:
//! `d` and `m` (f16), `qs` (16 bytes: value `j` in the low nibble of byte `j`, value `j + 16` in its high nibble).

use super::block::{Block, bytes_at, f16_at, head};
use super::pack::{Found, Pack, nibbles, put};

const LEN: usize = 32;
const BYTES: usize = 20;
const GROUP: usize = 32;

/// Q4_1 blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q4_1;

impl Block for Q4_1 {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = true;
    const CODES: (i8, i8) = (0, 15);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let (d, m) = (f16_at(block, 0), f16_at(block, 2));
        for (j, q) in block[4..BYTES].iter().enumerate() {
            out[j] = f32::from(q & 15) * d + m;
            out[j + 16] = f32::from(q >> 4) * d + m;
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
        let qs: &[u8; 16] = bytes_at(block, 4);
        for j in 0..16 {
            codes[j] = (qs[j] & 15) as i8;
            codes[j + 16] = (qs[j] >> 4) as i8;
        }
    }
}

impl Pack for Q4_1 {
    const RANGE: (f32, f32) = (0.0, 15.0);
    const SCALES: (i32, i32) = (1, 1);
    const MINS: i32 = 1;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        put(block, 0, found.d);
        put(block, 2, -found.dmin);
        nibbles(&found.codes, 0, &mut block[4..]);
    }
}
