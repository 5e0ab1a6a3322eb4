//! The tokenizer on small vocabularies, beside the reference implementation. `qwen_vocabulary` has the real one.

use std::fs;

use proptest::prelude::*;
use qembed_models::tokenizer::{SpecialTokens, Tokenizer, TokenizerError, Vocabulary};

mod reference_tokenizer;
mod tiny_vocabulary;

use reference_tokenizer::reference;
use tiny_vocabulary::byte_level;

#[test]
fn shared_between_threads() {
    let tiny = byte_level(&["a b", "ab c"]);
    let tokenizer = Tokenizer::new(&tiny.vocabulary()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(tokenizer.encode("abcab").unwrap(), [258, 257]));
        }
    });
}

#[test]
fn a_vocabulary_of_bytes_encodes_every_text() {
    let tiny = byte_level(&[]);
    let tokenizer = Tokenizer::new(&tiny.vocabulary()).unwrap();
    let expected: Vec<u32> = "é 中!\0".bytes().map(u32::from).chain([256]).collect();
    assert_eq!(tokenizer.encode_for_embedding("é 中!\0").unwrap(), expected);
    assert!(tokenizer.warnings().is_empty());
}

#[test]
fn padding_and_user_defined_tokens() {
    let mut tiny = byte_level(&[]);
    tiny.push("<think>", 4);
    tiny.push("[PAD258]", 4);
    tiny.push("[PAD259]", 5);
    tiny.push("<|im_start|>", 3);
    let tokenizer = Tokenizer::new(&tiny.vocabulary()).unwrap();
    assert_eq!(tokenizer.encode("<think>").unwrap(), [257]);
    for text in ["[PAD258]", "[PAD259]", "<|im_start|>"] {
        assert_eq!(tokenizer.encode(text).unwrap().len(), text.len());
    }
    assert_eq!(tokenizer.encode_with("<|im_start|>", SpecialTokens::Parse).unwrap(), [260]);
}

#[test]
fn metadata_that_disagrees_is_a_warning() {
    let tiny = byte_level(&[]);
    let warnings = |eos, add_eos, add_bos| {
        let vocabulary = Vocabulary { eos, add_eos, add_bos, ..tiny.vocabulary() };
        let tokenizer = Tokenizer::new(&vocabulary).unwrap();
        assert_eq!(tokenizer.encode_for_embedding("a").unwrap(), [97, 256]);
        tokenizer.warnings().len()
    };
    assert_eq!(warnings(Some(256), Some(true), Some(false)), 0);
    assert_eq!(warnings(Some(7), None, None), 1);
    assert_eq!(warnings(Some(u32::MAX), None, None), 1);
    assert_eq!(warnings(Some(256), Some(false), Some(true)), 2);
}

#[test]
fn without_end_of_text_the_metadata_decides_but_never_for_im_end() {
    let mut tiny = byte_level(&[]);
    tiny.tokens[256] = "</s>".into();
    tiny.push("<|im_end|>", 3);
    let with_eos = |eos| Tokenizer::new(&Vocabulary { eos, ..tiny.vocabulary() });
    let tokenizer = with_eos(Some(256)).unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.warnings().len()), (256, 1));
    for eos in [None, Some(257), Some(9999)] {
        assert!(matches!(with_eos(eos), Err(TokenizerError::NoEndOfText)));
    }
}

#[test]
fn inconsistent_vocabularies_are_errors() {
    let error = |change: fn(&mut Vocabulary<'_>)| {
        let tiny = byte_level(&["a b"]);
        let mut vocabulary = tiny.vocabulary();
        change(&mut vocabulary);
        Tokenizer::new(&vocabulary).unwrap_err()
    };
    use TokenizerError as E;
    assert!(matches!(error(|v| v.model = "llama"), E::UnsupportedModel { model } if model == "llama"));
    assert!(matches!(error(|v| v.pre = "gpt-2"), E::UnsupportedPre { pre } if pre == "gpt-2"));
    assert!(matches!(error(|v| v.tokens.clear()), E::EmptyVocabulary));
    assert!(matches!(error(|v| v.token_types.truncate(9)), E::TokenTypes { tokens: 258, types: 9 }));
    assert!(matches!(error(|v| v.tokens[65] = "?!"), E::MissingByte { byte: 65 }));
    for malformed in ["", " ", "ab", "a ", " b", "a b c", "a  b"] {
        let tiny = byte_level(&["a b"]);
        let vocabulary = Vocabulary { merges: vec![malformed], ..tiny.vocabulary() };
        assert!(matches!(Tokenizer::new(&vocabulary), Err(E::MalformedMerge { index: 0, .. })), "{malformed:?}");
    }
    assert!(matches!(error(|v| v.merges.push("b xy")), E::DanglingMerge { index: 1, missing, .. } if missing == "bxy"));
    assert!(matches!(error(|v| v.tokens[257] = "zz"), E::DanglingMerge { index: 0, missing, .. } if missing == "ab"));
}

