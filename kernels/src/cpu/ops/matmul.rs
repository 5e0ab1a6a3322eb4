//! The f32 register-tile product that float weights and attention share.

use crate::cpu::simd::Simd;
use std::hint::black_box;

/// `c += a · b` for row-major `a` [rows × k], `b` [k × n], `c` [rows × n] with leading dimensions `lda`, `ldb`, `ldc`;
/// n a multiple of `S::LANES`. Each element of c is one chain of fused multiply-adds in the order of k.
///
/// # Safety
/// The three matrices lie in readable (c: writable) memory, and c overlaps neither of the others.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn matmul<S: Simd>(
    s: S,
    (rows, k, n): (usize, usize, usize),
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
) {
    debug_assert!(n.is_multiple_of(S::LANES));
    let mut col = 0;
    while col < n {
        let wide = n - col >= 2 * S::LANES;
        let mut row = 0;
        while row < rows {
            // SAFETY: rows row.. and columns col.. lie inside the matrices by this function's contract.
            unsafe {
                let (a, b, c) = (a.add(row * lda), b.add(col), c.add(row * ldc + col));
                let left = (rows - row).min(S::ROWS);
                row += left;
                match (left, wide) {
                    (8, true) => tile::<S, 8, 2>(s, k, a, lda, b, ldb, c, ldc),
                    (7, true) => tile::<S, 7, 2>(s, k, a, lda, b, ldb, c, ldc),
                    (6, true) => tile::<S, 6, 2>(s, k, a, lda, b, ldb, c, ldc),
                    (5, true) => tile::<S, 5, 2>(s, k, a, lda, b, ldb, c, ldc),
                    (4, true) => tile::<S, 4, 2>(s, k, a, lda, b, ldb, c, ldc),
                    (3, true) => tile::<S, 3, 2>(s, k, a, lda, b, ldb, c, ldc),
                    (2, true) => tile::<S, 2, 2>(s, k, a, lda, b, ldb, c, ldc),
                    (1, true) => tile::<S, 1, 2>(s, k, a, lda, b, ldb, c, ldc),
                    (_, true) => unreachable!("ROWS is at most 8"),
                    (left, false) => {
                        for r in 0..left {
                            tile::<S, 1, 1>(s, k, a.add(r * lda), lda, b, ldb, c.add(r * ldc), ldc);
                        }
                    }
                }
            }
        }
        col += if wide { 2 * S::LANES } else { S::LANES };
    }
}

/// One register tile: R rows × V vectors.
///
/// # Safety
/// As [`matmul`], for this tile.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(
    s: S,
    k: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
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
                row[v] = s.load(b.add(i * ldb + v * S::LANES));
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
