//! Instruction-set tiers of the CPU backend: one table of functions each, chosen once at start-up.
//!
//! A tier's table can be had only through [`Isa::all`] or [`Isa::select`], after detection: holding a `&'static Isa` is
//! the proof that the CPU, and the operating system, have its instructions. A new tier is one file that implements
//! `simd::Simd`, lays out a panel, multiplies by it, and ends with `tier!`.

mod attention;
mod kernel;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(target_arch = "x86_64")]
use attention::word_attention;
pub(crate) use attention::{AttendTask, Attention, KeyBlock, Rows, WriteRow};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use kernel::row_blocks;
pub(crate) use kernel::{Kernel, Sums};
use kernel::{check, kernel};

use super::acts::Acts;
use super::panel::{Panel, TILE};
use crate::backend::Precision;
use crate::formats::Format;
use std::ops::Range;

/// The functions of one instruction-set tier.
#[allow(clippy::type_complexity)]
pub struct Isa {
    /// The name by which a user selects it.
    pub name: &'static str,
    /// Whether this machine can run it.
    detect: fn() -> bool,
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    norm_rope: unsafe fn(&mut [f32], &[f32], f32, &[f32], &[f32]),
    silu_mul: unsafe fn(&[f32], &[f32], &mut [f32]),
    pub(crate) attention: Attention<f32>,
    /// Attention in 16 bits, of a tier that has a faster one.
    pub(crate) coarse_attention: Option<&'static Attention<u16>>,
    gemm_floats: unsafe fn(&Panel, &Acts, Range<usize>, &mut [f32]),
    quantize_bytes: Quantize<i8>,
    quantize_uniform: Quantize<i8>,
    quantize_words: Quantize<i16>,
    round_halves: unsafe fn(&[f32], &mut [u16], &mut [u16]),
    /// How weights of a format are multiplied; `None`: as floats, by `gemm_floats`.
    kernel: fn(Format, Precision) -> Option<&'static Kernel>,
    #[cfg(test)]
    exp2: unsafe fn(&mut [f32]),
}

/// Quantizes a row: values in; codes, scales and sums (of half groups, or of groups) out.
type Quantize<C> = unsafe fn(&[f32], &mut [C], &mut [f32], &mut [f32]);

/// Why a tier cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No tier of that name.
    #[error("unknown instruction set {name:?}: choose one of {}", Isa::names().join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The machine lacks it.
    #[error("this CPU (or its operating system) does not offer {name:?}: choose one of {}", Isa::available().join(", "))]
    Unavailable {
        /// The name asked for.
        name: String,
    },
}

/// Every tier of this architecture, best first.
static TIERS: &[&Isa] = &[
    #[cfg(target_arch = "x86_64")]
    &amx::TIER,
    #[cfg(target_arch = "x86_64")]
    &avx512vnni::TIER,
    #[cfg(target_arch = "x86_64")]
    &avxvnni::TIER,
    #[cfg(target_arch = "x86_64")]
    &avx2::TIER,
    #[cfg(target_arch = "aarch64")]
    &i8mm::TIER,
    #[cfg(target_arch = "aarch64")]
    &dotprod::TIER,
    #[cfg(target_arch = "aarch64")]
    &neon::TIER,
    &scalar::TIER,
];

