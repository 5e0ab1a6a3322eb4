//! GGUF block formats: their ids and names here, and one file each that defines what the bytes mean.
//!
//! A format is a way to store a row of weights as blocks of [`Format::block_len`] values in [`Format::block_bytes`]
//! bytes. Ids, names and layouts are those of ggml (`ggml/include/ggml.h`, `ggml/src/ggml-common.h`); multi-byte fields
//! are little-endian.
//!
//! Each quantized format has two readings of a block that must agree bit for bit: `Block::dequantize` defines the
//! values the slow and obvious way, `Block::unpack` is the fast one that feeds the GEMM panels. To add a format: a file that
//! implements `Block`, and `Pack` if it can be written; its `mod`; and its row in the list below, from which all else follows.

mod block;
mod f16;
pub(crate) mod float;
pub(crate) mod iq4_nl;
pub(crate) mod iq4_xs;
pub(crate) mod mxfp4;
pub(crate) mod pack;
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

#[cfg(any(target_arch = "x86_64", test))]
pub(crate) use block::Planes;
pub(crate) use block::{Block, LARGEST_SCALE};
pub(crate) use f16::f16_to_f32;
use float::Float;

/// Makes of one row per format (its name, its ggml id and, of blocks, its file) the enum, the list, and the macros that find a
/// format's type.
macro_rules! formats {
    (
        $d:tt
        floats { $($float:ident = $float_id:literal,)* }
        blocks { $($block:ident = $id:literal in $file:ident,)* }
        only_read { $($read:ident = $read_id:literal in $read_file:ident,)* }
    ) => {
        /// The storage format of a tensor, by its ggml name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, missing_docs)]
        #[non_exhaustive]
        pub enum Format {
            $($float,)*
            $($block,)*
            $($read,)*
        }

        impl Format {
            /// Every format that this crate can read.
            pub const ALL: &'static [Format] = &[$(Self::$float,)* $(Self::$block,)* $(Self::$read,)*];

            /// The ggml type id.
            pub fn id(self) -> u32 {
                match self {
                    $(Self::$float => $float_id,)*
                    $(Self::$block => $id,)*
                    $(Self::$read => $read_id,)*
                }
            }

            /// The ggml name, such as `Q4_K`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$float => stringify!($float),)*
                    $(Self::$block => stringify!($block),)*
                    $(Self::$read => stringify!($read),)*
                }
            }
        }

        /// Evaluates an expression with the [`Block`] type of a format bound to a name, or one with its [`Float`](float::Float)
        /// type.
        macro_rules! with_block {
            ($d format:expr, $d name:ident => $d quantized:expr, float => $d floats:expr $d(,)?) => {
                $crate::formats::with_block!($d format, $d name => $d quantized, float _Float => $d floats)
            };
            ($d format:expr, $d name:ident => $d quantized:expr, float $d float:ident => $d floats:expr $d(,)?) => {
                match $d format {
                    $($crate::formats::Format::$float => {
                        type $d float = $crate::formats::float::$float;
                        $d floats
                    })*
                    $($crate::formats::Format::$block => {
                        type $d name = $crate::formats::$file::$block;
                        $d quantized
                    })*
                    $($crate::formats::Format::$read => {
                        type $d name = $crate::formats::$read_file::$read;
                        $d quantized
                    })*
                }
            };
        }

        /// The same with the [`Pack`](pack::Pack) type of a format, or another expression where it can only be read.
        macro_rules! with_pack {
            (
                $d format:expr,
                $d name:ident => $d packed:expr,
                float $d float:ident => $d floats:expr,
                only read => $d other:expr $d(,)?
            ) => {
                match $d format {
                    $($crate::formats::Format::$float => {
                        type $d float = $crate::formats::float::$float;
                        $d floats
                    })*
                    $($crate::formats::Format::$block => {
                        type $d name = $crate::formats::$file::$block;
                        $d packed
                    })*
                    $($crate::formats::Format::$read)|* => $d other,
                }
            };
        }
    };
}

formats! {
    $
    floats {
        F32 = 0,
        F16 = 1,
        BF16 = 30,
    }
    blocks {
        Q4_0 = 2 in q4_0,
        Q4_1 = 3 in q4_1,
        Q5_0 = 6 in q5_0,
        Q5_1 = 7 in q5_1,
        Q8_0 = 8 in q8_0,
        Q2_K = 10 in q2_k,
        Q3_K = 11 in q3_k,
        Q4_K = 12 in q4_k,
        Q5_K = 13 in q5_k,
        Q6_K = 14 in q6_k,
    }
    only_read {
        IQ4_NL = 20 in iq4_nl,
        IQ4_XS = 23 in iq4_xs,
        MXFP4 = 39 in mxfp4,
    }
}
pub(crate) use {with_block, with_pack};

impl Format {
    /// The format of a ggml type id, `None` for an id that this crate cannot read.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.id() == id)
    }

    /// Values per block; 1 for a float format.
    pub fn block_len(self) -> usize {
        with_block!(self, B => B::LEN, float => 1)
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        with_block!(self, B => B::BYTES, float F => F::BYTES)
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
        with_block!(self, _B => false, float => true)
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
