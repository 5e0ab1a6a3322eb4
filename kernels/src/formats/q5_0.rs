//! Q5_0: 32 values of 5 bits around 16, one f16 scale. Layout: `block_q5_0` of `ggml-common.h`:
//! `d` (f16), `qh` (32 bits: the fifth bit of value `j` is bit `j`), `qs` (16 bytes: value `j` in the low nibble of
//! byte `j`, value `j + 16` in its high nibble).

use super::block::{Block, bytes_at, f16_at, head};
use super::pack::{Found, Pack, fifth_bits, nibbles, put};

const LEN: usize = 32;
const BYTES: usize = 22;
const GROUP: usize = 32;

/// Q5_0 blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q5_0;

impl Block for Q5_0 {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;
    const CODES: (i8, i8) = (-16, 15);
    const HALF_SCALE: Option<usize> = Some(0);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        let qh = u32::from_le_bytes(*bytes_at(block, 2));
        let fifth = |j: usize| ((qh >> j & 1) << 4) as u8;
        for (j, q) in block[6..BYTES].iter().enumerate() {
            out[j] = (f32::from(q & 15 | fifth(j)) - 16.0) * d;
            out[j + 16] = (f32::from(q >> 4 | fifth(j + 16)) - 16.0) * d;
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);

        scales[0] = f16_at(block, 0);
        let words = five_bit_codes(bytes_at(block, 2), bytes_at(block, 6));
        for (codes, word) in codes.as_chunks_mut().0.iter_mut().zip(words) {
            // Minus 16 in each byte: plus 0x70 carries nothing out of it, and turning its top bit takes off 0x80.
            let moved = (word + 0x7070_7070_7070_7070) ^ 0x8080_8080_8080_8080;
            *codes = moved.to_le_bytes().map(|code| code as i8);
        }
    }
}

impl Pack for Q5_0 {
    const RANGE: (f32, f32) = (-16.0, 15.0);
    const SCALES: (i32, i32) = (1, 1);
    const MINS: i32 = 0;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        put(block, 0, found.d);
        block[2..6].copy_from_slice(&fifth_bits(&found.codes, 16));
        nibbles(&found.codes, 16, &mut block[6..]);
    }
}

/// The 32 five-bit codes of a Q5_0 or Q5_1 block, not moved: a word of eight at a time, which the compiler leaves as it
/// is, where a loop over single bytes gets vectorized across blocks, at a third of the speed.
#[inline(always)]
pub(super) fn five_bit_codes(qh: &[u8; 4], qs: &[u8; 16]) -> [u64; 4] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const DIAGONAL: u64 = 0x8040_2010_0804_0201;
    let words = [u64::from_le_bytes(*bytes_at(qs, 0)), u64::from_le_bytes(*bytes_at(qs, 8))];
    let mut out = [0; 4];
    for w in 0..4 {
        // Byte i keeps bit i of eight copies; adding 0x7f turns "not zero" into the byte's top bit, without a carry.
        let kept = u64::from(qh[w]).wrapping_mul(ONES) & DIAGONAL;
        let fifth = ((kept + 0x7f7f_7f7f_7f7f_7f7f) >> 3) & 0x1010_1010_1010_1010;
        let nibbles = (words[w % 2] >> (4 * (w / 2))) & 0x0f0f_0f0f_0f0f_0f0f;
        out[w] = nibbles | fifth;
    }
    out
}
