//! MXFP4: 32 floats of 4 bits (e2m1: a sign, two bits of exponent, one of mantissa), one power of two as their scale. Layout:
//! `block_mxfp4` of `ggml-common.h`: `e` (a byte, E8M0: 2^(e − 127)), `qs` (16 bytes: value `j` in the low nibble of byte `j`,
//! value `j + 16` in its high nibble). Codes are twice the floats, which makes them integers, and scales half.

use super::block::{Block, LARGEST_SCALE, bytes_at, head};

const LEN: usize = 32;
const BYTES: usize = 17;
const GROUP: usize = 32;

/// MXFP4 blocks.
pub(crate) struct MXFP4;

impl Block for MXFP4 {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;
    const CODES: (i8, i8) = (-12, 12);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let d = half_scale(block[0]);
        for (j, q) in block[1..BYTES].iter().enumerate() {
            out[j] = d * f32::from(CODES[usize::from(q & 15)]);
            out[j + 16] = d * f32::from(CODES[usize::from(q >> 4)]);
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);

        let scale = half_scale(block[0]);
        scales[0] = if scale <= LARGEST_SCALE { scale } else { f32::INFINITY };
        let qs: &[u8; 16] = bytes_at(block, 1);
        for j in 0..16 {
            codes[j] = code(qs[j] & 15);
            codes[j + 16] = code(qs[j] >> 4);
        }
    }
}

/// What a nibble stands for, twice: `kvalues_mxfp4` of `ggml-common.h`.
const CODES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// [`CODES`] of a nibble without a table, which the compiler never turns into a byte shuffle: a broken line, whose steps grow by
/// one from 4 on and by two from 6 on.
#[inline(always)]
fn code(nibble: u8) -> i8 {
    let (magnitude, sign) = (nibble & 7, (nibble >> 3) as i8);
    let value = (magnitude + magnitude.saturating_sub(4) + 2 * magnitude.saturating_sub(6)) as i8;
    (value ^ -sign) + sign
}

/// 2^(e − 128), subnormal for the first two.
#[inline(always)]
fn half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}
