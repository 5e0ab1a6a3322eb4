//! Q4_0: 32 values of 4 bits around 8, one f16 scale. Layout: `block_q4_0` of `ggml-common.h`:
//! `d` (f16), `qs` (16 bytes: value `j` in the low nibble of byte `j`, value `j + 16` in its high nibble).

use super::block::{Block, bytes_at, f16_at, head};
use super::pack::{Found, Pack, nibbles, put};

const LEN: usize = 32;
const BYTES: usize = 18;
const GROUP: usize = 32;

/// Q4_0 blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q4_0;

impl Block for Q4_0 {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;
    const CODES: (i8, i8) = (-8, 7);
    const HALF_SCALE: Option<usize> = Some(0);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (j, q) in block[2..BYTES].iter().enumerate() {
            out[j] = (f32::from(q & 15) - 8.0) * d;
            out[j + 16] = (f32::from(q >> 4) - 8.0) * d;
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);

        scales[0] = f16_at(block, 0);
        let qs: &[u8; 16] = bytes_at(block, 2);
        for j in 0..16 {
            codes[j] = (qs[j] & 15) as i8 - 8;
            codes[j + 16] = (qs[j] >> 4) as i8 - 8;
        }
    }
}

impl Pack for Q4_0 {
    const RANGE: (f32, f32) = (-8.0, 7.0);
    const SCALES: (i32, i32) = (1, 1);
    const MINS: i32 = 0;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        put(block, 0, found.d);
        nibbles(&found.codes, 8, &mut block[2..]);
    }
}
