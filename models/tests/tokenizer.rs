//! The tokenizer on small vocabularies, beside the reference implementation. `qwen_vocabulary` has the real one.

use std::fs;

use proptest::prelude::*;
use qembed_models::tokenizer::{
    Cl100kError, SpecialTokens, TokenSpan, Tokenizer, TokenizerError, UnknownToken, Vocabulary,
};
use serde_json::{Value, json};

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
fn tokens_decode_to_their_bytes() {
    let mut tiny = byte_level(&["Ġ t", "å ¼"]);
    tiny.push("<think>", 4);
    tiny.push("<|é x|>", 3);
    tiny.push("not a byte’s", 1);
    let tokenizer = Tokenizer::new(&tiny.vocabulary()).unwrap();
    let decode = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
    assert_eq!(decode(&[]), b"");
    assert_eq!(decode(&[257, 258, u32::from(b'!'), 0xAD, 0]), b" t\xE5\xBC!\xAD\0");
    let ids = [97, 256, 259, 260, 261, 256];
    assert_eq!(decode(&ids), "a<|endoftext|><think><|é x|>not a byte’s<|endoftext|>".as_bytes());
    assert_eq!(
        tokenizer.decode(&ids, true).unwrap(),
        "a<think>not a byte’s".as_bytes(),
        "a word of the vocabulary stays"
    );
    assert_eq!(ids.map(|id| tokenizer.is_special(id)), [false, true, false, true, false, true]);
    let unknown = UnknownToken { position: 1, id: 262, tokens: 262 };
    assert_eq!((tokenizer.decode(&[97, 262], false), tokenizer.decode(&[97, 262], true)), (Err(unknown), Err(unknown)));
    assert_eq!(unknown.to_string(), "id 2 of the list is 262: the vocabulary has 262 tokens, from 0 on");
    assert!(tokenizer.decode(&[u32::MAX], false).is_err());
}

#[test]
fn ids_of_another_vocabulary_are_not_guessed() {
    let tokenizer = Tokenizer::new(&byte_level(&[]).vocabulary()).unwrap();
    assert_eq!(tokenizer.decode_cl100k(&[0]), Err(Cl100kError::OtherVocabulary));
}

