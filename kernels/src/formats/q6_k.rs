//! Q6_K: 256 values of 6 bits around 32 in 16 groups, each with a signed 8-bit scale, under one f16 scale.
//! Layout: `block_q6_K` of `ggml-common.h`: `ql` (128 bytes), `qh` (64 bytes), `scales` (16 signed bytes), `d` (f16). Each
//! half of 128 values is four runs of 32: their low four bits are the low nibbles, then the high nibbles, of 64 bytes of
//! `ql`, their upper two bits the four pairs of bits of 32 bytes of `qh`.

use super::block::{Block, Planes, bytes_at, f16_at, head};
use super::f16::f16_to_f32;
use super::pack::{Found, Pack, put};

const LEN: usize = 256;
const BYTES: usize = 210;
const GROUP: usize = 16;

/// Q6_K blocks.
#[allow(non_camel_case_types)]
pub(crate) struct Q6_K;

impl Block for Q6_K {
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = false;
    const CODES: (i8, i8) = (-32, 31);

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 208);
        for (i, out) in out[..LEN].iter_mut().enumerate() {
            let (half, run, l) = (i / 128, i / 32 % 4, i % 32);
            let low = block[64 * half + 32 * (run % 2) + l] >> (4 * (run / 2)) & 15;
            let high = block[128 + 32 * half + l] >> (2 * run) & 3;
            let scale = block[192 + i / GROUP] as i8;
            *out = d * f32::from(scale) * (f32::from(low | high << 4) - 32.0);
        }
    }

    #[inline(always)]
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        let block: &[u8; BYTES] = bytes_at(block, 0);
        let codes: &mut [i8; LEN] = head(codes);
        let scales: &mut [f32; LEN / GROUP] = head(scales);

        let d = f16_at(block, 208);
        let scale_codes: &[u8; LEN / GROUP] = bytes_at(block, 192);
        for g in 0..LEN / GROUP {
            scales[g] = d * f32::from(scale_codes[g] as i8);
        }
        for half in 0..2 {
            let ql: &[u8; 64] = bytes_at(block, 64 * half);
            let qh: &[u8; 32] = bytes_at(block, 128 + 32 * half);
            for run in 0..4 {
                for l in 0..32 {
                    let low = ql[32 * (run % 2) + l] >> (4 * (run / 2)) & 15;
                    let high = qh[l] >> (2 * run) & 3;
                    codes[128 * half + 32 * run + l] = (low | high << 4) as i8 - 32;
                }
            }
        }
    }

    const PLANES: Option<Planes> = Some(Planes {
        scales: 192,
        d: Some(208),
        low: [0, 64],
        low_bits: 4,
        runs: [(0, 0), (8, 0), (0, 4), (8, 4)],
        high: 128,
        high_bits: 2,
        high_runs: [[(0, 0), (0, 2), (0, 4), (0, 6)], [(8, 0), (8, 2), (8, 4), (8, 6)]],
    });

    #[inline(always)]
    fn unpack_scales<const N: usize>(
        words: &[[u32; N]; 4],
        d: &[u16; N],
        mut set: impl FnMut(usize, [f32; N], [f32; N]),
    ) {
        use std::array::from_fn;
        let d: [f32; N] = from_fn(|row| f16_to_f32(d[row]));
        for g in 0..LEN / GROUP {
            let above = 24 - 8 * (g as u32 % 4);
            set(g, from_fn(|row| d[row] * ((words[g / 4][row] << above) as i32 >> 24) as f32), [0.0; N]);
        }
    }
}

impl Pack for Q6_K {
    const RANGE: (f32, f32) = (-32.0, 31.0);
    const SCALES: (i32, i32) = (-128, 127);
    const MINS: i32 = 0;

    #[inline(always)]
    fn pack(found: &Found, block: &mut [u8]) {
        for (i, code) in found.codes.iter().enumerate() {
            let (half, run, l, code) = (i / 128, i / 32 % 4, i % 32, (code + 32) as u8);
            block[64 * half + 32 * (run % 2) + l] |= (code & 15) << (4 * (run / 2));
            block[128 + 32 * half + l] |= (code >> 4) << (2 * run);
        }
        for (byte, scale) in block[192..208].iter_mut().zip(found.scales) {
            *byte = scale as u8;
        }
        put(block, 208, found.d);
    }
}