#[test]
fn repeated_tokens_and_merges_are_warnings() {
    let mut tiny = byte_level(&["a b"]);
    tiny.push("ab", 1);
    tiny.merges.push("a b".into());
    let tokenizer = Tokenizer::new(&tiny.vocabulary()).unwrap();
    assert_eq!(tokenizer.encode("ab").unwrap(), [258]);
    assert_eq!(tokenizer.warnings().len(), 2, "{:?}", tokenizer.warnings());
}

#[test]
fn tokenizer_json_gives_the_same_ids() {
    let mut tiny = byte_level(&["a b", "ab c", "Ġ t"]);
    tiny.push("<think>", 4);
    tiny.push("<|im_start|>", 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    reference(&tiny.vocabulary()).save(&path, false).unwrap();
    let from_json = Tokenizer::from_file(&path).unwrap();
    let from_gguf = Tokenizer::new(&tiny.vocabulary()).unwrap();
    assert_eq!((from_json.eos(), from_json.vocab_size()), (from_gguf.eos(), from_gguf.vocab_size()));
    for text in ["abc tabcab", "<think><|im_start|> the", "cafe\u{301}"] {
        for special in [SpecialTokens::AsText, SpecialTokens::Parse] {
            let ids = from_json.encode_with(text, special).unwrap();
            assert_eq!(ids, from_gguf.encode_with(text, special).unwrap());
        }
    }
    let json = fs::read_to_string(&path).unwrap();
    for (from, to, named) in [
        ("\"NFC\"", "\"NFKC\"", "normalizer"),
        ("\\\\p{N}|", "\\\\p{N}{1,3}|", "pre_tokenizer"),
        ("\"BPE\"", "\"Unigram\"", "model.type"),
        ("\"rstrip\":false", "\"rstrip\":true", "rstrip"),
        ("\"abc\":258", "\"abc\":100000", "100000"),
        ("\"abc\":258", "\"abc\":257", "same id"),
        ("}", "", "not JSON"),
    ] {
        assert!(json.contains(from), "{from} not in {json}");
        fs::write(&path, json.replace(from, to)).unwrap();
        let error = Tokenizer::from_file(&path).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("tokenizer.json"), "{named}: {error}");
    }
    let missing = Tokenizer::from_file(&folder.path().join("none.json"));
    assert!(matches!(missing, Err(TokenizerError::Read { .. })));
}

proptest! {
    #[test]
    fn scan_and_heap_merge_alike(text in "[abc]{0,200}") {
        // A text of letters is one piece; the reference has no second algorithm.
        let tiny = byte_level(&["b c", "a b", "ab a", "c c", "a a", "bc a", "aa a", "ab ab"]);
        let ours = Tokenizer::new(&tiny.vocabulary()).unwrap();
        let theirs = reference(&tiny.vocabulary()).encode_fast(&*text, false).unwrap();
        prop_assert_eq!(ours.encode(&text).unwrap(), theirs.get_ids());
    }

    #[test]
    fn no_vocabulary_makes_it_panic(
        tokens in prop::collection::vec("[ab<|>Ġ]{0,3}", 0..8),
        types in prop::collection::vec(-1..7i32, 0..270),
        merges in prop::collection::vec("[ab ]{0,4}", 0..8),
        eos in any::<Option<u32>>(),
    ) {
        let mut tiny = byte_level(&[]);
        for token in &tokens {
            tiny.push(token, 1);
        }
        tiny.merges = merges;
        for (to, from) in tiny.token_types.iter_mut().zip(types) {
            *to = from;
        }
        if let Ok(tokenizer) = Tokenizer::new(&Vocabulary { eos, ..tiny.vocabulary() }) {
            let ids = tokenizer.encode_for_embedding("abba <|a b").unwrap();
            prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        }
    }
}
