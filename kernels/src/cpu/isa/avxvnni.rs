//! AVX-VNNI: 256-bit vectors, Alder Lake (2021) and newer, Zen 5. Float operations are those of AVX2, products those of
//! [`vnni`](super::vnni).

use super::avx2::{self, Avx2};
use super::vnni;
use crate::backend::Precision;
use crate::cpu::simd::{DotWords, Int};
use crate::formats::{Block, with_block};
use std::arch::x86_64::*;

/// Proof of AVX-VNNI, AVX2, FMA and F16C: made only inside the functions of `TIER`.
#[derive(Clone, Copy)]
struct AvxVnni;

fn detect() -> bool {
    is_x86_feature_detected!("avxvnni") && avx2::detect()
}

// Every method is inlined into a function of `TIER`, whose table exists for the caller only after `detect`.
#[allow(clippy::undocumented_unsafe_blocks)]
impl DotWords for AvxVnni {
    type S = Avx2;

    #[inline(always)]
    fn simd(self) -> Avx2 {
        Avx2
    }
    #[inline(always)]
    fn dot(self, acc: Int<Self>, a: Int<Self>, b: Int<Self>) -> Int<Self> {
        unsafe { _mm256_dpwssd_avx_epi32(acc, a, b) }
    }
}

super::vnni::kernels!(AvxVnni, bytes256, #[target_feature(enable = "avxvnni,avx2,fma,f16c")]);

super::tier!("avxvnni", detect, Avx2, #[target_feature(enable = "avxvnni,avx2,fma,f16c")], |format, precision| {
    with_block!(format, B => Some(kernel::<B>(precision)), float => None)
}, super::word_attention!(AvxVnni, #[target_feature(enable = "avxvnni,avx2,fma,f16c")]));
