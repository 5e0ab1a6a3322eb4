//! What a tier of instructions is: the functions that the CPU backend is made of.

use super::attention::Attention;
use super::kernel::Kernel;
use super::token::Token;
use crate::backend::Precision;
use crate::cpu::ops::quantize::{MeanCodes, Means};
use crate::formats::Format;

/// An instruction-set tier that this machine can run.
pub struct Isa {
    /// The name by which a user selects it.
    pub name: &'static str,
    pub(crate) tier: &'static dyn Tier,
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Isa({})", self.name)
    }
}

/// What a tier has beside the generic operations.
pub(crate) trait Kernels: Token {
    /// How weights of `format` are multiplied; `None`: as floats.
    fn kernel(self, _format: Format, _precision: Precision) -> Option<Kernel> {
        None
    }

    /// Attention in 16 bits, if it is faster than in f32.
    fn coarse_attention(self) -> Option<Attention<u16>> {
        None
    }
}

/// The functions of one tier; `tier!` writes them for a [`Token`].
pub(crate) trait Tier: Send + Sync {
    /// See [`rms_norm`](crate::cpu::ops::elementwise::rms_norm).
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);
    /// See [`norm_rope`](crate::cpu::ops::elementwise::norm_rope).
    fn norm_rope(&self, head: &mut [f32], weight: &[f32], eps: f32, cos: &[f32], sin: &[f32]);
    /// See [`silu_mul`](crate::cpu::ops::elementwise::silu_mul).
    fn silu_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]);
    /// See [`quantize_row`](crate::cpu::ops::quantize::quantize_row).
    fn quantize_i8(&self, x: &[f32], codes: &mut [i8], scales: &mut [f32], half_sums: &mut [f32]);
    /// See [`quantize_uniform`](crate::cpu::ops::quantize::quantize_uniform).
    fn quantize_i8_uniform(&self, x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32]);
    /// See [`quantize_means`](crate::cpu::ops::quantize::quantize_means).
    fn quantize_means(&self, means: &Means, to: &mut MeanCodes);
    /// See [`quantize_row`](crate::cpu::ops::quantize::quantize_row).
    fn quantize_i16(&self, x: &[f32], codes: &mut [i16], scales: &mut [f32], half_sums: &mut [f32]);
    /// See [`round_row`](crate::cpu::ops::bf16::round_row).
    fn round_bf16(&self, x: &[f32], values: &mut [u16], residual: &mut [u16]);
    /// Attention in f32.
    fn attention(&self) -> Attention<f32>;
    /// Attention in 16 bits, of a tier that has a faster one.
    fn coarse_attention(&self) -> Option<Attention<u16>>;
    /// How weights of `format` are multiplied.
    fn kernel(&self, format: Format, precision: Precision) -> Kernel;
    /// [`Simd::exp2`](crate::cpu::simd::Simd::exp2) of whole vectors, in place.
    #[cfg(test)]
    fn exp2(&self, x: &mut [f32]);
}

