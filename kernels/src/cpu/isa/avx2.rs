//! AVX2 and FMA: 256-bit vectors, Haswell (2013) and newer, Zen and newer.
//!
//! Two integer products. Weights of at most six bits meet 8-bit activations in `vpmaddubsw` ([`gemm_i8`]), which does the
//! most work per instruction but saturates with larger ones. Weights of up to eight bits meet 16-bit activations in
//! `vpmaddwd` ([`gemm_i16`]).

mod gemm_i16;
mod gemm_i8;
mod vectors;

pub(crate) use vectors::Avx2;

use super::attention::{Attention, i16_attention, in_i16};
use super::kernel::{Kernel, kernel};
use super::tier::{Kernels, tier};
use super::token::keep;
use crate::backend::Precision;
use crate::formats::{Block, Format, with_block};

kernel!(fn i8_kernel, Avx2, i8, #[target_feature(enable = "avx2,fma,f16c")], gemm_i8::interleave, gemm_i8::gemm, gemm_i8::interleave_planes);
kernel!(fn i16_kernel, Avx2, i16, #[target_feature(enable = "avx2,fma,f16c")], gemm_i16::interleave, gemm_i16::gemm);

/// Weights of at most six bits by 8-bit activations; weights of up to eight bits, and high precision, by 16-bit ones.
fn kernel_of<B: Block>(token: Avx2, precision: Precision) -> Kernel {
    let narrow = i32::from(B::CODES.1) - i32::from(B::CODES.0) <= gemm_i8::MAX_CODE;
    if narrow && precision == Precision::Standard { i8_kernel::<B>(token) } else { i16_kernel::<B>(token) }
}

i16_attention!(Avx2, #[target_feature(enable = "avx2,fma,f16c")]);

impl Kernels for Avx2 {
    fn kernel(self, format: Format, precision: Precision) -> Option<Kernel> {
        with_block!(format, B => Some(kernel_of::<B>(self, precision)), float => None)
    }

    fn coarse_attention(self) -> Option<Attention<u16>> {
        Some(in_i16(keep(self)))
    }
}

tier!(Avx2, |token| token, #[target_feature(enable = "avx2,fma,f16c")]);
