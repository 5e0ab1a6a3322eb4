//! Numeric building blocks of qembed-q: GGUF block formats, activation quantization, GEMM per instruction set,
//! attention and float operations, behind one [`Backend`] seam. No I/O, no GGUF parsing, no model names.
#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

pub mod formats;