#[test]
fn tokens_have_their_place() {
    let mut tiny = byte_level(&["Ġ t", "å ¼", "Ã ©"]);
    tiny.push("<think>", 4);
    tiny.push("<|im_start|>", 3);
    let tokenizer = Tokenizer::new(&tiny.vocabulary()).unwrap();
    let spans = |text, special| {
        let spans = tokenizer.spans(text, special).unwrap();
        spans.into_iter().map(|span| (span.id, &text[span.bytes])).collect::<Vec<_>>()
    };
    let byte = |byte: u8, text: &'static str| (u32::from(byte), text);
    // A character of two tokens is the place of both.
    let text = "a t<think>引e\u{301}b";
    let expected = [
        byte(b'a', "a"),
        (257, " t"),
        (260, "<think>"),
        (258, "引"),
        byte(0x95, "引"),
        (259, "e\u{301}"),
        byte(b'b', "b"),
    ];
    assert_eq!(spans(text, SpecialTokens::AsText), expected);
    assert_eq!(spans("", SpecialTokens::AsText), []);
    assert_eq!(spans("é<|im_start|>", SpecialTokens::Parse), [(259, "é"), (261, "<|im_start|>")]);
    assert_eq!(spans("<|im_start|>", SpecialTokens::AsText).len(), 12);
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

#[test]
fn merges_as_strings_and_as_pairs_are_the_same() {
    let tiny = byte_level(&["a b", "ab c", "Ġ t"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    reference(&tiny.vocabulary()).save(&path, false).unwrap();
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut with = |merges: &[Value]| {
        json["model"]["merges"] = merges.into();
        fs::write(&path, json.to_string()).unwrap();
        Tokenizer::from_file(&path)
    };
    let pairs = [json!(["a", "b"]), json!(["ab", "c"]), json!(["Ġ", "t"])];
    // As files were written until 2024.
    let strings = [json!("a b"), json!("ab c"), json!("Ġ t")];
    for merges in [&pairs, &strings] {
        assert_eq!(with(merges).unwrap().encode("abc tab").unwrap(), [258, 259, 257], "{merges:?}");
    }
    let no_pairs = [json!([]), json!(["a"]), json!(["a", "b", "c"]), json!(["a", 7]), json!(7), json!(null), json!({})];
    for wrong in no_pairs {
        let error = with(&[pairs[0].clone(), wrong.clone()]).unwrap_err().to_string();
        assert!(error.contains(&format!("merge 1 is {wrong},")) && error.contains("tokenizer.json"), "{error}");
    }
    // What is not seen in the file is seen in what comes of it.
    for wrong in [json!("abc"), json!("ab  c"), json!("a b c"), json!(["a b", "c"]), json!(["", "abc"])] {
        let error = with(&[pairs[0].clone(), wrong.clone()]).unwrap_err();
        assert!(matches!(error, TokenizerError::MalformedMerge { index: 1, .. }), "{wrong}: {error}");
    }
}

/// Text with what makes bytes, tokens and characters differ: merges of the vocabulary below, characters of several bytes, some that
/// NFC changes or reorders, and added tokens.
const TEXTS: &str = "(a|b|ab| t|<think>|<\\|im_start\\|>|é|引|😀|e\u{301}|é\u{323}|\u{301}|\u{1100}\u{1161}\u{11a8}|\u{958}|\u{212b}|\\PC|.){0,24}";

fn vocabulary_for_texts() -> tiny_vocabulary::Tiny {
    let mut tiny = byte_level(&["Ġ t", "å ¼", "Ã ©", "a b", "ê °"]);
    tiny.push("<think>", 4);
    tiny.push("<|im_start|>", 3);
    tiny
}

proptest! {
    #[test]
    fn what_was_encoded_decodes_to_the_normalized_text(text in TEXTS, parse in any::<bool>()) {
        let tokenizer = Tokenizer::new(&vocabulary_for_texts().vocabulary()).unwrap();
        let special = if parse { SpecialTokens::Parse } else { SpecialTokens::AsText };
        let ids = tokenizer.encode_with(&text, special).unwrap();
        let decoded = String::from_utf8(tokenizer.decode(&ids, false).unwrap()).unwrap();
        // The normal form is that of the reference; between added tokens, each segment has its own.
        let mut reference = reference(&vocabulary_for_texts().vocabulary());
        reference.set_encode_special_tokens(!parse);
        let expected = reference.encode_fast(&*text, false).unwrap();
        prop_assert_eq!(&reference.decode(expected.get_ids(), false).unwrap(), &decoded);
        prop_assert_eq!(ids, expected.get_ids());
    }

    #[test]
    fn places_are_those_of_the_reference_and_cover_the_text(text in TEXTS) {
        let tokenizer = Tokenizer::new(&vocabulary_for_texts().vocabulary()).unwrap();
        let spans = tokenizer.spans(&text, SpecialTokens::AsText).unwrap();
        let ids: Vec<u32> = spans.iter().map(|span| span.id).collect();
        prop_assert_eq!(&ids, &tokenizer.encode(&text).unwrap());
        let mut covered = 0;
        for TokenSpan { bytes, .. } in &spans {
            prop_assert!(bytes.start <= covered && bytes.end >= covered && text.get(bytes.clone()).is_some());
            covered = bytes.end;
        }
        prop_assert_eq!(covered, text.len());
        // Of a character that it composed, the reference knows the first part only.
        let mut reference = reference(&vocabulary_for_texts().vocabulary());
        reference.set_encode_special_tokens(true);
        let expected = reference.encode(&*text, false).unwrap();
        if String::from_utf8(tokenizer.decode(&ids, false).unwrap()).unwrap() == text {
            let places: Vec<_> = spans.iter().map(|span| (span.bytes.start, span.bytes.end)).collect();
            prop_assert_eq!(&places[..], expected.get_offsets());
        }
    }

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
            prop_assert!(tokenizer.decode(&ids, false).is_ok());
            tokenizer.spans("abba <|a b", SpecialTokens::Parse).unwrap();
        }
    }
}
