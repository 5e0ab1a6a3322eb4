//! Model layer of qembed-q: GGUF files, tokenizer, the Qwen3 forward pass.
#![deny(unsafe_code)]

pub mod tokenizer;
