//! What a format of blocks says: how a block is read.

use super::f16::f16_to_f32;

/// A block of quantized values: small integer codes, and one scale (with [`HAS_MIN`](Block::HAS_MIN) one min too) for
/// each group of [`GROUP`](Block::GROUP) of them.
///
/// `value[i] = scale[i / GROUP] * code[i] + min[i / GROUP]`, the product and the sum each rounded to f32, never fused.
pub(crate) trait Block: 'static {
    /// Values per block: 32 or 256.
    const LEN: usize;
    /// Bytes per block.
    const BYTES: usize;
    /// Values that share a scale: 16 or 32, as products check when they are compiled.
    const GROUP: usize;
    /// Whether a min is added to `scale * code`.
    const HAS_MIN: bool;
    /// The smallest code, 0 with [`HAS_MIN`](Block::HAS_MIN), and the largest.
    const CODES: (i8, i8);

    /// The values of a block: what the format means, with the operations in the order of ggml's reference
    /// (`dequantize_row_*` of `ggml-quants.c`). `block` holds `BYTES`, `out` holds `LEN`; panics when they hold less.
    fn dequantize(block: &[u8], out: &mut [f32]);

    /// The `LEN` codes of a block in the order of its values, and the `LEN / GROUP` scales and mins. `mins` is left
    /// alone, and may be empty, without `HAS_MIN`. Panics when a slice is too short.
    ///
    /// Each scale and min has at most 22 significant bits, as has an f16 times an integer of at most 8 bits, and is NaN, infinite or
    /// within [`LARGEST_SCALE`]. Kernels rely on both, whatever bytes a file holds. A scale beyond that becomes infinite: what is
    /// multiplied by it is not finite, and so no result.
    ///
    /// Free of branches, and always inlined so that it is compiled for the instruction set of its caller.
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]);

    /// The byte of the f16 that is the scale of a block's only group, for what converts those of a row side by side.
    const HALF_SCALE: Option<usize> = None;

    /// The codes once more, for what reads those of many rows side by side, which only tiers of x86-64 do; `None` for a format that is
    /// read by rows alone.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "rows are read side by side there alone"))]
    const PLANES: Option<Planes> = None;

    /// The scales and mins of [`unpack`](Self::unpack) for a block of each of `N` rows, given what [`Planes::scales`] and [`Planes::d`]
    /// say: `set(group, scales, mins)` takes them, group by group. Without `HAS_MIN`, mins are 0. For formats with
    /// [`PLANES`](Self::PLANES); to be inlined as `unpack` is.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "rows are read side by side there alone"))]
    #[inline(always)]
    fn unpack_scales<const N: usize>(
        _words: &[[u32; N]; 4],
        _d: &[u16; N],
        _set: impl FnMut(usize, [f32; N], [f32; N]),
    ) {
        unreachable!("only formats that are read in planes have their scales read by themselves")
    }
}

/// How the codes of a block of 256 values lie in its 32-bit words, four to a word: `code − CODES.0` is `low | high << low_bits`.
/// A half of the block is four runs of 32 values, each the same bits of eight words that follow one another.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "rows are read side by side there alone"))]
pub(crate) struct Planes {
    /// The byte where the four words begin from which scales and mins are made.
    pub(crate) scales: usize,
    /// The byte of an f16 beside them.
    pub(crate) d: Option<usize>,
    /// The byte where the 16 words of each half's low bits begin.
    pub(crate) low: [usize; 2],
    pub(crate) low_bits: u32,
    /// Of each run, the first of its eight words, 0 or 8, and how far above the lowest of each byte its bits are.
    pub(crate) runs: [(usize, u32); 4],
    /// The byte where 16 words begin that hold the high bits.
    pub(crate) high: usize,
    /// 0 if all bits are low ones.
    pub(crate) high_bits: u32,
    /// Of each half and run, the same as `runs`.
    pub(crate) high_runs: [[(usize, u32); 4]; 2],
}

/// The largest finite scale or min of a [`Block`]: 2^102.
pub(crate) const LARGEST_SCALE: f32 = f32::from_bits((127 + 102) << 23);

/// The `N` bytes of `block` from byte `at` on; free of checks when the length of `block` is known to the compiler.
#[inline(always)]
pub(super) fn bytes_at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a block holds all of its fields")
}

/// The f16 at byte `at` of `block`.
#[inline(always)]
pub(super) fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes(*bytes_at(block, at)))
}

/// The first `N` places of an output.
#[inline(always)]
pub(super) fn head<T, const N: usize>(out: &mut [T]) -> &mut [T; N] {
    out.first_chunk_mut().expect("an output has room for a block")
}
