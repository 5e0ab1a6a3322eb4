//! Files at another level.
#![no_main]

use qembed_fuzz::{ModelFile, scratch};
use qembed_q::gguf::Gguf;
use qembed_q::{Format, Level, Quantize, quantize};

libfuzzer_sys::fuzz_target!(|input: (ModelFile, u8, Vec<Option<u8>>)| {
    let (file, level, formats) = input;
    let (from, to) = (scratch().join("in.gguf"), scratch().join("out.gguf"));
    std::fs::write(&from, file.bytes(3)).expect("room for a small file");
    let input = match Gguf::open(&from) {
        Ok(input) => input,
        Err(error) => return drop(error.to_string()),
    };
    let names: Vec<String> = input.tensors().map(|tensor| tensor.name.clone()).collect();
    let choose = |name: &str| {
        let i = names.iter().position(|other| other == name)?;
        let format = formats.get(i % formats.len().max(1)).copied().flatten()?;
        Some(Format::ALL[usize::from(format) % Format::ALL.len()])
    };
    let mut options = Quantize::new(Level::ALL[usize::from(level) % Level::ALL.len()]);
    (options.threads, options.force) = (1, true);
    options.choose = Some(&choose);
    match quantize(&input, &to, &options) {
        Ok(()) => {
            let output = Gguf::open(&to).expect("what was written can be read");
            assert!(output.tensors().map(|tensor| &tensor.name).eq(&names));
            for tensor in input.tensors() {
                assert_eq!(output.tensor_info(&tensor.name).map(|found| found.shape), Some(tensor.shape));
            }
        }
        Err(error) => drop(error.to_string()),
    }
});
