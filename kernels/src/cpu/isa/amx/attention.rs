//! Attention in tile registers: queries, keys, values and softmax weights are rounded to bfloat16; scores, the softmax and
//! all sums are f32. The blocks and their order are those of [`ops::attention`](crate::cpu::ops::attention).

use super::squares::{load_square, round, store};
use super::tiles::{COLUMNS, Product, ROWS, SQUARE, STEP, Tiles};
use super::token::Amx;
use crate::buffer::{Buffer, FLOATS_PER_LINE};
use crate::cpu::activations::Form;
use crate::cpu::isa::attention::{Attend, Attention};
use crate::cpu::isa::avx512vnni::transpose;
use crate::cpu::isa::token::{keep, method};
use crate::cpu::ops::attention::scratch::Scratch;
use crate::cpu::ops::attention::task::{AttendTask, KeyBlock, KeyValueRows, Shape, WriteRow};
use crate::cpu::ops::bf16::round_row;
use crate::cpu::simd::EXP2_COARSE;
use std::arch::x86_64::*;

/// Keys per block. Twice as many as in f32: a row's maximum and sum cost less of a block, its outputs are loaded less often.
const KEYS: usize = 128;
/// Floats from row to row of scores: as with outputs, a cache line more than they are, or they would all fall into the same few
/// sets of the cache.
const SCORES: usize = KEYS + FLOATS_PER_LINE;

/// Attention by this tier.
pub(super) fn in_bf16(token: Amx) -> Attention<u16> {
    Attention {
        keys: KEYS,
        pad: STEP,
        dims: STEP,
        most_dims: usize::MAX,
        scale_len: 0,
        serves: Form { bf16: true, ..Form::NONE },
        run: keep(token),
    }
}

impl Attend<u16> for Amx {
    method!(_token: Amx, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")], pack(
        shape: Shape, keys: usize, rows: KeyValueRows, kt: &mut [u16], vp: &mut [u16]
    ) {
        pack(shape, keys, rows, kt, vp)
    });
    method!(token: Amx, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")], attend(
        task: AttendTask<u16>, scratch: &mut Scratch, write: WriteRow
    ) {
        attend(token, task, scratch, write)
    });
}

/// As [`pack_block`](crate::cpu::ops::attention::pack_block). Keys are the weights of a product over the head's
/// dimensions, values those of a product over the block's keys; both in the layout of [`Product::w`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn pack(shape: Shape, keys: usize, KeyValueRows { k, v, stride }: KeyValueRows, kt: &mut [u16], vp: &mut [u16]) {
    let dim = shape.head_dim;
    let width = keys.next_multiple_of(STEP);
    let end = (keys - 1) * stride + dim;
    assert!(dim.is_multiple_of(STEP) && k.len() >= end && v.len() >= end);

    // [width / COLUMNS][dim / STEP][2] squares.
    let squares = kt[..width * dim].as_chunks_mut::<SQUARE>().0;
    for (i, to) in squares.iter_mut().enumerate() {
        let (columns, step, half) = (i / 2 / (dim / STEP), i / 2 % (dim / STEP), i % 2);
        let key = columns * COLUMNS + half * ROWS;
        let present = keys.saturating_sub(key).min(ROWS);
        // SAFETY: 32 values of each of the keys that are present.
        store(
            to,
            transpose(unsafe { load_square(k.as_ptr().wrapping_add(key * stride + step * STEP), stride, present) }),
        );
    }

    // [dim / COLUMNS][width / STEP][2] squares, each 16 pairs of keys × 16 dimensions.
    let squares = vp[..width * dim].as_chunks_mut::<SQUARE>().0;
    for (i, to) in squares.iter_mut().enumerate() {
        let (columns, step, half) = (i / 2 / (width / STEP), i / 2 % (width / STEP), i % 2);
        let v = v.as_ptr().wrapping_add(columns * COLUMNS + half * ROWS);
        let mut pairs = [_mm512_setzero_si512(); ROWS];
        for (j, pair) in pairs.iter_mut().enumerate() {
            let key = step * STEP + 2 * j;
            // SAFETY: 16 values of each of the keys that are present.
            let load = |key: usize| unsafe {
                if key < keys { _mm512_loadu_ps(v.wrapping_add(key * stride)) } else { _mm512_setzero_ps() }
            };
            *pair = _mm512_permutexvar_epi16(interleaved(), round(load(key), load(key + 1)));
        }
        store(to, pairs);
    }
}

