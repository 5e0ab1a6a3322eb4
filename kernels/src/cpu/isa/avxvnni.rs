//! AVX-VNNI: 256-bit vectors, Alder Lake (2021) and newer, Zen 5. Float operations are those of AVX2, products those of
//! [`vnni`](super::vnni).

use super::attention::{Attention, i16_attention, in_i16};
use super::avx2::Avx2;
use super::kernel::Kernel;
use super::tier::{Kernels, tier};
use super::token::{Token, keep};
use super::vnni::{i8_256, kernels};
use crate::backend::Precision;
use crate::cpu::simd::{DotI16, Int, instructions};
use crate::formats::{Format, with_block};
use std::arch::x86_64::*;

/// Proof of AVX-VNNI, and of what AVX2 is.
#[derive(Clone, Copy)]
pub(crate) struct AvxVnni(Avx2);

impl Token for AvxVnni {
    const NAME: &'static str = "avxvnni";

    fn detect() -> Option<Self> {
        if is_x86_feature_detected!("avxvnni") { Avx2::detect().map(Self) } else { None }
    }
}

impl DotI16 for AvxVnni {
    type S = Avx2;

    #[inline(always)]
    fn simd(self) -> Avx2 {
        self.0
    }

    instructions! {
        fn dot(self, acc: Int<Self>, a: Int<Self>, b: Int<Self>) -> Int<Self> { _mm256_dpwssd_avx_epi32(acc, a, b) }
    }
}

kernels!(AvxVnni, i8_256, #[target_feature(enable = "avxvnni,avx2,fma,f16c")]);
i16_attention!(AvxVnni, #[target_feature(enable = "avxvnni,avx2,fma,f16c")]);

impl Kernels for AvxVnni {
    fn kernel(self, format: Format, precision: Precision) -> Option<Kernel> {
        with_block!(format, B => Some(kernel_of::<B>(self, precision)), float => None)
    }

    fn coarse_attention(self) -> Option<Attention<u16>> {
        Some(in_i16(keep(self)))
    }
}

tier!(AvxVnni, |token| token.0, #[target_feature(enable = "avxvnni,avx2,fma,f16c")]);
