//! Codes of many rows side by side, straight from the blocks of a file: bits are taken apart after words have changed places, several
//! codes to a byte, so that fewer have to, and no row is written down on the way.

use super::{CHUNK, Panel, TILE, TileRows};
use crate::buffer::{CACHE_LINE, prefetch, prefetch_later};
use crate::cpu::simd::{IntLanes, unroll};
use crate::formats::{Block, Planes};

/// In place of the blocks of rows that a tile lacks: all of such a block is zero.
static ZEROS: [u8; 256] = [0; 256];

/// Values of a block.
const BLOCK: usize = 256;
/// Values of half a block, whose low bits are 16 words.
const HALF: usize = BLOCK / 2;

/// Rows of a vector at most.
const LANES: usize = 16;

/// A block of each of LANES rows.
struct Blocks([*const u8; LANES]);

impl Blocks {
    /// Those of values `k..` of rows `row..` of tile number `tile`.
    #[inline(always)]
    fn new<B: Block>(all: TileRows, tile: usize, row: usize, k: usize) -> Self {
        let at = k / BLOCK * B::BYTES;
        assert!(B::LEN == BLOCK && B::BYTES <= ZEROS.len() && at + B::BYTES <= all.row_bytes);
        Self(std::array::from_fn(|i| {
            let row = tile * TILE + row + i;
            if row < all.rows() { all.bytes[row * all.row_bytes + at..].as_ptr() } else { ZEROS.as_ptr() }
        }))
    }

    /// Words from byte `at` on, as many as there are lanes, the same one of all rows a vector.
    ///
    /// # Safety
    /// They lie within a block.
    #[inline(always)]
    unsafe fn words<S: IntLanes>(&self, s: S, at: usize) -> S::Square {
        // SAFETY: the caller's promise.
        unsafe { s.load_transposed(&self.0.map(|block| block.add(at).cast())) }
    }
}

impl Panel {
    /// Unpacks the scales and mins of values `first..first + len` of tile number `tile` of `all` into `scales` and `mins`. Rows that the
    /// tile lacks have zeros. [`fours`] does what is left.
    #[inline(always)]
    pub(crate) fn unpack_scales<S: IntLanes, B: Block>(
        &mut self,
        s: S,
        all: TileRows,
        tile: usize,
        first: usize,
        len: usize,
    ) {
        if S::LANES == 16 {
            self.unpack_scales_of::<S, B, 16>(s, all, tile, first, len);
        } else {
            self.unpack_scales_of::<S, B, 8>(s, all, tile, first, len);
        }
    }

    #[inline(always)]
    fn unpack_scales_of<S: IntLanes, B: Block, const N: usize>(
        &mut self,
        s: S,
        all: TileRows,
        tile: usize,
        first: usize,
        len: usize,
    ) {
        assert!(all.format.block_bytes() == B::BYTES && len <= CHUNK && len.is_multiple_of(B::LEN) && N == S::LANES);
        self.begin::<B>(first, len);
        self.ahead.set(&[]);
        let Some(Planes { scales: at, d, .. }) = B::PLANES else { unreachable!("a format that is read in planes") };
        assert!(at + 16 <= B::BYTES && d.is_none_or(|d| d + 2 <= B::BYTES));
        let (scales, mins) = (self.scales.as_chunks_mut::<N>().0, self.mins.as_chunks_mut::<N>().0);
        for k in (0..len).step_by(BLOCK) {
            for row in (0..TILE).step_by(N) {
                let blocks = Blocks::new::<B>(all, tile, row, first + k);
                let mut words = [[0u32; N]; 4];
                // SAFETY: words of a block, as was checked; as many as lanes.
                unsafe {
                    let four = s.load_four_transposed(&blocks.0.map(|block| block.add(at).cast()));
                    for (to, word) in words.iter_mut().zip(four) {
                        s.store_int(to.as_mut_ptr().cast(), word);
                    }
                }
                let halves = std::array::from_fn(|i| match d {
                    // SAFETY: two bytes of a block, as was checked.
                    Some(d) => unsafe { blocks.0[i].add(d).cast::<u16>().read_unaligned() },
                    None => 0,
                });
                B::unpack_scales::<N>(&words, &halves, |group, of_scales, of_mins| {
                    let place = ((k / B::GROUP + group) * TILE + row) / N;
                    scales[place] = of_scales;
                    if B::HAS_MIN {
                        mins[place] = of_mins;
                    }
                });
            }
        }
    }
}

