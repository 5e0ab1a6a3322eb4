//! The panel of 16-bit codes: for instruction sets whose best exact integer product is 16 × 16 → 32 bits.
//!
//! Layout: two halves of 16 weight rows; in each, for every pair of values, the pairs of the 16 rows side by side:
//! `[half][len / 2][16][2]` of i16. A pair product sum (`pmaddwd`) then adds straight into the lane of its row. Products
//! of a group: 32 · 128 · 32767 < 2^27, so 32-bit sums are exact.

use crate::cpu::acts::Acts;
use crate::cpu::panel::{CHUNK, Panel, TILE};

/// Weight rows per half.
pub(crate) const HALF: usize = 16;

/// Offset of a half in the codes of a panel, in i16.
pub(crate) const fn half_offset(half: usize) -> usize {
    half * HALF * CHUNK
}

/// Rearranges `panel.rows` into `panel.codes`, in plain Rust.
pub(crate) fn interleave(panel: &mut Panel, len: usize) {
    for row in 0..TILE {
        let base = half_offset(row / HALF) + row % HALF * 2;
        let codes = &panel.rows[row * CHUNK..row * CHUNK + len];
        for (pair, code) in codes.chunks_exact(2).enumerate() {
            let at = 2 * (base + pair * HALF * 2);
            panel.codes[at..at + 2].copy_from_slice(&i16::from(code[0]).to_ne_bytes());
            panel.codes[at + 2..at + 4].copy_from_slice(&i16::from(code[1]).to_ne_bytes());
        }
    }
}

/// `c[row][n] += activations · panel` over values `first..first + len` of K, in plain Rust; `c` is [rows × TILE].
pub(crate) fn gemm(panel: &Panel, acts: &Acts, first: usize, len: usize, c: &mut [f32]) {
    let code = |i: usize| i16::from_ne_bytes([panel.codes[2 * i], panel.codes[2 * i + 1]]);
    let group = panel.group;
    for (row, c) in c.chunks_exact_mut(TILE).enumerate() {
        let codes = &acts.codes[2 * (row * acts.cols + first)..][..2 * len];
        for g in 0..len / group {
            let at = row * acts.cols + first + g * group;
            let scale = acts.scales[at / 32];
            let sum = if group == 32 { acts.sums[at / 32] } else { acts.half_sums[at / 16] };
            let mut acc = [0i32; TILE];
            for i in g * group..(g + 1) * group {
                let x = i32::from(i16::from_ne_bytes([codes[2 * i], codes[2 * i + 1]]));
                for half in 0..2 {
                    let base = half_offset(half) + i / 2 * HALF * 2 + i % 2;
                    for n in 0..HALF {
                        acc[half * HALF + n] += x * i32::from(code(base + 2 * n));
                    }
                }
            }
            for n in 0..TILE {
                let mut value = acc[n] as f32 * panel.scales[g * TILE + n];
                if panel.has_min {
                    value += panel.mins[g * TILE + n] * sum;
                }
                c[n] += scale * value;
            }
        }
    }
}
