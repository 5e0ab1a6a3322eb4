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
//! a bfloat16 and a residual r, w · x = w_bf16 · x_bf16 + w_bf16 · r_x + r_w · x_bf16, but for 2^-14 at most.
//!
//! Panel layout: for each 32 weight rows, for each 32 values of K, two tiles of 16 pairs of values × 16 weight rows:
//! `[tile][len / 32][2][16][16][2]`.
//!
//! `tdpbf16ps` rounds sums to nearest even and takes numbers below the normal range for zero.

mod attention;
mod squares;
mod tiles;
mod token;

pub(crate) use token::Amx;

use super::attention::Attention;
use super::avx512vnni::transpose;
use super::kernel::{Kernel, Multiply};
use super::tier::{Kernels, tier};
use super::token::keep;
use crate::backend::Precision;
use crate::buffer::Buffer;
use crate::cpu::activations::{Activations, Form};
use crate::cpu::output::Output;
use crate::cpu::panel::{CHUNK, GROUPS, Panel, TILE, TileRows};
use crate::formats::{Block, Format, with_block};
use squares::{round, store, store_pairs, widen};
use std::arch::x86_64::*;
use std::ops::Range;
use tiles::{Product, ROWS, SQUARE, STEP, Tiles};

/// Tiles of weights at a time: each row of activations comes from memory once for so many. At the full rate, activations
/// are read at 32 bytes a cycle for one tile, four times what a core gets from the last-level cache.
const TILES: usize = 8;

/// Values of K at a time: of 32 weight rows and of 32 rows of activations together 32 KiB. The weights stay in the L1 cache
/// (48 KiB) while blocks of 32 rows pass over them; with twice as many, a block would evict them.
const DEPTH: usize = 256;

const _: () = assert!(TILE == tiles::COLUMNS && CHUNK.is_multiple_of(DEPTH) && DEPTH.is_multiple_of(STEP));

/// Weights as bfloat16, in the layout above: [tiles × TILE × CHUNK].
#[derive(Default)]
struct Weights {
    bf16: Buffer<u16>,
    /// What rounding took away; empty where that is not wanted.
    residual: Buffer<u16>,
}

/// Unpacks weights into [`Weights`], with residuals if `RESIDUAL`.
///
/// # Safety
/// The CPU has the instructions that it is compiled for.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vbmi,avx2,fma")]
unsafe fn unpack<const RESIDUAL: bool>(panel: &mut Panel, tiles: TileRows, first: usize, len: usize) {
    assert!(tiles.rows() <= TILES * TILE);
    let weights = panel.own.get_or_make::<Weights>();
    weights.bf16.resize(TILES * TILE * CHUNK);
    weights.residual.resize(if RESIDUAL { TILES * TILE * CHUNK } else { 0 });
    (panel.first, panel.len) = (first, len);
    for (i, bytes) in tiles.bytes.chunks(TILE * tiles.row_bytes).enumerate() {
        let tile = TileRows { bytes, ..tiles };
        with_block!(
            tile.format,
            B => {
                panel.unpack_rows::<B>(tiles, i, first, len);
                if !RESIDUAL && B::GROUP == STEP && i16::from(B::CODES.1) - i16::from(B::CODES.0) < 16 {
                    interleave_nibbles(panel, i, len);
                } else {
                    interleave::<true, RESIDUAL>(panel, i, len);
                }
            },
            float => {
                panel.unpack_float_rows(tile, first, len);
                interleave::<false, RESIDUAL>(panel, i, len);
            },
        );
    }
}

/// Rounds tile number `tile` of the weights to bfloat16 and transposes it, 16 rows × 16 pairs at a time. The weights are in
/// `panel.rows` with scales and mins, if `CODES`, and in `panel.floats` otherwise.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn interleave<const CODES: bool, const RESIDUAL: bool>(panel: &mut Panel, tile: usize, len: usize) {
    let Panel { rows, row_scales, row_mins, floats, group, has_min, own, .. } = panel;
    let Weights { bf16, residual } = own.get_or_make();
    assert!(len <= CHUNK && rows.len() == TILE * CHUNK && floats.len() == TILE * CHUNK);
    assert!(
        !CODES || (len.is_multiple_of(STEP) && row_scales.len() == TILE * GROUPS && row_mins.len() == TILE * GROUPS)
    );
    let start = tile * TILE * CHUNK;
    let bf16 = bf16[start..].as_chunks_mut::<SQUARE>().0;
    let residual = residual.get_mut(start..).unwrap_or_default().as_chunks_mut::<SQUARE>().0;
    for i in 0..2 * len.div_ceil(STEP) {
        let (first_row, k) = (i % 2 * ROWS, i / 2 * STEP);
        let (g, h) = (k / *group, (k + STEP / 2) / *group);
        let (mut rounded, mut rest) = ([_mm512_setzero_si512(); ROWS], [_mm512_setzero_si512(); ROWS]);
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
            rounded[j] = round(a, b);
            if RESIDUAL {
                let (x, y) = widen(rounded[j]);
                rest[j] = round(_mm512_sub_ps(a, x), _mm512_sub_ps(b, y));
            }
        }
        store(&mut bf16[i], transpose(rounded));
        if RESIDUAL {
            store(&mut residual[i], transpose(rest));
        }
    }
}

