// Products of activations and weights: output [rows × n] of input [rows × k] and a weight [n × k] in its storage format.
//
// A threadgroup has 128 threads, four simdgroups, and makes a tile of 64 weights (columns of the output) and ROWS rows, 32 at a time
// along k. Weights become T on the way, half or float; activations are float and stay so: in half they overflow. The sum of an output
// is over steps of 8 along k, from first to last, by the same instruction in every tile, so that its bits depend neither on the
// other rows nor on ROWS.

constant constexpr const ushort TILE = 64;
constant constexpr const ushort DEPTH = 32;
constant constexpr const ushort THREADS = 128;

// What becomes of a product.
constant constexpr const uint STORE = 0; // it is the output
constant constexpr const uint ADD = 1; // it is added to the output
constant constexpr const uint GATE = 2; // the output, of which SiLU is taken first, is multiplied with it

struct Product {
    uint rows, n, k, epilogue;
};

template <typename F, typename T, ushort ROWS>
kernel void product(
    device const float *input [[buffer(0)]],
    device const uchar *weight [[buffer(1)]],
    device float *output [[buffer(2)]],
    constant Product &p [[buffer(3)]],
    threadgroup uchar *memory [[threadgroup(0)]],
    uint3 group [[threadgroup_position_in_grid]],
    ushort t [[thread_index_in_threadgroup]],
    ushort simdgroup [[simdgroup_index_in_threadgroup]]
) {
    // Simdgroups along the weights, and the squares of 8 × 8 that each makes along weights and rows.
    constexpr ushort ACROSS = ROWS == 32 ? 2 : 4;
    constexpr ushort N = TILE / ACROSS / 8;
    constexpr ushort M = ROWS / (4 / ACROSS) / 8;
    // Neighbouring activations that a thread takes from memory.
    constexpr ushort PART = ROWS * DEPTH / THREADS;

    // Squares of 64 values one after the other: of weights [DEPTH / 8][TILE / 8], each with k down and weights across, of activations
    // [DEPTH / 8][ROWS / 8], each with rows down and k across.
    threadgroup T *w = (threadgroup T *)memory;
    threadgroup float *x = (threadgroup float *)(memory + TILE * DEPTH * sizeof(T));

    const uint first_row = group.x * ROWS, first_weight = group.y * TILE;
    const ushort own_weight = t / 2, own_depth = t % 2 * 16;
    const ushort own_row = t / (DEPTH / PART), own_column = t % (DEPTH / PART) * PART;
    const bool has_weight = first_weight + own_weight < p.n, has_row = first_row + own_row < p.rows;
    device const uchar *weight_row = weight + ulong(first_weight + own_weight) * (p.k / F::LEN * F::BYTES);
    device const float *input_row = input + ulong(first_row + own_row) * p.k;

    simdgroup_matrix<float, 8, 8> sums[M][N];
    for (ushort j = 0; j < M; j++) {
        for (ushort i = 0; i < N; i++) sums[j][i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    for (uint k = 0; k < p.k; k += DEPTH) {
        float values[16];
        if (has_weight && k + own_depth < p.k) {
            F::deq16(weight_row, k + own_depth, p.k, values);
        } else {
            for (ushort i = 0; i < 16; i++) values[i] = 0.0f;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (ushort i = 0; i < 16; i++) {
            ushort depth = own_depth + i;
            w[64 * (TILE / 8 * (depth / 8) + own_weight / 8) + 8 * (depth % 8) + own_weight % 8] = T(values[i]);
        }
        for (ushort i = 0; i < PART; i++) {
            uint column = k + own_column + i;
            x[64 * (ROWS / 8 * (own_column / 8) + own_row / 8) + 8 * (own_row % 8) + own_column % 8 + i] =
                has_row && column < p.k ? input_row[column] : 0.0f;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (ushort step = 0; step < DEPTH / 8; step++) {
            simdgroup_matrix<T, 8, 8> a[N];
            simdgroup_matrix<float, 8, 8> b[M];
            for (ushort i = 0; i < N; i++) {
                simdgroup_load(a[i], w + 64 * (TILE / 8 * step + N * (simdgroup % ACROSS) + i), 8);
            }
            for (ushort j = 0; j < M; j++) {
                simdgroup_load(b[j], x + 64 * (ROWS / 8 * step + M * (simdgroup / ACROSS) + j), 8);
            }
            for (ushort j = 0; j < M; j++) {
                for (ushort i = 0; i < N; i++) simdgroup_multiply_accumulate(sums[j][i], b[j], a[i], sums[j][i]);
            }
        }
    }

    // The tile [ROWS × TILE], where the last weights and activations were.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    threadgroup float *tile = (threadgroup float *)memory;
    for (ushort j = 0; j < M; j++) {
        for (ushort i = 0; i < N; i++) {
            ushort row = 8 * (M * (simdgroup / ACROSS) + j), column = 8 * (N * (simdgroup % ACROSS) + i);
            simdgroup_store(sums[j][i], tile + TILE * row + column, TILE);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (ushort i = t; i < ROWS * TILE; i += THREADS) {
        uint row = first_row + i / TILE, column = first_weight + i % TILE;
        if (row >= p.rows || column >= p.n) continue;
        device float *out = output + ulong(row) * p.n + column;
        if (p.epilogue == STORE) {
            *out = tile[i];
        } else if (p.epilogue == ADD) {
            *out += tile[i];
        } else {
            *out = *out / (1.0f + exp(-*out)) * tile[i];
        }
    }
}

typedef decltype(product<F32, float, 32>) product_t;

template [[host_name("product_F32_float_32")]] kernel product_t product<F32, float, 32>;
template [[host_name("product_F32_float_8")]] kernel product_t product<F32, float, 8>;
template [[host_name("product_F16_half_32")]] kernel product_t product<F16, half, 32>;
template [[host_name("product_F16_half_8")]] kernel product_t product<F16, half, 8>;
template [[host_name("product_BF16_float_32")]] kernel product_t product<BF16, float, 32>;
template [[host_name("product_BF16_float_8")]] kernel product_t product<BF16, float, 8>;
template [[host_name("product_Q4_0_half_32")]] kernel product_t product<Q4_0, half, 32>;
template [[host_name("product_Q4_0_half_8")]] kernel product_t product<Q4_0, half, 8>;
template [[host_name("product_Q4_0_float_32")]] kernel product_t product<Q4_0, float, 32>;
template [[host_name("product_Q4_0_float_8")]] kernel product_t product<Q4_0, float, 8>;
template [[host_name("product_Q4_1_half_32")]] kernel product_t product<Q4_1, half, 32>;
template [[host_name("product_Q4_1_half_8")]] kernel product_t product<Q4_1, half, 8>;
template [[host_name("product_Q4_1_float_32")]] kernel product_t product<Q4_1, float, 32>;
template [[host_name("product_Q4_1_float_8")]] kernel product_t product<Q4_1, float, 8>;
template [[host_name("product_Q5_0_half_32")]] kernel product_t product<Q5_0, half, 32>;
template [[host_name("product_Q5_0_half_8")]] kernel product_t product<Q5_0, half, 8>;
template [[host_name("product_Q5_0_float_32")]] kernel product_t product<Q5_0, float, 32>;
template [[host_name("product_Q5_0_float_8")]] kernel product_t product<Q5_0, float, 8>;
template [[host_name("product_Q5_1_half_32")]] kernel product_t product<Q5_1, half, 32>;
template [[host_name("product_Q5_1_half_8")]] kernel product_t product<Q5_1, half, 8>;
template [[host_name("product_Q5_1_float_32")]] kernel product_t product<Q5_1, float, 32>;
template [[host_name("product_Q5_1_float_8")]] kernel product_t product<Q5_1, float, 8>;
template [[host_name("product_Q8_0_half_32")]] kernel product_t product<Q8_0, half, 32>;
template [[host_name("product_Q8_0_half_8")]] kernel product_t product<Q8_0, half, 8>;
template [[host_name("product_Q8_0_float_32")]] kernel product_t product<Q8_0, float, 32>;
template [[host_name("product_Q8_0_float_8")]] kernel product_t product<Q8_0, float, 8>;
template [[host_name("product_Q2_K_half_32")]] kernel product_t product<Q2_K, half, 32>;
template [[host_name("product_Q2_K_half_8")]] kernel product_t product<Q2_K, half, 8>;
template [[host_name("product_Q2_K_float_32")]] kernel product_t product<Q2_K, float, 32>;
template [[host_name("product_Q2_K_float_8")]] kernel product_t product<Q2_K, float, 8>;
template [[host_name("product_Q3_K_half_32")]] kernel product_t product<Q3_K, half, 32>;
template [[host_name("product_Q3_K_half_8")]] kernel product_t product<Q3_K, half, 8>;
template [[host_name("product_Q3_K_float_32")]] kernel product_t product<Q3_K, float, 32>;
template [[host_name("product_Q3_K_float_8")]] kernel product_t product<Q3_K, float, 8>;
template [[host_name("product_Q4_K_half_32")]] kernel product_t product<Q4_K, half, 32>;
template [[host_name("product_Q4_K_half_8")]] kernel product_t product<Q4_K, half, 8>;
template [[host_name("product_Q4_K_float_32")]] kernel product_t product<Q4_K, float, 32>;
template [[host_name("product_Q4_K_float_8")]] kernel product_t product<Q4_K, float, 8>;
template [[host_name("product_Q5_K_half_32")]] kernel product_t product<Q5_K, half, 32>;
template [[host_name("product_Q5_K_half_8")]] kernel product_t product<Q5_K, half, 8>;
template [[host_name("product_Q5_K_float_32")]] kernel product_t product<Q5_K, float, 32>;
template [[host_name("product_Q5_K_float_8")]] kernel product_t product<Q5_K, float, 8>;
template [[host_name("product_Q6_K_half_32")]] kernel product_t product<Q6_K, half, 32>;
template [[host_name("product_Q6_K_half_8")]] kernel product_t product<Q6_K, half, 8>;
template [[host_name("product_Q6_K_float_32")]] kernel product_t product<Q6_K, float, 32>;
template [[host_name("product_Q6_K_float_8")]] kernel product_t product<Q6_K, float, 8>;
template [[host_name("product_IQ4_NL_half_32")]] kernel product_t product<IQ4_NL, half, 32>;
template [[host_name("product_IQ4_NL_half_8")]] kernel product_t product<IQ4_NL, half, 8>;
template [[host_name("product_IQ4_NL_float_32")]] kernel product_t product<IQ4_NL, float, 32>;
template [[host_name("product_IQ4_NL_float_8")]] kernel product_t product<IQ4_NL, float, 8>;
template [[host_name("product_IQ4_XS_half_32")]] kernel product_t product<IQ4_XS, half, 32>;
template [[host_name("product_IQ4_XS_half_8")]] kernel product_t product<IQ4_XS, half, 8>;
template [[host_name("product_IQ4_XS_float_32")]] kernel product_t product<IQ4_XS, float, 32>;
template [[host_name("product_IQ4_XS_float_8")]] kernel product_t product<IQ4_XS, float, 8>;
template [[host_name("product_MXFP4_half_32")]] kernel product_t product<MXFP4, half, 32>;
template [[host_name("product_MXFP4_half_8")]] kernel product_t product<MXFP4, half, 8>;
template [[host_name("product_MXFP4_float_32")]] kernel product_t product<MXFP4, float, 32>;
template [[host_name("product_MXFP4_float_8")]] kernel product_t product<MXFP4, float, 8>;