/// Takes the codes of values `first..first + len` of tile number `tile` of `all` to `store(k, row, codes)`: vectors of four codes of each
/// of LANES rows, from value `first + k` and row `row` of the tile on, by way of `finish(plan, codes)`, whose plan
/// `plan(group, row)` gives. Codes are counted from the format's lowest; those of rows that the tile lacks are 0. On the way it asks for what comes a
/// tile later, block by block: scales are read before codes, for a whole tile. And once more for what comes with the next rows, since some hints
/// are dropped.
#[inline(always)]
pub(crate) fn fours<S: IntLanes, B: Block, P: Copy>(
    s: S,
    all: TileRows,
    tile: usize,
    (first, len): (usize, usize),
    plan: impl Fn(usize, usize) -> P,
    finish: impl Fn(P, S::I) -> S::I,
    mut store: impl FnMut(usize, usize, S::I),
) {
    let Some(Planes { low, low_bits, runs, high, high_bits, high_runs, .. }) = B::PLANES else {
        unreachable!("a format that is read in planes")
    };
    let lanes = S::LANES;
    assert!(len <= CHUNK && len.is_multiple_of(BLOCK) && (lanes == 8 || lanes == 16));
    assert!(low.iter().chain(&[high]).all(|byte| byte + 64 <= B::BYTES));
    let (low_mask, high_mask) = ((1 << low_bits) - 1, ((1 << high_bits) - 1) << low_bits);
    let (low_mask, high_mask) = (s.splat_int(0x0101_0101 * low_mask), s.splat_int(0x0101_0101 * high_mask));
    for row in (0..TILE).step_by(lanes) {
        let [soon, later] =
            [lanes, TILE].map(|rows| all.ahead(rows, (B::LEN, B::BYTES), tile * TILE + row, first, len));
        for block in (0..len).step_by(BLOCK) {
            let blocks = Blocks::new::<B>(all, tile, row, first + block);
            let distance =
                |to: *const u8| to.addr().wrapping_add(block / BLOCK * B::BYTES).wrapping_sub(blocks.0[0].addr());
            let [soon, later] = [soon, later].map(distance);
            let mut highs = [s.splat_int(0); 16];
            if high_bits > 0 {
                for word in (0..16).step_by(lanes) {
                    // SAFETY: 16 words of a block, as was checked.
                    let square = unsafe { blocks.words(s, high + 4 * word) };
                    highs[word..word + lanes].copy_from_slice(square.as_ref());
                }
            }
            unroll!([0 1], half => {
                for word in (0..16).step_by(lanes) {
                    // SAFETY: 16 words of a block, as was checked.
                    let lows = unsafe { blocks.words(s, low[half] + 4 * word) };
                    unroll!([0 1 2 3], run => {
                        let ((place, shift), (high_place, high_shift)) = (runs[run], high_runs[half][run]);
                        if (word..word + lanes).contains(&place) {
                            for i in (lanes / 8) * (4 * half + run)..(lanes / 8) * (4 * half + run + 1) {
                                for at in (0..B::BYTES).step_by(CACHE_LINE).map(|at| blocks.0[i].wrapping_add(at)) {
                                    prefetch_later(at.wrapping_add(later));
                                    prefetch(at.wrapping_add(soon));
                                }
                            }
                            let from = block + HALF * half + 32 * run;
                            let plans = [plan(from / B::GROUP, row), plan((from + 16) / B::GROUP, row)];
                            unroll!([0 1 2 3 4 5 6 7], j => {
                                let (k, plan) = (from + 4 * j, plans[j / 4]);
                                let mut codes = s.and(s.shift_right(lows.as_ref()[place - word + j], shift), low_mask);
                                if high_bits > 0 {
                                    let high = highs[high_place + j];
                                    let high = if high_shift > low_bits {
                                        s.shift_right(high, high_shift - low_bits)
                                    } else {
                                        s.shift_left(high, low_bits - high_shift)
                                    };
                                    codes = s.or(codes, s.and(high, high_mask));
                                }
                                store(k, row, finish(plan, codes));
                            });
                        }
                    });
                }
            });
        }
    }
}
