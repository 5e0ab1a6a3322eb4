//! A folder of Hugging Face as a model file.
#![no_main]

use qembed_fuzz::{Folder, json_names, scratch};
use qembed_q::gguf::Gguf;
use qembed_q::{Convert, ConvertNote, Level, Quantize, convert};

libfuzzer_sys::fuzz_target!(|input: (Folder, u8, bool)| {
    let (folder, level, allow) = input;
    let output = scratch().join("converted.gguf");
    let mut quantize = Quantize::new(Level::ALL[usize::from(level) % Level::ALL.len()]);
    (quantize.threads, quantize.force) = (1, true);
    let allow = if allow { json_names() } else { Vec::new() };
    let note = |note: &ConvertNote| drop(note.to_string());
    let mut options = Convert::new(quantize);
    options.allow = &allow;
    options.note = Some(&note);
    match convert(&folder.write(), &output, &options) {
        Ok(()) => {
            let gguf = Gguf::open(&output).expect("what was written can be read");
            qembed_models::Config::read(&gguf).expect("hyperparameters of our own file");
        }
        Err(error) => drop(error.to_string()),
    }
});
