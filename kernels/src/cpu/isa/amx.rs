//! AMX with bfloat16: tile registers of 16 rows × 64 bytes, Sapphire Rapids (2023) and newer servers.
//!
//! One product for all formats: weights are dequantized into a panel of bfloat16, activations are rounded to it, and sums
//! stay in tile registers of f32 over a whole panel. 8-bit codes would be no faster, though `tdpbusd` takes twice as many
//! values an instruction. Scales change every 32 values of K, half of what it could take, and at 16 cycles an instruction
//! that is the rate of `tdpbf16ps`. Then each of the 16 × 16 integer sums has to be loaded, converted, scaled twice and
//! added: 16 vectors, at least three instructions each on two ports, 24 cycles on top of the 16. And bfloat16 is the more
//! exact: it rounds each value by 2^-8 of itself at most, a code by 1/254 of the largest of 32.
//!
//! F32 and F16 weights have more bits than that. Their product is made of three: with w and x both split into a bfloat16
//! and the rest, w · x = w_half · x_half + w_half · x_rest + w_rest · x_half, but for 2^-14. So is the
//! product of high precision.
//!
//! Panel layout: for each 32 values of K, two squares of 16 pairs of values × 16 weight rows: `[len / 32][2][16][16][2]`.
//!
//! `tdpbf16ps` rounds sums to nearest even and takes numbers below the normal range for zero.

use super::avx512vnni::{self, Avx512, transpose};
use crate::backend::Precision;
use crate::cpu::acts::Form;
use crate::cpu::isa::Kernel;
use crate::cpu::panel::{CHUNK, TileRows};
use crate::formats::{Format, with_block};
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows of a tile register.
const ROWS: usize = 16;
/// Values of K that a tile register holds.
const STEP: usize = 32;
/// Values of a full tile register.
const SQUARE: usize = ROWS * STEP;
/// Tiles of weights that a block of activations passes over: its rows come from memory once for so many. At the full rate,
/// activations are read at 32 bytes a cycle for one tile, more than a core gets from the last-level cache.
const TILES: usize = 4;

/// Whether the CPU has AMX and AVX-512, and the operating system lets this process use them.
///
/// `is_x86_feature_detected!` answers for AVX-512 only when XCR0 says that the operating system saves its state; AMX is
/// unstable there, so that this asks itself. Beyond XCR0, Linux wants to be asked for permission before the first use
/// (Documentation/arch/x86/xstate.rst). Other systems are not offered AMX.
fn detect() -> bool {
    static DETECTED: OnceLock<bool> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        avx512vnni::detect()
            && is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("xsave")
            // SAFETY: `xsave` is detected only when the operating system has enabled `xgetbv`.
            && unsafe { has_tiles() }
            && permitted()
    })
}

/// AMX-TILE and AMX-BF16 of the CPU, and both of its states in XCR0.
///
/// # Safety
/// The CPU has `xgetbv`, and the operating system has enabled it.
#[target_feature(enable = "xsave")]
unsafe fn has_tiles() -> bool {
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    const STATES: u64 = 1 << 17 | 1 << 18;
    let features = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).edx } else { 0 };
    // SAFETY: the caller's promise.
    features & (TILE | BF16) == TILE | BF16 && unsafe { _xgetbv(0) } & STATES == STATES
}

/// Asks the operating system for permission, for all threads of this process.
fn permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
        const XTILEDATA: libc::c_ulong = 18;
        // SAFETY: takes two numbers and touches no memory.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Unpacks weights into `panel.halves` and, with `RESTS`, `panel.rests`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
unsafe fn unpack<const RESTS: bool>(panel: &mut Panel, tile: TileRows, first: usize, len: usize) {
    panel.halves.resize(TILE * CHUNK);
    panel.rests.resize(if RESTS { TILE * CHUNK } else { 0 });
    with_block!(
        tile.format,
        B => {
            panel.unpack_rows::<B>(tile, first, len);
            interleave::<true, RESTS>(panel, len);
        },
        float => {
            panel.unpack_float_rows(tile, first, len);
            interleave::<false, RESTS>(panel, len);
        },
    );
}

