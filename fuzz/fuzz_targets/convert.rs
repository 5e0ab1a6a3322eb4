//! A folder of Hugging Face as a model file.
#![no_main]

use qembed_fuzz::{Folder, scratch};
use qembed_q::gguf::Gguf;
use qembed_q::{Level, Quantize, convert};

libfuzzer_sys::fuzz_target!(|input: (Folder, u8)| {
    let (folder, level) = input;
    let output = scratch().join("converted.gguf");
    let options = Quantize {
        level: Level::ALL[usize::from(level) % Level::ALL.len()],
        choose: &|_| None,
        threads: 1,
        force: true,
        progress: &|_, _| (),
    };
    match convert(&folder.write(), &output, &options) {
        Ok(()) => {
            let gguf = Gguf::open(&output).expect("what was written can be read");
            qembed_models::Config::read(&gguf).expect("hyperparameters of our own file");
        }
        Err(error) => drop(error.to_string()),
    }
});
