//! The tokenizer on Qwen's vocabulary: llama.cpp's test cases, known ids, the reference implementation, and very long texts.
//!
//! `scripts/get_vocabulary.py` gets the files; the feature `qwen-vocabulary` turns these tests on.

use proptest::prelude::*;
use qembed_models::tokenizer::{SpecialTokens, Tokenizer};
use std::fs;
use std::time::{Duration, Instant};

mod cl100k;
mod files;
#[path = "../reference_tokenizer/mod.rs"]
mod reference_tokenizer;

use files::{file, path, vocabulary};
use reference_tokenizer::reference;

/// Cases in which NFC changes the text, so that llama.cpp, which does not normalize, gives other ids: there are none
/// (the accents of `Cửa Việt` are composed there already). [`known_ids`] has such a text.
const NFC_CASES: [&str; 0] = [];

#[test]
fn llama_cpp_cases() {
    let tokenizer = Tokenizer::from_gguf(&file()).unwrap();
    let texts = fs::read_to_string(path("ggml-vocab-qwen2.gguf.inp")).unwrap();
    let ids = fs::read_to_string(path("ggml-vocab-qwen2.gguf.out")).unwrap();
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<&str> = ids.lines().collect();
    // The file of texts ends with a separator that no case follows.
    assert!(
        ids.len() > 40 && (ids.len() == texts.len() || ids.len() + 1 == texts.len()),
        "{} {}",
        texts.len(),
        ids.len()
    );
    let differing: Vec<&str> = texts
        .into_iter()
        .zip(ids)
        .filter(|(text, ids)| {
            let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
            tokenizer.encode(text).unwrap() != ids
        })
        .map(|(text, _)| text)
        .collect();
    assert_eq!(differing, NFC_CASES);
}

#[test]
fn known_ids() {
    let tokenizer = Tokenizer::from_gguf(&file()).unwrap();
    assert_eq!(tokenizer.eos(), 151643);
    assert_eq!(tokenizer.vocab_size(), 151936);
    assert_eq!(tokenizer.encode_for_embedding("test").unwrap(), [1944, 151643]);
    assert_eq!(tokenizer.encode_for_embedding("test again").unwrap(), [1944, 1549, 151643]);
    assert_eq!(tokenizer.encode_for_embedding("").unwrap(), [151643]);
    // NFC: e and a combining acute accent are é.
    assert_eq!(tokenizer.encode("cafe\u{301}").unwrap(), tokenizer.encode("café").unwrap());
}

#[test]
fn special_tokens_are_text_unless_parsed() {
    let tokenizer = Tokenizer::from_gguf(&file()).unwrap();
    for (text, id) in [("<|endoftext|>", 151643), ("<|im_start|>", 151644), ("<|im_end|>", 151645)] {
        let plain = tokenizer.encode(text).unwrap();
        assert!(plain.len() > 1 && !plain.contains(&id), "{text}: {plain:?}");
        assert_eq!(tokenizer.encode_with(text, SpecialTokens::Parse).unwrap(), [id]);
        let ids = tokenizer.encode_for_embedding(&format!("test{text}")).unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == 151643).count(), 1);
        assert_eq!(ids.last(), Some(&151643));
    }
    let parsed = tokenizer.encode_with("test<|im_end|>test<|endoftext|>", SpecialTokens::Parse).unwrap();
    assert_eq!(parsed, [1944, 151645, 1944, 151643]);
}

#[test]
fn same_as_the_reference_on_generated_text() {
    let file = file();
    let ours = Tokenizer::from_gguf(&file).unwrap();
    let mut theirs = reference(&vocabulary(&file));
    let words = "(the|Gravity| I'll|'RE|\t\n  |   |\r\n|中文分词|引力|ひらがな|한국어|e\u{301}|\u{1100}\u{1161}\u{11a8}|\
                 привет|مرحبا|नमस्ते|👩\u{200d}👩\u{200d}👧|12345|½|!!!|<\\|im_end\\|>|<\\|endoftext\\|>|\\[PAD151646\\]|\
                 \u{212b}|\u{1e9b}\u{323}|\u{338}|fn main\\(\\) \\{|https://example.org/?q=1|\\PC|.){0,20}";
    let long = "[a-zA-Z]{60,300}|[\u{4e00}-\u{9fa5}]{20,200}|[ab]{60,80}|-{60,200}";
    for special in [SpecialTokens::AsText, SpecialTokens::Parse] {
        theirs.set_encode_special_tokens(special == SpecialTokens::AsText);
        proptest!(ProptestConfig::with_cases(2000), |(text in prop_oneof![4 => words, 1 => long])| {
            let expected = theirs.encode(&*text, false).unwrap();
            let ids = ours.encode_with(&text, special).unwrap();
            prop_assert_eq!(&ids, expected.get_ids());
            let decoded = String::from_utf8(ours.decode(&ids, false).unwrap()).unwrap();
            prop_assert_eq!(&decoded, &theirs.decode(&ids, false).unwrap());
            let spans = ours.spans(&text, special).unwrap();
            prop_assert_eq!(&ids, &spans.iter().map(|span| span.id).collect::<Vec<_>>());
            if decoded == text {
                let places: Vec<_> = spans.iter().map(|span| (span.bytes.start, span.bytes.end)).collect();
                prop_assert_eq!(&places[..], expected.get_offsets());
            }
        });
    }
}

#[test]
fn a_megabyte_without_a_break_takes_no_time() {
    let tokenizer = Tokenizer::from_gguf(&file()).unwrap();
    let megabyte = |unit: &str| unit.repeat((1 << 20) / unit.len());
    for unit in
        ["a", "引力", " ", " \n", "\t", "!", "<", "<|im_start|>", "'", "e\u{301}", "\u{301}\u{323}", "가", "7", "ab"]
    {
        let start = Instant::now();
        for special in [SpecialTokens::AsText, SpecialTokens::Parse] {
            assert!(!tokenizer.encode_with(&megabyte(unit), special).unwrap().is_empty());
        }
        // Seconds in a debug build; a quadratic step would take minutes.
        assert!(start.elapsed() < Duration::from_secs(20), "{unit:?} took {:?}", start.elapsed());
    }
    // Blanks before a word: the reference's regex engine gives up here and returns other tokens.
    let ids = tokenizer.encode(&format!("{}test again", megabyte(" ") + &megabyte(" "))).unwrap();
    assert_eq!(ids[ids.len() - 2..], tokenizer.encode(" test again").unwrap());
}