impl Isa {
    /// The tiers that this machine can run, best first; the last is the portable `scalar`.
    pub fn all() -> impl Iterator<Item = &'static Isa> {
        TIERS.iter().copied().filter(|isa| (isa.detect)())
    }

    /// The names of all tiers of this architecture.
    pub fn names() -> Vec<&'static str> {
        TIERS.iter().map(|isa| isa.name).collect()
    }

    /// The names of the tiers that this machine can run.
    pub fn available() -> Vec<&'static str> {
        Self::all().map(|isa| isa.name).collect()
    }

    /// The tier called `name`; without a name, the one that the environment variable `QEMBED_ISA` names; without that,
    /// the best that this machine can run.
    ///
    /// # Errors
    /// An unknown name, or a tier that this machine cannot run.
    pub fn select(name: Option<&str>) -> Result<&'static Isa, IsaError> {
        let from_env = std::env::var("QEMBED_ISA").ok().filter(|name| !name.is_empty());
        match name.or(from_env.as_deref()) {
            None => Ok(Self::all().next().expect("the scalar tier runs everywhere")),
            Some(name) => {
                let name = name.to_ascii_lowercase();
                match TIERS.iter().find(|isa| isa.name == name) {
                    None => Err(IsaError::Unknown { name }),
                    Some(isa) if (isa.detect)() => Ok(isa),
                    Some(_) => Err(IsaError::Unavailable { name }),
                }
            }
        }
    }

    /// See [`rms_norm`](super::ops::elementwise::rms_norm).
    pub(crate) fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.rms_norm)(x, weight, eps, out) }
    }

    /// See [`norm_rope`](super::ops::elementwise::norm_rope).
    pub(crate) fn norm_rope(&self, head: &mut [f32], weight: &[f32], eps: f32, cos: &[f32], sin: &[f32]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.norm_rope)(head, weight, eps, cos, sin) }
    }

    /// See [`silu_mul`](super::ops::elementwise::silu_mul).
    pub(crate) fn silu_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.silu_mul)(gate, up, out) }
    }

    /// See [`quantize_row`](super::ops::quantize::quantize_row).
    pub(crate) fn quantize_bytes(&self, x: &[f32], codes: &mut [i8], scales: &mut [f32], half_sums: &mut [f32]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.quantize_bytes)(x, codes, scales, half_sums) }
    }

    /// See [`quantize_uniform`](super::ops::quantize::quantize_uniform).
    pub(crate) fn quantize_uniform(&self, x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.quantize_uniform)(x, codes, scales, sums) }
    }

    /// See [`quantize_row`](super::ops::quantize::quantize_row).
    pub(crate) fn quantize_words(&self, x: &[f32], codes: &mut [i16], scales: &mut [f32], half_sums: &mut [f32]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.quantize_words)(x, codes, scales, half_sums) }
    }

    /// See [`round_row`](super::ops::bf16::round_row).
    pub(crate) fn round_halves(&self, x: &[f32], halves: &mut [u16], rests: &mut [u16]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.round_halves)(x, halves, rests) }
    }

    /// How weights of `format` are multiplied; `None`: as floats, by [`Isa::gemm_floats`].
    pub(crate) fn kernel(&self, format: Format, precision: Precision) -> Option<&'static Kernel> {
        (self.kernel)(format, precision)
    }

    /// `c[row][n] += activations · panel` over the panel's part of K, for rows `rows` of `acts`; `c` is [rows × TILE].
    /// The panel is one of floats.
    pub(crate) fn gemm_floats(&self, panel: &Panel, acts: &Acts, rows: Range<usize>, c: &mut [f32]) {
        assert!(acts.floats.len() == acts.rows * acts.cols);
        check(panel, acts, &rows);
        assert!(c.len() == rows.len() * TILE);
        // SAFETY: a table is handed out only after detection of its instructions; the shapes were just checked.
        unsafe { (self.gemm_floats)(panel, acts, rows, c) }
    }

    /// [`Simd::exp2`](super::simd::Simd::exp2) of whole vectors, in place.
    #[cfg(test)]
    pub(crate) fn exp2(&self, x: &mut [f32]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.exp2)(x) }
    }
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Isa({})", self.name)
    }
}

