// Whether a GPU has what the kernels are made of: products of 8 × 8 matrices, half by float into float, and sums over a SIMD group.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

// out [8 × 8] = a · b, then the sum of the numbers of all lanes.
kernel void probe(
    device const half *a [[buffer(0)]],
    device const float *b [[buffer(1)]],
    device float *out [[buffer(2)]],
    ushort lane [[thread_index_in_simdgroup]])
{
    simdgroup_half8x8 x;
    simdgroup_float8x8 y;
    simdgroup_float8x8 z = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    simdgroup_load(x, a, 8);
    simdgroup_load(y, b, 8);
    simdgroup_multiply_accumulate(z, x, y, z);
    simdgroup_store(z, out, 8);
    float sum = simd_sum(float(lane));
    if (lane == 0) {
        out[64] = sum;
    }
}
