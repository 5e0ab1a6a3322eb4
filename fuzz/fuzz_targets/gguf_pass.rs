//! From a file's header to the first forward pass.
#![no_main]

use qembed_fuzz::{Ask, ModelFile, VOCABULARY, pass};

libfuzzer_sys::fuzz_target!(|input: (ModelFile, Ask)| pass(&input.0.bytes(VOCABULARY), &input.1));
