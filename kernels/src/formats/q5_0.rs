//! Q5_0: 32 values of 5 bits around 16, one f16 scale. Layout: `block_q5_0` of `ggml-common.h`:
//! `d` (f16), `qh` (32 bits: the fifth bit of value `j` is bit `j`), `qs` (16 bytes: value `j` in the low nibble of
//! byte `j`, value `j + 16` in its high nibble).

use super::{Block, Format, bytes_at, f16_at, head};

const LEN: usize = 32;
const BYTES: usize = 22;
const GROUP: usize = 32;

/// Q5_0 blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q5_0;

impl Block for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;

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
        let high = fifth_bits(bytes_at(block, 2));
        let qs: &[u8; 16] = bytes_at(block, 6);
        for j in 0..16 {
            codes[j] = (qs[j] & 15 | high[j]) as i8 - 16;
            codes[j + 16] = (qs[j] >> 4 | high[j + 16]) as i8 - 16;
        }
    }
}

/// 16 for every bit of `qh` that is set and 0 for the others, in the order of the bits.
#[inline(always)]
pub(super) fn fifth_bits(qh: &[u8; 4]) -> [u8; 32] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const DIAGONAL: u64 = 0x8040_2010_0804_0201;
    let mut out = [0; 32];
    for (out, &bits) in out.as_chunks_mut::<8>().0.iter_mut().zip(qh) {
        // Byte i keeps bit i of eight copies; adding 0x7f turns "not zero" into the byte's top bit, without a carry.
        let kept = u64::from(bits) * ONES & DIAGONAL;
        *out = ((kept + 0x7f * ONES) >> 3 & 0x10 * ONES).to_le_bytes();
    }
    out
}