/// Indices that bring two vectors of 16 words, one after the other, into pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleaved() -> __m512i {
    const INDICES: [u16; 32] = {
        let mut indices = [0; 32];
        let mut i = 0;
        while i < 32 {
            indices[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        indices
    };
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(INDICES.as_ptr().cast()) }
}

/// The left operands of the products: queries and softmax weights as bfloat16.
#[derive(Default)]
struct Operands {
    queries: Buffer<u16>,
    weights: Buffer<u16>,
}

/// As [`attend`](crate::cpu::ops::attention::attend).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
fn attend(token: Amx, task: AttendTask<u16>, scratch: &mut Scratch, write: WriteRow) {
    let dim = task.shape.head_dim;
    let (rows, out_row) = (task.count * task.shape.group, dim + FLOATS_PER_LINE);
    assert!(dim.is_multiple_of(STEP));
    let Scratch { q: query, scores, out, softmax, own, .. } = scratch;
    let Operands { queries, weights } = own.get_or_make();
    query.resize(dim);
    queries.resize(rows * dim);
    scores.resize(rows * SCORES);
    weights.resize(rows * KEYS);
    out.resize(rows * out_row);
    out.fill(0.0);
    softmax.start(rows);

    let scale = task.shape.score_unit();
    for (r, values) in queries.chunks_exact_mut(dim).enumerate() {
        query.iter_mut().zip(task.query(r)).for_each(|(to, x)| *to = x * scale);
        round_row(query, values, &mut []);
    }

    let mut tiles = Tiles::new(token);
    for KeyBlock { start, packed, width } in task.key_blocks(KEYS, STEP) {
        let scores_of_keys = Product {
            rows,
            columns: width,
            steps: dim / STEP,
            w: task.kt[packed.start * dim..packed.end * dim].as_ptr(),
            w_stride: COLUMNS * dim,
            x: queries.as_ptr(),
            x_stride: dim,
            c: scores.as_mut_ptr(),
            c_stride: SCORES,
            add: false,
        };
        // SAFETY: this block of kt is [packed / COLUMNS] times COLUMNS · dim values, with width <= packed. Queries are
        // [rows × dim], scores [rows × SCORES].
        unsafe { scores_of_keys.run(&mut tiles) };
        let weights_at = weights.as_mut_ptr();
        // SAFETY: the place in [rows × KEYS] of 16 weights of row r, from `key` on.
        let keep = |r, key, _, x| unsafe {
            _mm256_storeu_si256(
                weights_at.add(r * KEYS + key).cast(),
                std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)),
            )
        };
        softmax.block(token.avx512(), &EXP2_COARSE, scores, (SCORES, width), |r| task.visible(r, start), keep);
        softmax.rescale(out, out_row);
        let weighted_values = Product {
            rows,
            columns: dim,
            steps: width / STEP,
            w: task.vp[packed.start * dim..packed.end * dim].as_ptr(),
            w_stride: COLUMNS * packed.len(),
            x: weights.as_ptr(),
            x_stride: KEYS,
            c: out.as_mut_ptr(),
            c_stride: out_row,
            add: true,
        };
        // SAFETY: this block of vp is [dim / COLUMNS] times COLUMNS · packed values; weights are [rows × KEYS], out is
        // [rows × out_row].
        unsafe { weighted_values.run(&mut tiles) };
    }
    softmax.finish(token.avx512(), out, out_row, task.shape, write);
}
