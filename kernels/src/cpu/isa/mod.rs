//! Instruction-set tiers of the CPU backend: one table of functions each, chosen once at start-up.
//!
//! A tier's table can be had only through [`Isa::all`] or [`Isa::select`], after detection: holding a `&'static Isa` is
//! the proof that the CPU, and the operating system, have its instructions. A new tier is one file that implements
//! `simd::Simd`, lays out a panel, multiplies by it, and ends with `tier!`.

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

use super::acts::{Acts, Form};
use super::ops::attention::{Scratch, Shape};
use super::panel::{CHUNK, Panel, TILE, TileRows};
use crate::backend::Precision;
use crate::formats::Format;
use std::marker::PhantomData;
use std::ops::Range;

/// One attention task; see [`attend`](super::ops::attention::attend).
pub(crate) struct AttendTask<'a, E> {
    pub(crate) shape: Shape,
    /// Position of the first query in its text.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Keys that are packed: those of the last query, or more.
    pub(crate) len: usize,
    /// From the first query and the first head of the group on.
    pub(crate) q: &'a [f32],
    /// Where each block of keys starts in `kt` and `vp`, in keys.
    pub(crate) blocks: &'a [usize],
    pub(crate) kt: &'a [E],
    pub(crate) vp: &'a [E],
}

/// A block of keys that queries of a task see.
pub(crate) struct KeyBlock {
    /// Position of its first key.
    pub(crate) start: usize,
    /// Where it is packed, in keys, with padding.
    pub(crate) packed: Range<usize>,
    /// How many of them a query may see, with padding.
    pub(crate) width: usize,
}

impl<E> AttendTask<'_, E> {
    /// The blocks of up to `keys` keys that its queries see, padded to `pad`.
    #[inline(always)]
    pub(crate) fn key_blocks(&self, keys: usize, pad: usize) -> impl Iterator<Item = KeyBlock> + use<'_, E> {
        let end = self.first + self.count;
        assert!(end <= self.len);
        (0..end).step_by(keys).zip(self.blocks).map(move |(start, at)| {
            let padded = |end: usize| (end - start).min(keys).next_multiple_of(pad);
            KeyBlock { start, packed: *at..at + padded(self.len), width: padded(end) }
        })
    }

    /// How many keys from position `start` on row `row` sees: rows are the heads of the first query, then of the next.
    #[inline(always)]
    pub(crate) fn visible(&self, row: usize, start: usize) -> usize {
        (self.first + row / self.shape.group + 1).saturating_sub(start)
    }

    /// The values of row `row`.
    #[inline(always)]
    pub(crate) fn query(&self, row: usize) -> &[f32] {
        let Shape { group, head_dim, q_stride } = self.shape;
        &self.q[row / group * q_stride + row % group * head_dim..][..head_dim]
    }
}

/// Attention over keys and values that are packed as `E`.
pub(crate) struct Attention<E: 'static> {
    /// Keys per block.
    pub(crate) keys: usize,
    /// Padding granularity of packed keys; divides `keys`.
    pub(crate) pad: usize,
    /// What the dimensions of a head must be a multiple of.
    pub(crate) dims: usize,
    /// The most dimensions of a head.
    pub(crate) most_dims: usize,
    /// Elements that a key, or a value, takes besides its dimensions.
    pub(crate) scale_len: usize,
    /// The forms of output that need nothing finer.
    pub(crate) serves: Form,
    pack: unsafe fn(Shape, usize, Rows, &mut [E], &mut [E]),
    attend: unsafe fn(AttendTask<E>, &mut Scratch, WriteRow),
}

/// Keys and values of one head: a row for each token, from one to the next so many floats.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) stride: usize,
}

/// Receives a finished attention row: which of the task's queries, head of the group, values.
pub(crate) type WriteRow<'a> = &'a mut dyn FnMut(usize, usize, &[f32]);

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

