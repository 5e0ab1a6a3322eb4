//! The reader of GGUF files, in memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qembed_fuzz::walk(bytes));
