//! IQ4_XS: 256 values of 4 bits that index the codebook of IQ4_NL, in 8 groups, each with a 6-bit scale around 32, under
//! one f16 scale. Layout: `block_iq4_xs` of `ggml-common.h`: `d` (f16), `scales_h` (16 bits: the upper two bits of scale `g`
//! at bit `2 g`), `scales_l` (4 bytes: the low four bits, two to a byte), `qs` (16 bytes to a group: value `j` in the low
//! nibble of byte `j`, value `j + 16` in its high nibble).

use super::block::{Block, bytes_at, f16_at, head};
use super::iq4_nl::{CODEBOOK, look_up};

const LEN: usize = 256;
const BYTES: usize = 136;
const GROUP: usize = 32;

/// IQ4_XS blocks.
#[allow(non_camel_case_types)]
pub(crate) struct IQ4_XS;

impl Block for IQ4_XS {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;
    const CODES: (i8, i8) = (-127, 113);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        let scales_h = u16::from_le_bytes(*bytes_at(block, 2));
        for g in 0..LEN / GROUP {
            let low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
            let high = (scales_h >> (2 * g) & 3) as u8;
            let scale = d * (f32::from(low | high << 4) - 32.0);
            for j in 0..16 {
                let q = block[8 + 16 * g + j];
                out[GROUP * g + j] = scale * f32::from(CODEBOOK[usize::from(q & 15)]);
                out[GROUP * g + j + 16] = scale * f32::from(CODEBOOK[usize::from(q >> 4)]);
            }
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);

        let d = f16_at(block, 0);
        let scales_h = u32::from(u16::from_le_bytes(*bytes_at(block, 2)));
        let scales_l = u32::from_le_bytes(*bytes_at(block, 4));
        for (g, scale) in scales.iter_mut().enumerate() {
            let code = scales_l >> (4 * g) & 15 | (scales_h >> (2 * g) & 3) << 4;
            *scale = d * (code as i32 - 32) as f32;
        }
        for g in 0..LEN / GROUP {
            *head(&mut codes[GROUP * g..]) = look_up(bytes_at(block, 8 + 16 * g));
        }
    }
}