/// A product of a tier with a panel of its own.
pub(crate) struct Kernel {
    /// The form of its activations.
    pub(crate) form: Form,
    /// Tiles of weights that it takes at a time, at most.
    pub(crate) tiles: usize,
    /// Rows of activations that should meet a tile before the next ones do; whole register tiles.
    pub(crate) rows: usize,
    unpack: unsafe fn(&mut Panel, TileRows, usize, usize),
    gemm: Gemm,
}

/// Adds activations · panel to sums.
enum Gemm {
    /// To those of one tile, [rows × TILE].
    Tile(unsafe fn(&Panel, &Acts, Range<usize>, &mut [f32])),
    /// To those of several, wherever they are.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    Tiles(unsafe fn(&Panel, &Acts, Range<usize>, Sums)),
}

/// Sums that a product is added to [rows × columns]: whole tiles of columns, from row to row `stride` floats.
pub(crate) struct Sums<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

impl<'a> Sums<'a> {
    /// The first `columns` of each of `rows` rows that fill `c`.
    pub(crate) fn of(c: &'a mut [f32], rows: usize, columns: usize) -> Self {
        let stride = c.len() / rows.max(1);
        assert!(c.len() == rows * stride && columns <= stride);
        Self { start: c.as_mut_ptr(), rows, columns, stride, borrowed: PhantomData }
    }

    /// Rows from `start` on.
    ///
    /// # Safety
    /// All of them can be read and written for `'a`, and nobody else does.
    pub(crate) unsafe fn at(start: *mut f32, rows: usize, columns: usize, stride: usize) -> Self {
        Self { start, rows, columns, stride, borrowed: PhantomData }
    }

    /// Sets them to zero.
    pub(crate) fn clear(&mut self) {
        for row in 0..self.rows {
            // SAFETY: the columns of an existing row.
            unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns).fill(0.0) }
        }
    }
}

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

impl<E> Attention<E> {
    /// Whether it can have heads of so many dimensions.
    pub(crate) fn takes(&self, head_dim: usize) -> bool {
        head_dim.is_multiple_of(self.dims) && head_dim <= self.most_dims
    }

    /// See [`pack_block`](super::ops::attention::pack_block).
    pub(crate) fn pack(&self, shape: Shape, keys: usize, rows: Rows, kt: &mut [E], vp: &mut [E]) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.pack)(shape, keys, rows, kt, vp) }
    }

    /// See [`attend`](super::ops::attention::attend).
    pub(crate) fn attend(&self, task: AttendTask<E>, scratch: &mut Scratch, write: WriteRow) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.attend)(task, scratch, write) }
    }
}

impl Kernel {
    /// Unpacks values `first..first + len` of a tile of weight rows, or several, into the layout of this kernel.
    pub(crate) fn unpack(&self, panel: &mut Panel, tile: TileRows, first: usize, len: usize) {
        // SAFETY: a table is handed out only after detection of its instructions.
        unsafe { (self.unpack)(panel, tile, first, len) }
    }

    /// Whether it takes sums that do not lie end to end.
    pub(crate) fn takes_any_stride(&self) -> bool {
        matches!(self.gemm, Gemm::Tiles(_))
    }

    /// `sums += activations · panel` over the panel's part of K, for rows `rows` of `acts`, and for as many columns as there
    /// are tiles in the panel, which [`Kernel::unpack`] made.
    pub(crate) fn gemm(&self, panel: &Panel, acts: &Acts, rows: Range<usize>, sums: Sums) {
        let (values, halves) = (acts.rows * acts.cols, acts.rows * acts.half_stride);
        assert!(!self.form.bytes || acts.bytes.codes.len() == values);
        assert!(!self.form.words || acts.words.codes.len() == values);
        assert!(!self.form.uniform || acts.uniform.codes.len() == acts.rows * acts.uniform.stride);
        assert!(!self.form.halves || acts.halves.len() == halves);
        assert!(!self.form.rests || acts.rests.len() == halves);
        assert!(panel.len.is_multiple_of(panel.group));
        check(panel, acts, &rows);
        let Sums { start, columns, stride, .. } = sums;
        assert!(sums.rows == rows.len() && (1..=self.tiles).any(|tiles| columns == tiles * TILE));
        // SAFETY: a table is handed out only after detection of its instructions; the shapes were just checked. Rows of one
        // tile, end to end, are a slice.
        unsafe {
            match self.gemm {
                Gemm::Tile(gemm) => {
                    assert!(stride == TILE && columns == TILE);
                    let sums = std::slice::from_raw_parts_mut(start, rows.len() * TILE);
                    gemm(panel, acts, rows, sums)
                }
                Gemm::Tiles(gemm) => gemm(panel, acts, rows, sums),
            }
        }
    }
}

