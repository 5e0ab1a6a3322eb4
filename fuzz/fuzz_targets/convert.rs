//! A folder of Hugging Face as a model file.
#![no_main]

use qembed_fuzz::{Folder, json_names, scratch};
use qembed_q::gguf::Gguf;
use qembed_q::{Convert, Level, Quantize, convert};

libfuzzer_sys::fuzz_target!(|input: (Folder, u8, bool)| {
    let (folder, level, allow) = input;
    let output = scratch().join("converted.gguf");
    let quantize = Quantize {
        level: Level::ALL[usize::from(level) % Level::ALL.len()],
        choose: &|_| None,
        threads: 1,
        force: true,
        progress: &|_, _| (),
    };
    let allow = if allow { json_names() } else { Vec::new() };
    let options = Convert { quantize, allow: &allow, note: &|_| () };
    match convert(&folder.write(), &output, &options) {
        Ok(()) => {
            let gguf = Gguf::open(&output).expect("what was written can be read");
            qembed_models::Config::read(&gguf).expect("hyperparameters of our own file");
        }
        Err(error) => drop(error.to_string()),
    }
});
