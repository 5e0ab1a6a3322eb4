//! IQ4_NL: 32 values of 4 bits that index a codebook denser near zero, one f16 scale. Layout: `block_iq4_nl` of
//! `ggml-common.h`: `d` (f16), `qs` (16 bytes: value `j` in the low nibble of byte `j`, value `j + 16` in its high nibble).

use super::{Block, Format, bytes_at, f16_at, head};

const LEN: usize = 32;
const BYTES: usize = 18;
const GROUP: usize = 32;

/// IQ4_NL blocks.
#[allow(non_camel_case_types)]
pub(crate) struct IQ4_NL;

impl Block for IQ4_NL {
    const FORMAT: Format = Format::IQ4_NL;
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (j, q) in block[2..BYTES].iter().enumerate() {
            out[j] = d * f32::from(CODEBOOK[usize::from(q & 15)]);
            out[j + 16] = d * f32::from(CODEBOOK[usize::from(q >> 4)]);
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
            codes[j] = look_up(qs[j] & 15);
            codes[j + 16] = look_up(qs[j] >> 4);
        }
    }
}

/// What a nibble of IQ4_NL and IQ4_XS stands for: `kvalues_iq4nl` of `ggml-common.h`.
pub(super) const CODEBOOK: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `CODEBOOK[nibble]` without a load: the steps up to it, added. The compiler turns no table into a byte shuffle, and
/// this form it does vectorize.
#[inline(always)]
pub(super) fn look_up(nibble: u8) -> i8 {
    let mut code = CODEBOOK[0];
    for k in 1..16 {
        let step = CODEBOOK[k].wrapping_sub(CODEBOOK[k - 1]);
        code = code.wrapping_add(if nibble as i8 >= k as i8 { step } else { 0 });
    }
    code
}