/// What every product of a panel relies on.
fn check(panel: &Panel, acts: &Acts, rows: &Range<usize>) {
    assert!(panel.first + panel.len <= acts.cols && panel.len <= CHUNK && rows.end <= acts.rows);
}

/// Cuts rows into as few blocks of at most `most` as there can be, of sizes as equal as they can be: 7 rows as 4 and 3, not as
/// 6 and 1. Gives the first row and the number of rows of each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn row_blocks(rows: Range<usize>, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut row = rows.start;
    std::iter::from_fn(move || {
        let left = rows.end - row;
        let size = left.div_ceil(left.div_ceil(most).max(1));
        row += size;
        (size > 0).then_some((row - size, size))
    })
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

/// A [`Kernel`] of integer codes from a tier's own panel functions `interleave(&mut Panel, len)` and
/// `gemm(&Panel, &Acts, Range<usize>, &mut [f32])`; `$form` is the form of its activations, `bytes` or `words`.
macro_rules! kernel {
    ($form:ident, #[$attribute:meta], $interleave:path, $gemm:expr) => {{
        #[$attribute]
        unsafe fn unpack_tier(panel: &mut Panel, tile: crate::cpu::panel::TileRows, first: usize, len: usize) {
            crate::formats::with_block!(
                tile.format,
                B => panel.unpack_rows::<B>(tile, first, len),
                float => unreachable!("float weights have no codes"),
            );
            $interleave(panel, len)
        }

        const FORM: crate::cpu::acts::Form = {
            let mut form = crate::cpu::acts::Form::NONE;
            form.$form = true;
            form
        };
        crate::cpu::isa::Kernel { form: FORM, tiles: 1, rows: crate::cpu::weight::ROWS_PER_BLOCK, unpack: unpack_tier, gemm: crate::cpu::isa::Gemm::Tile($gemm) }
    }};
}
use kernel;

/// [`Attention`] in 16-bit codes (see [`words`](super::ops::attention::words)) by a tier's [`DotWords`](super::simd::DotWords).
#[cfg(target_arch = "x86_64")]
macro_rules! word_attention {
    ($words:expr, #[$attribute:meta]) => {{
        use crate::cpu::acts::Form;
        use crate::cpu::isa::{AttendTask, Attention, Rows, WriteRow};
        use crate::cpu::ops::attention::{PAD, Scratch, Shape, words};

        #[$attribute]
        unsafe fn pack(shape: Shape, keys: usize, rows: Rows, kt: &mut [u16], vp: &mut [u16]) {
            words::pack_block($words, shape, keys, rows, kt, vp)
        }
        #[$attribute]
        unsafe fn attend(task: AttendTask<u16>, scratch: &mut Scratch, write: WriteRow) {
            words::attend($words, task, scratch, write)
        }
        static ATTENTION: Attention<u16> = Attention {
            keys: words::KEYS,
            pad: PAD,
            dims: PAD,
            most_dims: words::ROW,
            scale_len: words::SCALE,
            serves: Form { bytes: true, uniform: true, ..Form::NONE },
            pack,
            attend,
        };
        Some(&ATTENTION)
    }};
}
#[cfg(target_arch = "x86_64")]
use word_attention;