/// Defines `TIER`: the generic operations compiled for one instruction set; `kernel!` makes what its last argument chooses from.
macro_rules! tier {
    ($name:literal, $detect:expr, $simd:expr, #[$attribute:meta], $kernel:expr) => {
        crate::cpu::isa::tier!($name, $detect, $simd, #[$attribute], $kernel, None);
    };
    ($name:literal, $detect:expr, $simd:expr, #[$attribute:meta], $kernel:expr, $coarse_attention:expr) => {
        use crate::cpu::acts::Acts;
        use crate::cpu::isa::Isa;
        use crate::cpu::ops::{bf16, elementwise, matmul, quantize};
        use crate::cpu::panel::{Panel, TILE};

        #[doc = concat!("The `", $name, "` tier.")]
        pub(super) static TIER: Isa = Isa {
            name: $name,
            detect: $detect,
            rms_norm: rms_norm_tier,
            norm_rope: norm_rope_tier,
            silu_mul: silu_mul_tier,
            attention: {
                use crate::cpu::isa::{AttendTask, Attention, WriteRow};
                use crate::cpu::ops::attention;

                #[$attribute]
                unsafe fn attend(task: AttendTask<f32>, scratch: &mut attention::Scratch, write: WriteRow) {
                    attention::attend($simd, task, scratch, write)
                }
                let (keys, pad) = (attention::KEYS, attention::PAD);
                Attention {
                    keys,
                    pad,
                    dims: 1,
                    most_dims: usize::MAX,
                    scale_len: 0,
                    serves: crate::cpu::acts::Form::ALL,
                    pack: attention::pack_block,
                    attend,
                }
            },
            coarse_attention: $coarse_attention,
            gemm_floats: gemm_floats_tier,
            quantize_bytes: quantize_bytes_tier,
            quantize_uniform: quantize_uniform_tier,
            quantize_words: quantize_words_tier,
            round_halves: round_halves_tier,
            kernel: $kernel,
            #[cfg(test)]
            exp2: exp2_tier,
        };

        #[cfg(test)]
        #[$attribute]
        unsafe fn exp2_tier(x: &mut [f32]) {
            use crate::cpu::simd::Simd;
            for x in x.as_chunks_mut::<16>().0 {
                for i in (0..16).step_by(lanes($simd)) {
                    let p = x[i..].as_mut_ptr();
                    // SAFETY: 16 floats are whole vectors.
                    unsafe { $simd.store(p, $simd.exp2($simd.load(p))) }
                }
            }
            fn lanes<S: Simd>(_: S) -> usize {
                S::LANES
            }
        }

        #[$attribute]
        unsafe fn rms_norm_tier(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
            elementwise::rms_norm($simd, x, weight, eps, out)
        }

        #[$attribute]
        unsafe fn norm_rope_tier(head: &mut [f32], weight: &[f32], eps: f32, cos: &[f32], sin: &[f32]) {
            elementwise::norm_rope($simd, head, weight, eps, cos, sin)
        }

        #[$attribute]
        unsafe fn silu_mul_tier(gate: &[f32], up: &[f32], out: &mut [f32]) {
            elementwise::silu_mul($simd, gate, up, out)
        }

        #[$attribute]
        unsafe fn quantize_bytes_tier(x: &[f32], codes: &mut [i8], scales: &mut [f32], half_sums: &mut [f32]) {
            quantize::quantize_row($simd, x, codes, scales, half_sums)
        }

        #[$attribute]
        unsafe fn quantize_uniform_tier(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32]) {
            quantize::quantize_uniform($simd, x, codes, scales, sums)
        }

        #[$attribute]
        unsafe fn quantize_words_tier(x: &[f32], codes: &mut [i16], scales: &mut [f32], half_sums: &mut [f32]) {
            quantize::quantize_row($simd, x, codes, scales, half_sums)
        }

        #[$attribute]
        unsafe fn round_halves_tier(x: &[f32], halves: &mut [u16], rests: &mut [u16]) {
            bf16::round_row(x, halves, rests)
        }

        #[$attribute]
        unsafe fn gemm_floats_tier(panel: &Panel, acts: &Acts, rows: std::ops::Range<usize>, c: &mut [f32]) {
            let a = acts.floats[rows.start * acts.cols + panel.first..].as_ptr();
            // SAFETY: `Isa::gemm_floats` checked the shapes: a is [rows × cols] from the panel's first column on, the
            // panel [len × TILE], c [rows × TILE].
            unsafe {
                let size = (rows.len(), panel.len, TILE);
                matmul::matmul::<_, TILE>($simd, size, a, acts.cols, panel.floats.as_ptr(), 0, c.as_mut_ptr(), TILE)
            }
        }
    };
}
use tier;