/// Rounds a tile of weights to bfloat16 and transposes it, 16 rows × 16 pairs at a time. The weights are in
/// `panel.rows` with scales and mins, if `CODES`, and in `panel.floats` otherwise.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn interleave<const CODES: bool, const RESTS: bool>(panel: &mut Panel, len: usize) {
    let Panel { rows, scales, mins, floats, halves, rests, group, has_min, .. } = panel;
    assert!(len <= CHUNK && rows.len() == TILE * CHUNK && floats.len() == TILE * CHUNK);
    let groups = len.div_ceil(*group) * TILE;
    assert!(!CODES || (len.is_multiple_of(STEP) && scales.len() >= groups && mins.len() >= groups));
    let halves = halves.as_chunks_mut::<SQUARE>().0;
    let rests = rests.as_chunks_mut::<SQUARE>().0;
    for i in 0..2 * len.div_ceil(STEP) {
        let (first_row, k) = (i % 2 * ROWS, i / 2 * STEP);
        let (g, h) = (k / *group * TILE, (k + STEP / 2) / *group * TILE);
        let (mut half, mut rest) = ([_mm512_setzero_si512(); ROWS], [_mm512_setzero_si512(); ROWS]);
        for j in 0..ROWS {
            let row = first_row + j;
            let at = row * CHUNK + k;
            // SAFETY: 32 codes or floats of a row, from k < len on (CHUNK is a multiple of 32); the groups that they are in.
            let (a, b) = unsafe {
                if CODES {
                    let (codes, scales, mins) =
                        (rows.as_ptr().add(at), scales.as_ptr().add(row), mins.as_ptr().add(row));
                    let a = values(codes, scales.add(g), mins.add(g), *has_min);
                    (a, values(codes.add(STEP / 2), scales.add(h), mins.add(h), *has_min))
                } else {
                    let floats = floats.as_ptr().add(at);
                    (_mm512_loadu_ps(floats), _mm512_loadu_ps(floats.add(STEP / 2)))
                }
            };
            half[j] = round(a, b);
            if RESTS {
                let (x, y) = widen(half[j]);
                rest[j] = round(_mm512_sub_ps(a, x), _mm512_sub_ps(b, y));
            }
        }
        store(&mut halves[i], transpose(half));
        if RESTS {
            store(&mut rests[i], transpose(rest));
        }
    }
}

/// `scale · code + min` of 16 codes, each operation rounded, as `Block` says.
///
/// # Safety
/// 16 codes, a scale and a min can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
unsafe fn values(codes: *const i8, scale: *const f32, min: *const f32, has_min: bool) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let codes = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(codes.cast())));
        let product = _mm512_mul_ps(codes, _mm512_set1_ps(*scale));
        if has_min { _mm512_add_ps(product, _mm512_set1_ps(*min)) } else { product }
    }
}

/// 32 floats to bfloat16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn round(a: __m512, b: __m512) -> __m512i {
    // SAFETY: vectors of the same bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) }
}

/// 32 values of bfloat16 to floats.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn widen(x: __m512i) -> (__m512, __m512) {
    let widen = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)));
    (widen(_mm512_castsi512_si256(x)), widen(_mm512_extracti64x4_epi64::<1>(x)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn store(to: &mut [u16; SQUARE], vectors: [__m512i; ROWS]) {
    for (to, x) in to.as_chunks_mut::<STEP>().0.iter_mut().zip(vectors) {
        // SAFETY: 64 bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), x) }
    }
}

/// What `ldtilecfg` reads: palette 1, and rows and bytes per row of each tile register.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// For blocks of `rows` rows of activations, up to 32: sums in registers 0 ..= 3, two for each 16 rows, activations in 4
    /// and 5, weights in 6 and 7.
    fn new(rows: usize) -> Self {
        let (upper, lower) = (rows.min(ROWS) as u8, rows.saturating_sub(ROWS) as u8);
        let mut config = Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, 16, 16]);
        for (bytes, rows) in config.row_bytes.iter_mut().zip(config.rows) {
            *bytes = if rows > 0 { 64 } else { 0 };
        }
        config
    }

    /// Configures the tile registers of this thread, until [`release`].
    ///
    /// # Safety
    /// The CPU has AMX and this process may use it.
    unsafe fn load(&self) {
        // SAFETY: reads 64 bytes of a valid configuration; nothing else lives in tile registers.
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) self,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags, readonly),
            )
        }
    }
}

/// Leaves no tile state behind, which the operating system would have to save with the thread.
///
/// # Safety
/// As [`Config::load`].
unsafe fn release() {
    // SAFETY: nothing lives in tile registers.
    unsafe {
        asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags, nomem),
        )
    }
}

/// `c[row][n] += activations · panel`; see `Kernel::gemm`.
///
/// The sum of a row runs over its own values in their order, in a block of any size at any place.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks; the CPU has AMX and this process may use it.
unsafe fn gemm<const RESTS: bool>(panel: &Panel, acts: &Acts, rows: Range<usize>, c: &mut [f32]) {
    let c = c.as_mut_ptr();
    let product = |weights, x| {
        // SAFETY: the caller's promise.
        unsafe { product(weights, x, panel, acts, rows.clone(), c) }
    };
    if RESTS {
        product(&panel.rests, &acts.halves);
        product(&panel.halves, &acts.rests);
    }
    product(&panel.halves, &acts.halves);
}

