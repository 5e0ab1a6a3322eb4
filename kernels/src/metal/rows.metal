// What is done to rows of floats by themselves.

struct Rows {
    uint columns;
    float eps;
};

// out = x / √(mean of x² + eps) · weight: a row a threadgroup, of 128 threads.
kernel void rms_norm(
    device const float *x [[buffer(0)]],
    device const float *weight [[buffer(1)]],
    device float *out [[buffer(2)]],
    constant Rows &p [[buffer(3)]],
    threadgroup float *sums [[threadgroup(0)]],
    uint3 group [[threadgroup_position_in_grid]],
    ushort t [[thread_index_in_threadgroup]],
    ushort lane [[thread_index_in_simdgroup]],
    ushort simdgroup [[simdgroup_index_in_threadgroup]]
) {
    device const float *from = x + ulong(group.x) * p.columns;
    device float *to = out + ulong(group.x) * p.columns;
    float sum = 0.0f;
    for (uint i = t; i < p.columns; i += 128) sum += from[i] * from[i];
    sum = simd_sum(sum);
    if (lane == 0) sums[simdgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float scale = 1.0f / sqrt((sums[0] + sums[1] + sums[2] + sums[3]) / float(p.columns) + p.eps);
    for (uint i = t; i < p.columns; i += 128) to[i] = from[i] * scale * weight[i];
}

struct Heads {
    uint heads, head_dim, rows;
    float eps;
};

// RMSNorm of each head of a row, then the rotary embedding over its halves, in place: a head a simdgroup. `angles` are the cosines of
// all rows [rows × head_dim / 2], then their sines.
kernel void norm_rope(
    device float *x [[buffer(0)]],
    device const float *weight [[buffer(1)]],
    device const float *angles [[buffer(2)]],
    constant Heads &p [[buffer(3)]],
    uint3 group [[threadgroup_position_in_grid]],
    ushort lane [[thread_index_in_simdgroup]],
    ushort simdgroup [[simdgroup_index_in_threadgroup]]
) {
    uint row = group.x, head = group.y * 4 + simdgroup, halves = p.head_dim / 2;
    if (head >= p.heads) return;
    device float *values = x + (ulong(row) * p.heads + head) * p.head_dim;
    device const float *cosines = angles + ulong(row) * halves;
    device const float *sines = cosines + ulong(p.rows) * halves;
    float sum = 0.0f;
    for (uint i = lane; i < p.head_dim; i += 32) sum += values[i] * values[i];
    float scale = 1.0f / sqrt(simd_sum(sum) / float(p.head_dim) + p.eps);
    simdgroup_barrier(mem_flags::mem_device);
    for (uint i = lane; i < halves; i += 32) {
        float a = values[i] * scale * weight[i], b = values[i + halves] * scale * weight[i + halves];
        values[i] = a * cosines[i] - b * sines[i];
        values[i + halves] = b * cosines[i] + a * sines[i];
    }
}

// to[i] = from[rows[i]]: a row a threadgroup, of 128 threads.
kernel void copy_rows(
    device const float *from [[buffer(0)]],
    device const uint *rows [[buffer(1)]],
    device float *to [[buffer(2)]],
    constant Rows &p [[buffer(3)]],
    uint3 group [[threadgroup_position_in_grid]],
    ushort t [[thread_index_in_threadgroup]]
) {
    device const float *source = from + ulong(rows[group.x]) * p.columns;
    device float *target = to + ulong(group.x) * p.columns;
    for (uint i = t; i < p.columns; i += 128) target[i] = source[i];
}
