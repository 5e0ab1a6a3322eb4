//! GGUF block formats: their ids, names and sizes here, and one file each that defines what the bytes mean.
//!
//! A format is a way to store a row of weights as blocks of [`Format::block_len`] values in [`Format::block_bytes`]
//! bytes. Ids, names and layouts are those of ggml (`ggml/include/ggml.h`, `ggml/src/ggml-common.h`); multi-byte fields
//! are little-endian.
//!
//! Each quantized format has two readings of a block that must agree bit for bit: `Block::dequantize` defines the
//! values the slow and obvious way, `Block::unpack` is the fast one that feeds the GEMM panels. To add a format: a row
//! in the table below, an arm in `with_block!`, and a file that implements `Block`.

mod f16;
pub(crate) mod float;
pub(crate) mod iq4_nl;
pub(crate) mod iq4_xs;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q4_k;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;
#[cfg(test)]
mod tests;

pub(crate) use f16::f16_to_f32;
use float::Float;

/// A block of quantized values: small integer codes, and one scale (with [`HAS_MIN`](Block::HAS_MIN) one min too) for
/// each group of [`GROUP`](Block::GROUP) of them.
///
/// `value[i] = scale[i / GROUP] * code[i] + min[i / GROUP]`, the product and the sum each rounded to f32, never fused.
pub(crate) trait Block: 'static {
    /// The format whose blocks these are.
    const FORMAT: Format;
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
    /// Each scale and min is an f16 times an integer of at most 8 bits: it has at most 22 significant bits, and is NaN,
    /// infinite or within [`LARGEST_SCALE`]. Kernels rely on both, whatever bytes a file holds.
    ///
    /// Free of branches, and always inlined so that it is compiled for the instruction set of its caller.
    fn unpack(block: &[u8], codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]);
}

/// The largest finite scale or min of a [`Block`]: the largest f16 times −128.
pub(crate) const LARGEST_SCALE: f32 = 65504.0 * 128.0;

/// Evaluates an expression with the [`Block`] type of a format bound to a name, or one with the [`Float`](float::Float) type:
/// the one place that lists them all.
macro_rules! with_block {
    ($format:expr, $block:ident => $quantized:expr, float => $floats:expr $(,)?) => {
        $crate::formats::with_block!($format, $block => $quantized, float _Float => $floats)
    };
    ($format:expr, $block:ident => $quantized:expr, float $float:ident => $floats:expr $(,)?) => {
        $crate::formats::with_block!(@match $format, $block, $quantized, $float, $floats,
            (Q4_0, q4_0), (Q4_1, q4_1), (Q5_0, q5_0), (Q5_1, q5_1), (Q8_0, q8_0), (Q2_K, q2_k), (Q3_K, q3_k),
            (Q4_K, q4_k), (Q5_K, q5_k), (Q6_K, q6_k), (IQ4_NL, iq4_nl), (IQ4_XS, iq4_xs); F32, F16, BF16)
    };
    (
        @match $format:expr, $block:ident, $quantized:expr, $float:ident, $floats:expr,
        $(($name:ident, $file:ident)),*; $($float_name:ident),*
    ) => {
        match $format {
            $($crate::formats::Format::$name => {
                type $block = $crate::formats::$file::$name;
                $quantized
            })*
            $($crate::formats::Format::$float_name => {
                type $float = $crate::formats::float::$float_name;
                $floats
            })*
        }
    };
}
pub(crate) use with_block;

/// The `N` bytes of `block` from byte `at` on; free of checks when the length of `block` is known to the compiler.
#[inline(always)]
fn bytes_at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a block holds all of its fields")
}

/// The f16 at byte `at` of `block`.
#[inline(always)]
fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes(*bytes_at(block, at)))
}

/// The first `N` places of an output.
#[inline(always)]
fn head<T, const N: usize>(out: &mut [T]) -> &mut [T; N] {
    out.first_chunk_mut().expect("an output has room for a block")
}

/// The storage format of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, missing_docs)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

/// One row per format: ggml id, name, values per block, bytes per block.
const TABLE: [(Format, u32, &str, usize, usize); 15] = [
    (Format::F32, 0, "F32", 1, 4),
    (Format::F16, 1, "F16", 1, 2),
    (Format::BF16, 30, "BF16", 1, 2),
    (Format::Q4_0, 2, "Q4_0", 32, 18),
    (Format::Q4_1, 3, "Q4_1", 32, 20),
    (Format::Q5_0, 6, "Q5_0", 32, 22),
    (Format::Q5_1, 7, "Q5_1", 32, 24),
    (Format::Q8_0, 8, "Q8_0", 32, 34),
    (Format::Q2_K, 10, "Q2_K", 256, 84),
    (Format::Q3_K, 11, "Q3_K", 256, 110),
    (Format::Q4_K, 12, "Q4_K", 256, 144),
    (Format::Q5_K, 13, "Q5_K", 256, 176),
    (Format::Q6_K, 14, "Q6_K", 256, 210),
    (Format::IQ4_NL, 20, "IQ4_NL", 32, 18),
    (Format::IQ4_XS, 23, "IQ4_XS", 256, 136),
];

impl Format {
    /// Every format that this crate can read.
    pub const ALL: &'static [Format] = &{
        let mut all = [Format::F32; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static (Format, u32, &'static str, usize, usize) {
        TABLE.iter().find(|r| r.0 == self).expect("every format has a row")
    }

    /// The format of a ggml type id, `None` for an id that this crate cannot read.
    pub fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().find(|r| r.1 == id).map(|r| r.0)
    }

    /// The ggml type id.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// The ggml name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values per block.
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Bytes of a row of `len` values; `None` when `len` is not a whole number of blocks or the size overflows.
    pub fn row_bytes(self, len: usize) -> Option<usize> {
        if !len.is_multiple_of(self.block_len()) {
            return None;
        }
        (len / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether values are stored one by one as floats (F32, F16, BF16), without blocks, codes or scales.
    pub fn is_float(self) -> bool {
        self.block_len() == 1
    }

    /// Values that share one scale: 16 or 32, or 1 for a float format.
    pub fn group_len(self) -> usize {
        with_block!(self, B => B::GROUP, float => 1)
    }

    /// The values of whole blocks, such as one or more rows, bit for bit those of ggml's reference code.
    ///
    /// Any bytes are valid: a non-finite scale gives non-finite values.
    ///
    /// # Panics
    /// When `bytes` does not hold exactly [`row_bytes`](Self::row_bytes) of `out.len()` values.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(bytes.len()), "{self}: bytes for {} values", out.len());
        with_block!(
            self,
            B => for (block, out) in bytes.chunks_exact(B::BYTES).zip(out.chunks_exact_mut(B::LEN)) {
                B::dequantize(block, out);
            },
            float F => F::dequantize(bytes, out),
        )
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
