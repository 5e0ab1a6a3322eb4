//! AMX with bfloat16: tile registers of 16 rows × 64 bytes, Sapphire Rapids (2023) and newer servers.
//!
//! One product for all formats: weights are dequantized into a panel of bfloat16, activations are rounded to it, and sums
//! stay in tile registers of f32 over a whole panel. 8-bit codes would be no faster, though `tdpbusd` takes twice as many
//! values an instruction. Scales change every 32 values of K, half of what it could take, and at 16 cycles an instruction
//! that is the rate of `tdpbf16ps`. Then each of the 16 × 16 integer sums has to be loaded, converted, scaled twice and
//! added: 16 vectors, at least three instructions each on two ports, 24 cycles on top of the 16. And bfloat16 is the more
//! exact: it rounds each value by 2^-8 of itself at most, a code by 1/254 of the largest of 32.
//!
//! Float weights ask for more: for them, and for high precision, a product is made of three. With w and x both split into
//! a bfloat16 and the rest, w · x = w_half · x_half + w_half · x_rest + w_rest · x_half, but for 2^-14 at most.
//!
//! Panel layout: for each 32 weight rows, for each 32 values of K, two tiles of 16 pairs of values × 16 weight rows:
//! `[tile][len / 32][2][16][16][2]`.
//!
//! `tdpbf16ps` rounds sums to nearest even and takes numbers below the normal range for zero.

mod attention;
mod tiles;

use super::avx512vnni::{self, Avx512, transpose};
use crate::backend::Precision;
use crate::cpu::acts::Form;
use crate::cpu::isa::{Kernel, Sums};
use crate::cpu::panel::{CHUNK, GROUPS, TileRows};
use crate::formats::{Block, with_block};
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;
use tiles::{Product, ROWS, SQUARE, STEP, Tiles};

/// Tiles of weights at a time: each row of activations comes from memory once for so many. At the full rate, activations
/// are read at 32 bytes a cycle for one tile, four times what a core gets from the last-level cache.
const TILES: usize = 8;

/// Values of K at a time: of 32 weight rows and of 32 rows of activations together 32 KiB. The weights stay in the L1 cache
/// (48 KiB) while blocks of 32 rows pass over them; with twice as many, a block would evict them.
const DEPTH: usize = 256;

const _: () = assert!(TILE == tiles::COLUMNS && CHUNK.is_multiple_of(DEPTH) && DEPTH.is_multiple_of(STEP));

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
            && is_x86_feature_detected!("avx512vbmi")
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vbmi,avx2,fma")]
unsafe fn unpack<const RESTS: bool>(panel: &mut Panel, tiles: TileRows, first: usize, len: usize) {
    assert!(tiles.rows() <= TILES * TILE);
    panel.halves.resize(TILES * TILE * CHUNK);
    panel.rests.resize(if RESTS { TILES * TILE * CHUNK } else { 0 });
    (panel.first, panel.len) = (first, len);
    for (i, bytes) in tiles.bytes.chunks(TILE * tiles.row_bytes).enumerate() {
        let tile = TileRows { bytes, ..tiles };
        with_block!(
            tile.format,
            B => {
                panel.unpack_rows::<B>(tiles, i, first, len);
                if !RESTS && B::GROUP == STEP && i16::from(B::CODES.1) - i16::from(B::CODES.0) < 16 {
                    interleave_nibbles(panel, i, len);
                } else {
                    interleave::<true, RESTS>(panel, i, len);
                }
            },
            float => {
                panel.unpack_float_rows(tile, first, len);
                interleave::<false, RESTS>(panel, i, len);
            },
        );
    }
}

