//! The float operations, each written once over [`Simd`](super::simd::Simd).
//!
//! Every output element is computed by the same sequence of operations whatever rows, texts or tasks stand beside it:
//! that is what makes a vector independent of its batch.

pub(crate) mod attention;
pub(crate) mod bf16;
pub(crate) mod elementwise;
pub(crate) mod matmul;
pub(crate) mod quantize;
