//! IQ4_NL: 32 values of 4 bits that index a codebook denser near zero, one f16 scale. Layout: `block_iq4_nl` of
//! `ggml-common.h`: `d` (f16), `qs` (16 bytes: value `j` in the low nibble of byte `j`, value `j + 16` in its high nibble).

use super::block::{Block, bytes_at, f16_at, head};

const LEN: usize = 32;
const BYTES: usize = 18;
const GROUP: usize = 32;

/// IQ4_NL blocks.
#[allow(non_camel_case_types)]
pub(crate) struct IQ4_NL;

impl Block for IQ4_NL {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;
    const CODES: (i8, i8) = (-127, 113);
    const HALF_SCALE: Option<usize> = Some(0);

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
        *codes = look_up(bytes_at(block, 2));
    }
}

/// What a nibble of IQ4_NL and IQ4_XS stands for: `kvalues_iq4nl` of `ggml-common.h`.
pub(super) const CODEBOOK: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The codebook values of the low nibbles of 16 bytes, then of the high ones.
///
/// Not a look-up in a table, which the compiler never turns into a byte shuffle, but arithmetic that it vectorizes: the
/// codebook drawn as a broken line, the sum over `k` of `SLOPE_CHANGE[k] * max(nibble - k, 0)`. Fifteen comparisons that
/// add a step each give the same at half the speed.
#[inline(always)]
pub(super) fn look_up(qs: &[u8; 16]) -> [i8; 32] {
    let mut nibbles = [0; 32];
    for j in 0..16 {
        nibbles[j] = qs[j] & 15;
        nibbles[j + 16] = qs[j] >> 4;
    }
    let mut codes = [CODEBOOK[0] as u8; 32];
    for (k, &change) in SLOPE_CHANGE.iter().enumerate() {
        for j in 0..32 {
            codes[j] = codes[j].wrapping_add(nibbles[j].saturating_sub(k as u8).wrapping_mul(change));
        }
    }
    codes.map(|code| code as i8)
}

/// How much steeper the step from codebook value `k` to the next is than the step before, modulo 256.
const SLOPE_CHANGE: [u8; 15] = {
    let mut changes = [0u8; 15];
    let mut k = 0;
    let mut slope = 0u8;
    while k < 15 {
        let next = CODEBOOK[k + 1].wrapping_sub(CODEBOOK[k]) as u8;
        changes[k] = next.wrapping_sub(slope);
        slope = next;
        k += 1;
    }
    changes
};
