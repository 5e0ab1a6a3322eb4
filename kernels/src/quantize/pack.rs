//! The bits of a block from its codes: what `dequantize` of each format reads. Layouts stand in `formats`.

use super::Found;
use crate::formats::{self, Block};

/// How a format stores what the search found.
pub(super) trait Pack {
    const LEN: usize;
    const BYTES: usize;
    const GROUP: usize;
    const HAS_MIN: bool;
    /// The smallest and largest code.
    const RANGE: (f32, f32);
    /// The smallest and largest scale code; 1 where the f16 is the scale of the only group.
    const SCALES: (i32, i32);
    /// The largest min code; 1 where the f16 is the min (with its sign turned), 0 without one.
    const MINS: i32;

    /// Writes a block; `block` holds `BYTES` zeros.
    fn pack(found: &Found, block: &mut [u8]);
}

macro_rules! pack {
    ($name:ident, $file:ident, codes: $low:literal ..= $high:literal, scales: $scales:expr, mins: $mins:literal, |$found:ident, $block:ident| $pack:expr) => {
        #[allow(non_camel_case_types)]
        pub(super) struct $name;
        impl Pack for $name {
            const LEN: usize = <formats::$file::$name as Block>::LEN;
            const BYTES: usize = <formats::$file::$name as Block>::BYTES;
            const GROUP: usize = <formats::$file::$name as Block>::GROUP;
            const HAS_MIN: bool = <formats::$file::$name as Block>::HAS_MIN;
            const RANGE: (f32, f32) = ($low as f32, $high as f32);
            const SCALES: (i32, i32) = $scales;
            const MINS: i32 = $mins;

            #[inline(always)]
            fn pack($found: &Found, $block: &mut [u8]) {
                $pack
            }
        }
    };
}

pack!(Q4_0, q4_0, codes: -8 ..= 7, scales: (1, 1), mins: 0, |found, block| {
    put(block, 0, found.d);
    nibbles(&found.codes, 8, &mut block[2..]);
});

pack!(Q4_1, q4_1, codes: 0 ..= 15, scales: (1, 1), mins: 1, |found, block| {
    put(block, 0, found.d);
    put(block, 2, -found.dmin);
    nibbles(&found.codes, 0, &mut block[4..]);
});

pack!(Q5_0, q5_0, codes: -16 ..= 15, scales: (1, 1), mins: 0, |found, block| {
    put(block, 0, found.d);
    block[2..6].copy_from_slice(&fifth_bits(&found.codes, 16));
    nibbles(&found.codes, 16, &mut block[6..]);
});

pack!(Q5_1, q5_1, codes: 0 ..= 31, scales: (1, 1), mins: 1, |found, block| {
    put(block, 0, found.d);
    put(block, 2, -found.dmin);
    block[4..8].copy_from_slice(&fifth_bits(&found.codes, 0));
    nibbles(&found.codes, 0, &mut block[8..]);
});

pack!(Q8_0, q8_0, codes: -127 ..= 127, scales: (1, 1), mins: 0, |found, block| {
    put(block, 0, found.d);
    for (byte, code) in block[2..].iter_mut().zip(found.codes) {
        *byte = code as u8;
    }
});

pack!(Q2_K, q2_k, codes: 0 ..= 3, scales: (0, 15), mins: 15, |found, block| {
    for ((byte, scale), min) in block.iter_mut().zip(found.scales).zip(found.mins) {
        *byte = scale as u8 | min << 4;
    }
    for (i, code) in found.codes.iter().enumerate() {
        let (half, run, l) = (i / 128, i / 32 % 4, i % 32);
        block[16 + 32 * half + l] |= (*code as u8) << (2 * run);
    }
    put(block, 80, found.d);
    put(block, 82, found.dmin);
});

pack!(Q3_K, q3_k, codes: -4 ..= 3, scales: (-32, 31), mins: 0, |found, block| {
    for (i, code) in found.codes.iter().enumerate() {
        let (half, run, l, code) = (i / 128, i / 32, i % 32, (code + 4) as u8);
        block[l] |= (code >> 2) << run;
        block[32 + 32 * half + l] |= (code & 3) << (2 * (run % 4));
    }
    for (g, scale) in found.scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        block[96 + g % 8] |= (scale & 15) << (4 * (g / 8));
        block[104 + g % 4] |= (scale >> 4) << (2 * (g / 4));
    }
    put(block, 108, found.d);
});

pack!(Q4_K, q4_k, codes: 0 ..= 15, scales: (0, 63), mins: 63, |found, block| {
    put(block, 0, found.d);
    put(block, 2, found.dmin);
    scales_and_mins(found, &mut block[4..16]);
    for (i, code) in found.codes.iter().enumerate() {
        block[16 + 32 * (i / 64) + i % 32] |= (*code as u8) << (4 * (i / 32 % 2));
    }
});

pack!(Q5_K, q5_k, codes: 0 ..= 31, scales: (0, 63), mins: 63, |found, block| {
    put(block, 0, found.d);
    put(block, 2, found.dmin);
    scales_and_mins(found, &mut block[4..16]);
    for (i, code) in found.codes.iter().enumerate() {
        let code = *code as u8;
        block[16 + i % 32] |= (code >> 4) << (i / 32);
        block[48 + 32 * (i / 64) + i % 32] |= (code & 15) << (4 * (i / 32 % 2));
    }
});

pack!(Q6_K, q6_k, codes: -32 ..= 31, scales: (-128, 127), mins: 0, |found, block| {
    for (i, code) in found.codes.iter().enumerate() {
        let (half, run, l, code) = (i / 128, i / 32 % 4, i % 32, (code + 32) as u8);
        block[64 * half + 32 * (run % 2) + l] |= (code & 15) << (4 * (run / 2));
        block[128 + 32 * half + l] |= (code >> 4) << (2 * run);
    }
    for (byte, scale) in block[192..208].iter_mut().zip(found.scales) {
        *byte = scale as u8;
    }
    put(block, 208, found.d);
});

fn put(block: &mut [u8], at: usize, value: half::f16) {
    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Of 32 codes, from 0 with `zero` added, the low four bits: the first half in the low nibbles, the second in the high.
#[inline(always)]
fn nibbles(codes: &[i8], zero: i8, out: &mut [u8]) {
    for (byte, (low, high)) in out.iter_mut().zip(codes.iter().zip(&codes[16..])) {
        *byte = (low + zero) as u8 & 15 | ((high + zero) as u8) << 4;
    }
}

/// The fifth bits of 32 codes.
#[inline(always)]
fn fifth_bits(codes: &[i8], zero: i8) -> [u8; 4] {
    (0..32).fold(0u32, |bits, j| bits | u32::from((codes[j] + zero) as u8 >> 4) << j).to_le_bytes()
}

/// The 12 bytes that `formats::q4_k::ScalesAndMins` reads.
#[inline(always)]
fn scales_and_mins(found: &Found, packed: &mut [u8]) {
    for g in 0..4 {
        let (scale, min) = (found.scales[g + 4] as u8, found.mins[g + 4]);
        packed[g] = found.scales[g] as u8 | (scale >> 4) << 6;
        packed[g + 4] = found.mins[g] | (min >> 4) << 6;
        packed[g + 8] = scale & 15 | min << 4;
    }
}
