// The first of the files that make one library. Each argument of a kernel has its number in the order of the parameters: buffers,
// then one struct of parameters, then the threadgroup's memory. A threadgroup has 128 threads, which are four simdgroups of 32.

#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;
