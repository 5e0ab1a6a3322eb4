//! The built-in model as bytes in memory, wherever they happen to lie.

use bytes::Bytes;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_models::gguf::Gguf;
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{Batch, Qwen3, builtin};

fn vector(gguf: &Gguf, isa: &'static Isa) -> Vec<u32> {
    let tokens = Tokenizer::from_gguf(gguf).unwrap().encode_for_embedding("Bytes at any address").unwrap();
    let model = Qwen3::load(gguf, CpuBackend::new(isa, 1), &[]).unwrap();
    model.forward(&Batch::new(&[&tokens])).unwrap().iter().map(|x| x.to_bits()).collect()
}

/// Nothing but luck aligns bytes that are part of a program.
#[test]
fn alignment_does_not_matter() {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/builtin/qembed-builtin-q8_0.gguf")).unwrap();
    for isa in Isa::all() {
        let expected = vector(&builtin().unwrap(), isa);
        for offset in [0, 1, 2, 4, 7, 32] {
            let bytes = Bytes::from([&vec![0; offset][..], &file].concat()).slice(offset..);
            assert_eq!(vector(&Gguf::from_bytes(bytes).unwrap(), isa), expected, "{} at {offset}", isa.name);
        }
    }
}

#[test]
fn its_own_tokenizer_has_nothing_to_complain_about() {
    let gguf = builtin().unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    assert_eq!(tokenizer.warnings(), [""; 0]);
    assert_eq!(gguf.require_tensor("token_embd.weight").unwrap().shape.rows(), tokenizer.vocab_size());
    // Ordinary words are whole tokens.
    assert_eq!(tokenizer.encode("list the files of this directory").unwrap().len(), 6);
}
