//! The small built-in model of qembed-q, a crate of its own since it is larger than all the code that runs it: it is
//! downloaded by who asks for it only, and published anew only when it is trained anew.
//!
//! `README.md` is its card: what it was trained on, how good it is, and how to make it anew.
#![no_std]
#![forbid(unsafe_code)]

/// The GGUF file, its matrices in Q8_0: 9.2 MB.
pub static Q8_0: &[u8] = include_bytes!("../qembed-builtin-q8_0.gguf");