/// Rounds tile number `tile` of the weights to bfloat16 and transposes it, 16 rows × 16 pairs at a time. The weights are in
/// `panel.rows` with scales and mins, if `CODES`, and in `panel.floats` otherwise.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn interleave<const CODES: bool, const RESTS: bool>(panel: &mut Panel, tile: usize, len: usize) {
    let Panel { rows, row_scales, row_mins, floats, halves, rests, group, has_min, .. } = panel;
    assert!(len <= CHUNK && rows.len() == TILE * CHUNK && floats.len() == TILE * CHUNK);
    assert!(
        !CODES || (len.is_multiple_of(STEP) && row_scales.len() == TILE * GROUPS && row_mins.len() == TILE * GROUPS)
    );
    let start = tile * TILE * CHUNK;
    let halves = halves[start..].as_chunks_mut::<SQUARE>().0;
    let rests = rests.get_mut(start..).unwrap_or_default().as_chunks_mut::<SQUARE>().0;
    for i in 0..2 * len.div_ceil(STEP) {
        let (first_row, k) = (i % 2 * ROWS, i / 2 * STEP);
        let (g, h) = (k / *group, (k + STEP / 2) / *group);
        let (mut half, mut rest) = ([_mm512_setzero_si512(); ROWS], [_mm512_setzero_si512(); ROWS]);
        for j in 0..ROWS {
            let row = first_row + j;
            let at = row * CHUNK + k;
            // SAFETY: 32 codes or floats of a row, from k < len on (CHUNK is a multiple of 32); the groups that they are in.
            let (a, b) = unsafe {
                if CODES {
                    let codes = rows.as_ptr().add(at);
                    let (scales, mins) = (row_scales.as_ptr().add(row * GROUPS), row_mins.as_ptr().add(row * GROUPS));
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

/// [`interleave`] for codes of which there are at most 16, in groups of 32: the values of a group are looked up in a table of 16,
/// 64 codes of two groups at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vbmi,avx2,fma")]
fn interleave_nibbles(panel: &mut Panel, tile: usize, len: usize) {
    let Panel { rows, row_scales, row_mins, halves, range, has_min, .. } = panel;
    assert!(len <= CHUNK && rows.len() == TILE * CHUNK && CHUNK / STEP <= GROUPS);
    assert!(row_scales.len() == TILE * GROUPS && row_mins.len() == TILE * GROUPS);
    let halves = halves[tile * TILE * CHUNK..].as_chunks_mut::<SQUARE>().0;
    let lowest = _mm512_set1_epi8(range.0);
    let counts = _mm512_set_ps(15.0, 14.0, 13.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0);
    let all_codes = _mm512_add_ps(counts, _mm512_set1_ps(f32::from(range.0)));
    // The lower bytes of the first 16 words in each of the first two quarters, of the other 16 in the others.
    let quarter = |first: i64| {
        std::array::from_fn::<_, 2, _>(|half| (0..8).fold(0, |x, i| x | (first + 2 * (8 * half as i64 + i)) << (8 * i)))
    };
    let ([a, b], [c, d]) = (quarter(0), quarter(32));
    let lower = _mm512_set_epi64(d, c, d, c, b, a, b, a);
    let upper = _mm512_add_epi8(lower, _mm512_set1_epi8(1));
    for k in (0..len).step_by(2 * STEP) {
        for first_row in [0, ROWS] {
            let (mut firsts, mut seconds) = ([_mm512_setzero_si512(); ROWS], [_mm512_setzero_si512(); ROWS]);
            for j in 0..ROWS {
                let row = first_row + j;
                let values = |g: usize| {
                    let product = _mm512_mul_ps(all_codes, _mm512_set1_ps(row_scales[row * GROUPS + g]));
                    if *has_min { _mm512_add_ps(product, _mm512_set1_ps(row_mins[row * GROUPS + g])) } else { product }
                };
                let table = round(values(k / STEP), values(k / STEP + 1));
                // SAFETY: 64 codes of a row from k < len on (CHUNK is a multiple of 64; past `len` they are left over from an
                // earlier panel, and so is what is made of them, which nobody reads).
                let codes = unsafe { _mm512_loadu_si512(rows.as_ptr().add(row * CHUNK + k).cast()) };
                let codes = _mm512_sub_epi8(codes, lowest);
                let lower = _mm512_shuffle_epi8(_mm512_permutexvar_epi8(lower, table), codes);
                let upper = _mm512_shuffle_epi8(_mm512_permutexvar_epi8(upper, table), codes);
                // Of each quarter's 16 values the first and the second eight.
                firsts[j] = _mm512_unpacklo_epi8(lower, upper);
                seconds[j] = _mm512_unpackhi_epi8(lower, upper);
            }
            for (eight, vectors) in [firsts, seconds].into_iter().enumerate() {
                for (i, pairs) in transpose(vectors).into_iter().enumerate() {
                    let (quarter, pair) = (i / 4, i % 4 + 4 * eight);
                    let square = &mut halves[2 * (k / STEP + quarter / 2) + first_row / ROWS];
                    store_pairs(&mut square.as_chunks_mut::<STEP>().0[8 * (quarter % 2) + pair], pairs);
                }
            }
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

/// Values of bfloat16 [rows × 32] of floats with `stride` from row to row; rows that are lacking are zeros.
///
/// # Safety
/// `rows` rows can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
unsafe fn load_square(from: *const f32, stride: usize, rows: usize) -> [__m512i; ROWS] {
    let mut square = [_mm512_setzero_si512(); ROWS];
    for (row, to) in square.iter_mut().enumerate().take(rows) {
        // SAFETY: the caller's promise.
        *to = unsafe {
            let from = from.add(row * stride);
            round(_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(STEP / 2)))
        };
    }
    square
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
    to.as_chunks_mut::<STEP>().0.iter_mut().zip(vectors).for_each(|(to, pairs)| store_pairs(to, pairs));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn store_pairs(to: &mut [u16; STEP], pairs: __m512i) {
    // SAFETY: 64 bytes.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs) }
}

/// See `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks; the CPU has AMX and this process may use it.
unsafe fn gemm<const RESTS: bool>(panel: &Panel, acts: &Acts, rows: Range<usize>, sums: Sums) {
    let Panel { first, len, .. } = *panel;
    // SAFETY: the caller's promise.
    let mut tiles = unsafe { Tiles::new() };
    let products = [(&panel.rests, &acts.halves), (&panel.halves, &acts.rests), (&panel.halves, &acts.halves)];
    for (i, (weights, x)) in products[if RESTS { 0 } else { 2 }..].iter().enumerate() {
        for column in (0..sums.columns).step_by(TILE) {
            for k in (0..len).step_by(DEPTH) {
                let steps = (len - k).min(DEPTH).div_ceil(STEP);
                let w = &weights[column * CHUNK + k * TILE..][..steps * STEP * TILE];
                let x = &x[rows.start * acts.half_stride + first + k..rows.end * acts.half_stride];
                let product = Product {
                    rows: rows.len(),
                    columns: TILE,
                    steps,
                    w: w.as_ptr(),
                    w_stride: 0,
                    x: x.as_ptr(),
                    x_stride: acts.half_stride,
                    c: sums.start.wrapping_add(column),
                    c_stride: sums.stride,
                    add: sums.add || i > 0 || k > 0,
                };
                // SAFETY: `w` is one tile of weights, x [rows × first + k..] with zeros up to whole steps, sums
                // [rows × columns].
                unsafe { product.run(&mut tiles) };
            }
        }
    }
}

/// Quantized weights.
static HALVES: Kernel = Kernel {
    form: Form { halves: true, ..Form::NONE },
    tiles: TILES,
    rows: 6 * ROWS,
    any_stride: true,
    unpack: unpack::<false>,
    gemm: gemm::<false>,
};
/// High precision, and float weights.
static RESTS: Kernel = Kernel {
    form: Form { halves: true, rests: true, ..Form::NONE },
    tiles: TILES,
    rows: 6 * ROWS,
    any_stride: true,
    unpack: unpack::<true>,
    gemm: gemm::<true>,
};

super::tier!("amx", detect, Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")], |format, precision| {
    let fine = precision == Precision::High || format.is_float();
    Some(if fine { &RESTS } else { &HALVES })
}, Some(&attention::ATTENTION));