/// Implements [`Tier`] for a token: the generic operations compiled for its instructions, over the vectors that `$simd` makes of the
/// token `$t`, and its [`Kernels`].
macro_rules! tier {
    ($token:ty, |$t:ident| $simd:expr, #[$attribute:meta]) => {
        const _: () = {
            use crate::backend::Precision;
            use crate::cpu::activations::{Activations, Form};
            use crate::cpu::isa::attention::{Attend, Attention};
            use crate::cpu::isa::kernel::{Kernel, Multiply};
            use crate::cpu::isa::tier::{Kernels, Tier};
            use crate::cpu::isa::token::{keep, method};
            use crate::cpu::ops::attention::scratch::Scratch;
            use crate::cpu::ops::attention::task::{AttendTask, KeyValueRows, PAD, Shape, WriteRow};
            use crate::cpu::ops::{attention, bf16, elementwise, matmul, quantize};
            use crate::cpu::output::Output;
            use crate::cpu::panel::{Panel, TILE, TileRows};
            use crate::cpu::ops::quantize::{MeanCodes, Means};
            use crate::formats::Format;
            use std::ops::Range;

            impl Tier for $token {
                method!($t: $token, #[$attribute], rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
                    elementwise::rms_norm($simd, x, weight, eps, out)
                });
                method!($t: $token, #[$attribute], norm_rope(
                    head: &mut [f32], weight: &[f32], eps: f32, cos: &[f32], sin: &[f32]
                ) {
                    elementwise::norm_rope($simd, head, weight, eps, cos, sin)
                });
                method!($t: $token, #[$attribute], silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
                    elementwise::silu_mul($simd, gate, up, out)
                });
                method!($t: $token, #[$attribute], quantize_i8(
                    x: &[f32], codes: &mut [i8], scales: &mut [f32], half_sums: &mut [f32]
                ) {
                    quantize::quantize_row($simd, x, codes, scales, half_sums)
                });
                method!($t: $token, #[$attribute], quantize_i8_uniform(
                    x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32]
                ) {
                    quantize::quantize_uniform($simd, x, codes, scales, sums)
                });
                method!($t: $token, #[$attribute], quantize_means(means: &Means, to: &mut MeanCodes) {
                    let _ = $t;
                    quantize::quantize_means(means, to)
                });
                method!($t: $token, #[$attribute], quantize_i16(
                    x: &[f32], codes: &mut [i16], scales: &mut [f32], half_sums: &mut [f32]
                ) {
                    quantize::quantize_row($simd, x, codes, scales, half_sums)
                });
                method!($t: $token, #[$attribute], round_bf16(x: &[f32], values: &mut [u16], residual: &mut [u16]) {
                    let _ = $t;
                    bf16::round_row(x, values, residual)
                });

                fn attention(&self) -> Attention<f32> {
                    Attention {
                        keys: attention::KEYS,
                        pad: PAD,
                        dims: 1,
                        most_dims: usize::MAX,
                        scale_len: 0,
                        serves: Form::ALL,
                        run: keep(*self),
                    }
                }

                fn coarse_attention(&self) -> Option<Attention<u16>> {
                    Kernels::coarse_attention(*self)
                }

                fn kernel(&self, format: Format, precision: Precision) -> Kernel {
                    let of_floats = || Kernel::of_one_tile(Form { f32: true, ..Form::NONE }, keep(Floats(*self)));
                    Kernels::kernel(*self, format, precision).unwrap_or_else(of_floats)
                }

                #[cfg(test)]
                method!($t: $token, #[$attribute], exp2(x: &mut [f32]) {
                    crate::cpu::simd::exp2_all($simd, x)
                });
            }

            impl Attend<f32> for $token {
                fn pack(&self, shape: Shape, keys: usize, rows: KeyValueRows, kt: &mut [f32], vp: &mut [f32]) {
                    attention::pack_block(shape, keys, rows, kt, vp)
                }
                method!($t: $token, #[$attribute], attend(task: AttendTask<f32>, scratch: &mut Scratch, write: WriteRow) {
                    attention::attend($simd, task, scratch, write)
                });
            }

            /// The product of float weights, and of all weights that have no other.
            struct Floats($token);

            impl Multiply for Floats {
                fn unpack(&self, panel: &mut Panel, tile: TileRows, first: usize, len: usize) {
                    panel.unpack_floats(tile, first, len)
                }

                unsafe fn gemm(&self, panel: &Panel, activations: &Activations, rows: Range<usize>, output: Output) {
                    /// # Safety
                    /// The CPU has the instructions that it is compiled for; a is [rows × cols] from the panel's first column on,
                    /// the panel [len × TILE].
                    #[$attribute]
                    unsafe fn compiled($t: $token, rows: usize, (a, cols): (*const f32, usize), panel: &Panel, c: &mut [f32]) {
                        // SAFETY: the caller's shapes; c is [rows × TILE].
                        unsafe {
                            let (size, panel) = ((rows, panel.len, TILE), panel.floats.as_ptr());
                            matmul::matmul::<_, TILE>($simd, size, a, cols, panel, 0, c.as_mut_ptr(), TILE)
                        }
                    }
                    let a = activations.f32[rows.start * activations.cols + panel.first..].as_ptr();
                    // SAFETY: the token is the proof of the instructions; the caller's shapes.
                    unsafe { compiled(self.0, rows.len(), (a, activations.cols), panel, output.tile()) }
                }
            }
        };
    };
}

pub(crate) use tier;
