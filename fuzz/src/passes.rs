//! From a model file to vectors.

use crate::scratch;
use arbitrary::Arbitrary;
use qembed_models::not_understood;
use qembed_q::gguf::{Access, Gguf};
use qembed_q::{EmbedOptions, Embedder, Empty, Isa, LoadOptions, Prompt, Truncate, verify};

/// Bytes of a text, so that an execution stays short.
const TEXT: usize = 40;

/// What is asked of a model.
#[derive(Arbitrary, Debug)]
pub struct Ask {
    isa: u8,
    read: bool,
    allow: bool,
    share_prefixes: bool,
    instruction: Option<String>,
    dimensions: Option<u8>,
    truncate: Option<bool>,
    empty: bool,
    verify: u8,
    texts: [String; 2],
}

/// Opens the file and embeds two texts; where there are vectors, they are those that each text has alone.
pub fn pass(file: &[u8], ask: &Ask) {
    let path = scratch().join("model.gguf");
    std::fs::write(&path, file).expect("room for a small file");
    let names = |gguf: Gguf| not_understood(&gguf).into_iter().map(|item| item.name).collect();
    let isas: Vec<&str> = Isa::all().map(|isa| isa.name).collect();
    let load = LoadOptions::default()
        .threads(1)
        .isa(isas[usize::from(ask.isa) % isas.len()].to_owned())
        .access(if ask.read { Access::Read } else { Access::Mapped })
        .memory_budget(256 << 20)
        .allow(Gguf::open(&path).ok().filter(|_| ask.allow).map(names).unwrap_or_default())
        .share_prefixes(ask.share_prefixes);
    // It embeds texts of its own, many times as long.
    if ask.verify % 16 == 1 {
        verify(&path, &load, None);
    }
    let embedder = match Embedder::open_with(&path, &load) {
        Ok(embedder) => embedder,
        Err(error) => return drop(error.to_string()),
    };
    embedder.warnings().for_each(drop);
    let options = EmbedOptions::default()
        .prompt(ask.instruction.as_ref().map_or(Prompt::Document, |task| Prompt::Instruct(short(task).into())))
        .dimensions(ask.dimensions.map(usize::from))
        .truncate(ask.truncate.map(|left| if left { Truncate::Left } else { Truncate::Right }))
        .empty(if ask.empty { Empty::EndToken } else { Empty::Refuse });
    let texts = ask.texts.each_ref().map(|text| short(text));
    let together = match embedder.embed(&texts, &options) {
        Ok(together) => together,
        Err(error) => return drop(error.to_string()),
    };
    for (i, text) in texts.iter().enumerate() {
        let alone = embedder.embed(&[text], &options).expect("a text that had a vector");
        let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&together[i]), bits(&alone[0]), "text {i}");
        let length: f64 = alone[0].iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-5, "a vector of length {}", length.sqrt());
    }
}

/// The beginning of a text.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT)]
}
