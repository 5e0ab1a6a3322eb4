//! The f32 register-tile product that float weights and attention share.

use crate::cpu::simd::Simd;
use std::hint::black_box;

/// `c += a · b` for row-major `a` [rows × k] and `c` [rows × n] with leading dimensions `lda` and `ldc`; n a multiple of
/// `S::LANES`. `b` [k × n] is packed: panels [k × WIDTH] of so many columns, one `panel` floats after the other, so that what a
/// register tile reads of it lies side by side. Each element of c is one chain of fused multiply-adds in the order of k.
///
/// # Safety
/// The three matrices lie in readable (c: writable) memory, and c overlaps neither of the others.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn matmul<S: Simd, const WIDTH: usize>(
    s: S,
    (rows, k, n): (usize, usize, usize),
    a: *const f32,
    lda: usize,
    b: *const f32,
    panel: usize,
    c: *mut f32,
    ldc: usize,
) {
    const { assert!(WIDTH.is_multiple_of(S::LANES)) };
    debug_assert!(n.is_multiple_of(S::LANES));
    let mut col = 0;
    while col < n {
        let wide = n - col >= 2 * S::LANES;
        // SAFETY: the vectors of the columns from col on, inside b by this function's contract; of one alone, twice.
        let b = unsafe {
            [0, if wide { S::LANES } else { 0 }].map(|v| b.add((col + v) / WIDTH * panel + (col + v) % WIDTH))
        };
        let mut row = 0;
        while row < rows {
            // SAFETY: rows row.. and columns col.. lie inside the matrices by this function's contract.
            unsafe {
                let (a, c) = (a.add(row * lda), c.add(row * ldc + col));
                let left = (rows - row).min(S::ROWS);
                row += left;
                match (left, wide) {
                    (8, true) => tile::<S, WIDTH, 8, 2>(s, k, a, lda, b, c, ldc),
                    (7, true) => tile::<S, WIDTH, 7, 2>(s, k, a, lda, b, c, ldc),
                    (6, true) => tile::<S, WIDTH, 6, 2>(s, k, a, lda, b, c, ldc),
                    (5, true) => tile::<S, WIDTH, 5, 2>(s, k, a, lda, b, c, ldc),
                    (4, true) => tile::<S, WIDTH, 4, 2>(s, k, a, lda, b, c, ldc),
                    (3, true) => tile::<S, WIDTH, 3, 2>(s, k, a, lda, b, c, ldc),
                    (2, true) => tile::<S, WIDTH, 2, 2>(s, k, a, lda, b, c, ldc),
                    (1, true) => tile::<S, WIDTH, 1, 2>(s, k, a, lda, b, c, ldc),
                    (_, true) => unreachable!("ROWS is at most 8"),
                    (left, false) => {
                        for r in 0..left {
                            tile::<S, WIDTH, 1, 1>(s, k, a.add(r * lda), lda, b, c.add(r * ldc), ldc);
                        }
                    }
                }
            }
        }
        col += if wide { 2 * S::LANES } else { S::LANES };
    }
}

/// One register tile: R rows × V vectors, which start at `b`.
///
/// # Safety
/// As [`matmul`], for this tile.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<S: Simd, const WIDTH: usize, const R: usize, const V: usize>(
    s: S,
    k: usize,
    a: *const f32,
    lda: usize,
    b: [*const f32; 2],
    c: *mut f32,
    ldc: usize,
) {
    // SAFETY: all offsets lie inside the tile's parts of a, b and c.
    unsafe {
        let mut acc = [[s.splat(0.0); V]; R];
        for r in 0..R {
            for v in 0..V {
                acc[r][v] = s.load(c.add(r * ldc + v * S::LANES));
            }
        }
        // A pointer for each row, which the compiler takes for unrelated: it would recompute them at every step.
        let a: [*const f32; R] = std::array::from_fn(|r| black_box(a.add(r * lda)));
        for i in 0..k {
            let mut row = [s.splat(0.0); V];
            for v in 0..V {
                row[v] = s.load(b[v].add(i * WIDTH));
            }
            for r in 0..R {
                let x = s.splat(*a[r].add(i));
                for v in 0..V {
                    acc[r][v] = s.fma(x, row[v], acc[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                s.store(c.add(r * ldc + v * S::LANES), acc[r][v]);
            }
        }
    }
}
