//! Q8_0: 32 values of 8 bits, one f16 scale. Layout: `block_q8_0` of `ggml-common.h`: `d` (f16), `qs` (32 signed bytes).
//!
//! ggml's quantizer writes codes of -127 ..= 127 only, but a file may hold -128.

use super::block::{Block, bytes_at, f16_at, head};
use super::pack::{Found, Pack, put};

const LEN: usize = 32;
const BYTES: usize = 34;
const GROUP: usize = 32;

/// Q8_0 blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q8_0;

impl Block for Q8_0 {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;
    const CODES: (i8, i8) = (-128, 127);
    const HALF_SCALE: Option<usize> = Some(0);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (out, &q) in out.iter_mut().zip(&block[2..BYTES]) {
            *out = f32::from(q as i8) * d;
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);

        scales[0] = f16_at(block, 0);
        *codes = bytes_at::<LEN>(block, 2).map(|q| q as i8);
    }
}

impl Pack for Q8_0 {
    const RANGE: (f32, f32) = (-127.0, 127.0);
    const SCALES: (i32, i32) = (1, 1);
    const MINS: i32 = 0;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        put(block, 0, found.d);
        for (byte, code) in block[2..].iter_mut().zip(found.codes) {
            *byte = code as u8;
        }
    }
}
