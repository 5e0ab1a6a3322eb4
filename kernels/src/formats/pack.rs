//! What a format of blocks says besides, if it can be written: how a block is packed. The search for what to pack is one for all
//! ([`crate::quantize`]).

use super::block::Block;
use half::f16;

/// The most groups and values of a block.
pub(crate) const GROUPS: usize = 16;
pub(crate) const VALUES: usize = 256;

/// A block before its bits are packed: `value = d * scale * code - dmin * min`.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) d: f16,
    pub(crate) dmin: f16,
    pub(crate) scales: [i8; GROUPS],
    pub(crate) mins: [u8; GROUPS],
    pub(crate) codes: [i8; VALUES],
    /// The sum of squared differences.
    pub(crate) error: f32,
}

/// How a format stores what the search found.
pub(crate) trait Pack: Block {
    /// The smallest and largest code.
    const RANGE: (f32, f32);
    /// The smallest and largest scale code; 1 where the f16 is the scale of the only group.
    const SCALES: (i32, i32);
    /// The largest min code; 1 where the f16 is the min (with its sign turned), 0 without one.
    const MINS: i32;

    /// Writes a block; `block` holds `BYTES` zeros.
    fn pack(found: &Found, block: &mut [u8]);
}

/// Stores an f16 at byte `at`.
pub(super) fn put(block: &mut [u8], at: usize, value: half::f16) {
    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Of 32 codes, from 0 with `zero` added, the low four bits: the first half in the low nibbles, the second in the high.
#[inline(always)]
pub(super) fn nibbles(codes: &[i8], zero: i8, out: &mut [u8]) {
    for (byte, (low, high)) in out.iter_mut().zip(codes.iter().zip(&codes[16..])) {
        *byte = (low + zero) as u8 & 15 | ((high + zero) as u8) << 4;
    }
}

/// The fifth bits of 32 codes.
#[inline(always)]
pub(super) fn fifth_bits(codes: &[i8], zero: i8) -> [u8; 4] {
    (0..32).fold(0u32, |bits, j| bits | u32::from((codes[j] + zero) as u8 >> 4) << j).to_le_bytes()
}
