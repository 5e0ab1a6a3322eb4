// Causal attention over a tree of texts.
//
// Keys and values are first packed by path, in blocks of 32 that count from a text's start, each head by itself and what is missing of
// a block zero. Then a simdgroup takes 8 queries of one head through the blocks of their path, from first to last, and keeps the
// largest score and the sum so far of each ("Online normalizer calculation for softmax", 2018; FlashAttention, 2022). Queries and
// outputs stay in registers, as 8 × 8 squares. All is float.

constant constexpr const uint KEYS = 32;
constant constexpr const uint QUERIES = 8;
// The row of keys that there are none of.
constant constexpr const uint NO_ROW = 0xffffffff;
// The score of a key that a query does not see. Infinite, it would make NaN.
constant constexpr const float UNSEEN = -1.0e30f;

struct Pack {
    // Of all key/value heads, and of one.
    uint columns, head_dim, packed;
};

// packed[head][i] = from[rows[i]][head], a key a threadgroup of 128 threads: keys by group.y 0, values by 1.
kernel void pack_keys(
    device const float *keys [[buffer(0)]],
    device const float *values [[buffer(1)]],
    device const uint *rows [[buffer(2)]],
    device float *packed_keys [[buffer(3)]],
    device float *packed_values [[buffer(4)]],
    constant Pack &p [[buffer(5)]],
    uint3 group [[threadgroup_position_in_grid]],
    ushort t [[thread_index_in_threadgroup]]
) {
    uint row = rows[group.x];
    device const float *from = group.y == 0 ? keys : values;
    device float *to = group.y == 0 ? packed_keys : packed_values;
    for (uint i = t; i < p.columns; i += 128) {
        ulong key = ulong(i / p.head_dim) * p.packed + group.x;
        to[key * p.head_dim + i % p.head_dim] = row == NO_ROW ? 0.0f : from[ulong(row) * p.columns + i];
    }
}

// At most 8 queries, neighbours in a text.
struct Task {
    // The row of the first, how many they are, and the position of the first in its text.
    uint query, count, position;
    // Where in `blocks` those of its path begin.
    uint blocks;
};

struct Attention {
    uint heads, kv_heads, packed;
    float scale;
};

template <ushort DIM>
kernel void attention(
    device const float *q [[buffer(0)]],
    device const float *packed_keys [[buffer(1)]],
    device const float *packed_values [[buffer(2)]],
    device const Task *tasks [[buffer(3)]],
    device const uint *blocks [[buffer(4)]],
    device float *out [[buffer(5)]],
    constant Attention &p [[buffer(6)]],
    threadgroup float *memory [[threadgroup(0)]],
    uint3 group [[threadgroup_position_in_grid]],
    ushort lane [[thread_index_in_simdgroup]],
    ushort simdgroup [[simdgroup_index_in_threadgroup]]
) {
    const uint head = group.y * 4 + simdgroup;
    if (head >= p.heads) return;
    device const Task &task = tasks[group.x];
    const uint count = task.count, position = task.position;
    const uint columns = p.heads * DIM;
    // Of this simdgroup alone: scores, later weights, [QUERIES × KEYS], and a square with a factor of each query on its diagonal.
    threadgroup float *scores = memory + simdgroup * (QUERIES * KEYS + 64);
    threadgroup float *factors = scores + QUERIES * KEYS;

    simdgroup_matrix<float, 8, 8> query[DIM / 8], sums[DIM / 8];
    const ulong first = ulong(task.query) * columns + head * DIM;
    for (ushort d = 0; d < DIM; d += 32) {
        for (ushort r = 0; r < QUERIES; r++) {
            scores[KEYS * r + lane] = r < count ? q[first + ulong(r) * columns + d + lane] * p.scale : 0.0f;
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (ushort i = 0; i < 4; i++) simdgroup_load(query[d / 8 + i], scores + 8 * i, KEYS);
        simdgroup_barrier(mem_flags::mem_threadgroup);
    }
    float largest[QUERIES], total[QUERIES];
    for (ushort r = 0; r < QUERIES; r++) {
        largest[r] = UNSEEN;
        total[r] = 0.0f;
    }
    for (ushort i = 0; i < DIM / 8; i++) sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    factors[lane] = 0.0f;
    factors[lane + 32] = 0.0f;

    const ulong kv_head = head / (p.heads / p.kv_heads);
    for (uint block = 0; block * KEYS < position + count; block++) {
        const ulong at = (kv_head * p.packed + blocks[task.blocks + block]) * DIM;
        device const float *keys = packed_keys + at;
        device const float *values = packed_values + at;
        for (ushort j = 0; j < KEYS / 8; j++) {
            simdgroup_matrix<float, 8, 8> score = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
            for (ushort i = 0; i < DIM / 8; i++) {
                simdgroup_matrix<float, 8, 8> key;
                simdgroup_load(key, keys + 8 * j * DIM + 8 * i, DIM, ulong2(0, 0), true);
                simdgroup_multiply_accumulate(score, query[i], key, score);
            }
            simdgroup_store(score, scores + 8 * j, KEYS);
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (ushort r = 0; r < QUERIES; r++) {
            float score = block * KEYS + lane <= position + r ? scores[KEYS * r + lane] : UNSEEN;
            float larger = max(largest[r], simd_max(score));
            float factor = exp(largest[r] - larger), weight = exp(score - larger);
            largest[r] = larger;
            total[r] = total[r] * factor + simd_sum(weight);
            scores[KEYS * r + lane] = weight;
            if (lane == 0) factors[9 * r] = factor;
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_matrix<float, 8, 8> factor, weights[KEYS / 8];
        simdgroup_load(factor, factors, 8);
        for (ushort j = 0; j < KEYS / 8; j++) simdgroup_load(weights[j], scores + 8 * j, KEYS);
        for (ushort i = 0; i < DIM / 8; i++) {
            simdgroup_multiply(sums[i], factor, sums[i]);
            for (ushort j = 0; j < KEYS / 8; j++) {
                simdgroup_matrix<float, 8, 8> value;
                simdgroup_load(value, values + 8 * j * DIM + 8 * i, DIM);
                simdgroup_multiply_accumulate(sums[i], weights[j], value, sums[i]);
            }
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
    }

    for (ushort d = 0; d < DIM; d += 32) {
        for (ushort i = 0; i < 4; i++) simdgroup_store(sums[d / 8 + i], scores + 8 * i, KEYS);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (ushort r = 0; r < count; r++) {
            out[first + ulong(r) * columns + d + lane] = scores[KEYS * r + lane] / total[r];
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
    }
}

typedef decltype(attention<64>) attention_t;

template [[host_name("attention_64")]] kernel attention_t attention<64>;
template [[host_name("attention_128")]] kernel attention_t attention<128>;