/// One product of bfloat16: `weights` in the layout of a panel, `x` [rows × half_stride].
///
/// # Safety
/// As [`gemm`].
unsafe fn product(weights: &[u16], x: &[u16], panel: &Panel, acts: &Acts, rows: Range<usize>, c: *mut f32) {
    let steps = panel.len.div_ceil(STEP);
    assert!(weights.len() >= steps * TILE * STEP && x.len() == acts.rows * acts.half_stride);
    assert!(panel.first + steps * STEP <= acts.half_stride);
    // SAFETY: inside of `weights`, `x` and `c`, for an existing row.
    let block = |row: usize| unsafe {
        Block {
            w: weights.as_ptr(),
            x: x.as_ptr().add(row * acts.half_stride + panel.first),
            x_stride: acts.half_stride * 2,
            c: c.add((row - rows.start) * TILE),
            c_stride: TILE * 4,
        }
    };
    let whole = rows.end - rows.len() % (2 * ROWS);
    // SAFETY: the registers are configured for as many rows as are left, 32 at most; the panel holds `steps`.
    unsafe {
        if whole > rows.start {
            Config::new(2 * ROWS).load();
        }
        for row in (rows.start..whole).step_by(2 * ROWS) {
            two_by_two(&block(row), steps);
        }
        if whole < rows.end {
            Config::new(rows.end - whole).load();
            if rows.end - whole > ROWS {
                two_by_two(&block(whole), steps);
            } else {
                one_by_two(&block(whole), steps);
            }
        }
        release();
    }
}

/// Where a block of a product lies, and how far its rows are apart, in bytes.
struct Block {
    /// Weights of a tile, from its first step on.
    w: *const u16,
    /// Activations from the block's first row and the panel's first value on.
    x: *const u16,
    x_stride: usize,
    c: *mut f32,
    c_stride: usize,
}

/// Up to 32 rows × 32 columns: four tiles of sums.
///
/// # Safety
/// The tile registers are configured for the rows of the block, which exist in `x` and `c`; `w` is `steps` long.
unsafe fn two_by_two(block: &Block, steps: usize) {
    let Block { w, x, x_stride, c, c_stride } = *block;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{c0} + {cs}*1]",
            "tileloadd tmm1, [{c0} + {cs}*1 + 64]",
            "tileloadd tmm2, [{c1} + {cs}*1]",
            "tileloadd tmm3, [{c1} + {cs}*1 + 64]",
            "2:",
            "tileloadd tmm6, [{w} + {ws}*1]",
            "tileloadd tmm4, [{x0} + {xs}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{w} + {ws}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{x1} + {xs}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {x0}, 64",
            "add {x1}, 64",
            "add {w}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c0} + {cs}*1], tmm0",
            "tilestored [{c0} + {cs}*1 + 64], tmm1",
            "tilestored [{c1} + {cs}*1], tmm2",
            "tilestored [{c1} + {cs}*1 + 64], tmm3",
            w = inout(reg) w => _, ws = in(reg) 64usize,
            x0 = inout(reg) x => _, x1 = inout(reg) x.byte_add(ROWS * x_stride) => _, xs = in(reg) x_stride,
            c0 = in(reg) c, c1 = in(reg) c.byte_add(ROWS * c_stride), cs = in(reg) c_stride,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    }
}

/// Up to 16 rows × 32 columns: two tiles of sums.
///
/// # Safety
/// As [`two_by_two`].
unsafe fn one_by_two(block: &Block, steps: usize) {
    let Block { w, x, x_stride, c, c_stride } = *block;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{c} + {cs}*1]",
            "tileloadd tmm1, [{c} + {cs}*1 + 64]",
            "2:",
            "tileloadd tmm6, [{w} + {ws}*1]",
            "tileloadd tmm4, [{x} + {xs}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{w} + {ws}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {x}, 64",
            "add {w}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {cs}*1], tmm0",
            "tilestored [{c} + {cs}*1 + 64], tmm1",
            w = inout(reg) w => _, ws = in(reg) 64usize,
            x = inout(reg) x => _, xs = in(reg) x_stride,
            c = in(reg) c, cs = in(reg) c_stride,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    }
}

/// Two-byte weights and all quantized ones.
static HALVES: Kernel =
    Kernel { form: Form { halves: true, ..Form::NONE }, tiles: TILES, unpack: unpack::<false>, gemm: gemm::<false> };
/// High precision, and weights of more than eight significant bits.
static RESTS: Kernel = Kernel {
    form: Form { halves: true, rests: true, ..Form::NONE },
    tiles: TILES,
    unpack: unpack::<true>,
    gemm: gemm::<true>,
};

super::tier!("amx", detect, Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")], |format, precision| {
    let fine = precision == Precision::High || matches!(format, Format::F32 | Format::F16);
    Some(if fine { &RESTS } else { &HALVES })
});