/// [`interleave`] for codes of which there are at most 16, in groups of 32: the values of a group are looked up in a table of 16,
/// 64 codes of two groups at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vbmi,avx2,fma")]
fn interleave_nibbles(panel: &mut Panel, tile: usize, len: usize) {
    let Panel { rows, row_scales, row_mins, range, has_min, own, .. } = panel;
    assert!(len <= CHUNK && rows.len() == TILE * CHUNK && CHUNK / STEP <= GROUPS);
    assert!(row_scales.len() == TILE * GROUPS && row_mins.len() == TILE * GROUPS);
    let bf16 = own.get_or_make::<Weights>().bf16[tile * TILE * CHUNK..].as_chunks_mut::<SQUARE>().0;
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
                    let square = &mut bf16[2 * (k / STEP + quarter / 2) + first_row / ROWS];
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

/// A product of bfloat16, of three of them with `RESIDUAL`.
struct Bf16<const RESIDUAL: bool>(Amx);

impl<const RESIDUAL: bool> Multiply for Bf16<RESIDUAL> {
    fn unpack(&self, panel: &mut Panel, tile: TileRows, first: usize, len: usize) {
        // SAFETY: the token is the proof of the instructions.
        unsafe { unpack::<RESIDUAL>(panel, tile, first, len) }
    }

    unsafe fn gemm(&self, panel: &Panel, activations: &Activations, rows: Range<usize>, output: Output) {
        let Panel { first, len, .. } = *panel;
        let (weights, x, stride) = (panel.own.get::<Weights>(), &activations.bf16, activations.bf16.row_stride);
        let mut tiles = Tiles::new(self.0);
        let products = [(&weights.residual, &x.values), (&weights.bf16, &x.residual), (&weights.bf16, &x.values)];
        for (i, (weights, x)) in products[if RESIDUAL { 0 } else { 2 }..].iter().enumerate() {
            for column in (0..output.columns).step_by(TILE) {
                for k in (0..len).step_by(DEPTH) {
                    let steps = (len - k).min(DEPTH).div_ceil(STEP);
                    let w = &weights[column * CHUNK + k * TILE..][..steps * STEP * TILE];
                    let x = &x[rows.start * stride + first + k..rows.end * stride];
                    let product = Product {
                        rows: rows.len(),
                        columns: TILE,
                        steps,
                        w: w.as_ptr(),
                        w_stride: 0,
                        x: x.as_ptr(),
                        x_stride: stride,
                        c: output.start.wrapping_add(column),
                        c_stride: output.stride,
                        add: output.add || i > 0 || k > 0,
                    };
                    // SAFETY: `w` is one tile of weights, x [rows × first + k..] with zeros up to whole steps, the output
                    // [rows × columns].
                    unsafe { product.run(&mut tiles) };
                }
            }
        }
    }
}

/// Quantized weights by one product; high precision, and float weights, by three.
fn kernel(token: Amx, fine: bool) -> Kernel {
    Kernel {
        form: Form { bf16: true, bf16_residual: fine, ..Form::NONE },
        tiles: TILES,
        rows: 6 * ROWS,
        any_stride: true,
        run: if fine { keep(Bf16::<true>(token)) } else { keep(Bf16::<false>(token)) },
    }
}

impl Kernels for Amx {
    fn kernel(self, format: Format, precision: Precision) -> Option<Kernel> {
        Some(kernel(self, precision == Precision::High || format.is_float()))
    }

    fn coarse_attention(self) -> Option<Attention<u16>> {
        Some(attention::in_bf16(self))
    }
}

tier!(Amx, |token| token.avx512(), #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]);
