//! 8-bit products: `tdpbssd`, 16 rows × 64 values of K by 16 columns, into 32-bit sums.
//!
//! The sums of a group of [`WIDE`] values leave the tile registers for the L1 cache, where vectors convert, scale and add them:
//! 64 vectors of 32 × 32 sums at two multiplications each. That takes the vector units as long as the products take
//! the tiles, so both must run at once: the products of a group are issued before the sums of the one before it are finished, and
//! the two take turns in two buffers.
//!
//! Panel layout: that of [`vnni`], codes signed: `[tile][len / 4][32][4]`. The rows of a tile register are two lines apart there.

use super::tiles::{ROWS, Tiles};
use crate::cpu::acts::Acts;
use crate::cpu::isa::avx512vnni;
use crate::cpu::ops::quantize::WIDE;
use crate::cpu::panel::{CHUNK, Panel, TILE, TileRows, WIDE_SCALES};
use crate::formats::with_block;
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

/// Values of K that a tile register holds.
const STEP: usize = 64;

/// Sums of up to 32 rows × 32 columns.
#[repr(align(64))]
struct Sums([[i32; TILE]; 2 * ROWS]);

/// Unpacks weights into `panel.codes` and `panel.wide_scales`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) unsafe fn unpack(panel: &mut Panel, tiles: TileRows, first: usize, len: usize) {
    with_block!(
        tiles.format,
        B => panel.unpack_wide::<B>(tiles, super::TILES, first, len, |panel, tile| {
            avx512vnni::interleave_signed(panel, tile, len)
        }),
        float => unreachable!("float weights have no codes"),
    )
}

/// `c[row][n] += activations · panel`; see `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks; the CPU has AMX and this process may use it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) unsafe fn gemm(panel: &Panel, acts: &Acts, rows: Range<usize>, c: &mut [f32]) {
    let Panel { first, len, .. } = *panel;
    assert!(first.is_multiple_of(WIDE));
    let width = c.len() / rows.len().max(1);
    // SAFETY: the caller's promise.
    let mut tiles = unsafe { Tiles::new() };
    let mut sums = [Sums([[0; TILE]; 2 * ROWS]), Sums([[0; TILE]; 2 * ROWS])];
    for column in (0..width).step_by(TILE) {
        let tile = column / TILE;
        let codes = &panel.codes[tile * TILE * CHUNK..][..TILE * CHUNK];
        let scales = &panel.wide_scales[tile * WIDE_SCALES..][..WIDE_SCALES];
        for row in rows.clone().step_by(2 * ROWS) {
            let count = (rows.end - row).min(2 * ROWS);
            tiles.configure(count);
            let groups = len.div_ceil(WIDE);
            let c = &mut c[(row - rows.start) * width..][..count * width];
            for g in 0..=groups {
                // SAFETY: rows row..row + count, values and scales of group g, columns of c from `column` on; rows of codes are
                // zero up to whole steps.
                unsafe {
                    if g < groups {
                        let k = g * WIDE;
                        let steps = (len - k).min(WIDE).div_ceil(STEP);
                        let w = codes.as_ptr().add(k * TILE);
                        let x = acts.wide.codes.as_ptr().add(row * acts.wide.stride + first + k);
                        multiply(count, steps, w, x, acts.wide.stride, &mut sums[g % 2]);
                    }
                    if g > 0 {
                        let at = (first / WIDE + g - 1) * acts.stride + row;
                        let act_scales = &acts.wide.scales[at..at + count];
                        let scales = &scales[(g - 1) * TILE..][..TILE];
                        finish(&sums[(g - 1) % 2], scales, act_scales, &mut c[column..], width);
                    }
                }
            }
        }
    }
}

/// Sums of one group: `count` rows, 1 to 32, by 32 columns.
///
/// # Safety
/// The tile registers are configured for `count` rows; `w` is [steps · 16][32][4], `x` has `count` rows of steps · 64 values,
/// `stride` from one to the next.
#[inline]
unsafe fn multiply(count: usize, steps: usize, w: *const u8, x: *const i8, stride: usize, sums: &mut Sums) {
    let sums = sums.0.as_mut_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        if count > ROWS {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{w} + {ws}*1]",
                "tileloadd tmm4, [{x0} + {xs}*1]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {ws}*1 + 64]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{x1} + {xs}*1]",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "add {x0}, 64",
                "add {x1}, 64",
                "add {w}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {ws}*1], tmm0",
                "tilestored [{c} + {ws}*1 + 64], tmm1",
                "tilestored [{c} + {ws}*1 + 2048], tmm2",
                "tilestored [{c} + {ws}*1 + 2048 + 64], tmm3",
                w = inout(reg) w => _, ws = in(reg) 128usize,
                x0 = inout(reg) x => _, x1 = inout(reg) x.wrapping_add(ROWS * stride) => _, xs = in(reg) stride,
                c = in(reg) sums, steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        } else {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm6, [{w} + {ws}*1]",
                "tileloadd tmm4, [{x} + {xs}*1]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {ws}*1 + 64]",
                "tdpbssd tmm1, tmm4, tmm7",
                "add {x}, 64",
                "add {w}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {ws}*1], tmm0",
                "tilestored [{c} + {ws}*1 + 64], tmm1",
                w = inout(reg) w => _, ws = in(reg) 128usize,
                x = inout(reg) x => _, xs = in(reg) stride,
                c = in(reg) sums, steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        }
    }
}

/// `c += act_scale · (scale · sum)` for a row of `c` for each of `act_scales`, 32 columns, `stride` from row to row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn finish(sums: &Sums, scales: &[f32], act_scales: &[f32], c: &mut [f32], stride: usize) {
    assert!(
        scales.len() == TILE
            && act_scales.len() <= 2 * ROWS
            && c.len() >= (act_scales.len().max(1) - 1) * stride + TILE
    );
    // SAFETY: 32 scales; rows of sums and of c as asserted.
    unsafe {
        let (scale0, scale1) = (_mm512_loadu_ps(scales.as_ptr()), _mm512_loadu_ps(scales.as_ptr().add(16)));
        for (r, act_scale) in act_scales.iter().enumerate() {
            let act_scale = _mm512_set1_ps(*act_scale);
            let (sum, c) = (sums.0[r].as_ptr(), c.as_mut_ptr().add(r * stride));
            let float = |i: usize| _mm512_cvtepi32_ps(_mm512_load_si512(sum.add(i).cast()));
            let value0 = _mm512_fmadd_ps(_mm512_mul_ps(float(0), scale0), act_scale, _mm512_loadu_ps(c));
            let value1 = _mm512_fmadd_ps(_mm512_mul_ps(float(16), scale1), act_scale, _mm512_loadu_ps(c.add(16)));
            _mm512_storeu_ps(c, value0);
            _mm512_storeu_ps(c.add(16), value1);
        }
    }
}
