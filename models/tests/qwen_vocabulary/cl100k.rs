//! Ids of cl100k_base, as tiktoken makes them (`scripts/cl100k_fixtures.py`), read with the vocabulary of Qwen.

use crate::files::{file, vocabulary};
use qembed_models::tokenizer::{Cl100kError, Tokenizer, Vocabulary};
use serde_json::Value;

fn cases() -> Vec<(String, Vec<u32>)> {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../data/cl100k.json")).unwrap();
    let ids = |case: &Value| case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    cases.iter().map(|case| (case["text"].as_str().unwrap().to_owned(), ids(case))).collect()
}

#[test]
fn the_text_is_the_one_that_was_sent() {
    let tokenizer = Tokenizer::from_gguf(&file()).unwrap();
    let cases = cases();
    assert!(cases.len() >= 60 && cases.iter().map(|(_, ids)| ids.len()).sum::<usize>() > 3000);
    for (text, ids) in cases {
        assert_eq!(tokenizer.decode_cl100k(&ids).as_ref(), Ok(&text));
    }
    assert_eq!(tokenizer.decode_cl100k(&[]).unwrap(), "");
}

#[test]
fn a_character_that_was_cut_is_left_out() {
    let tokenizer = Tokenizer::from_gguf(&file()).unwrap();
    let mut cut = 0;
    for (text, ids) in cases() {
        // The long ones hold nothing that the others do not.
        for at in (1..ids.len()).filter(|_| ids.len() < 200) {
            let (start, end) = ids.split_at(at);
            let (start, end) = (tokenizer.decode_cl100k(start).unwrap(), tokenizer.decode_cl100k(end).unwrap());
            assert!(text.starts_with(&start) && text.ends_with(&end), "{text:?} at {at}: {start:?}, {end:?}");
            let between = &text[start.len()..text.len() - end.len()];
            assert!(between.chars().count() <= 1, "{text:?} at {at}: {between:?} is lost");
            cut += usize::from(!between.is_empty());
        }
    }
    assert!(cut > 50, "{cut}");
}

#[test]
fn what_is_no_text_is_an_error() {
    let tokenizer = Tokenizer::from_gguf(&file()).unwrap();
    let decode = |ids: &[u32]| tokenizer.decode_cl100k(ids);
    assert!(decode(&[100_255]).is_ok());
    // The end of a text, among others.
    for id in [100_256, 100_257, 100_276, 151_643, u32::MAX] {
        let error = decode(&[1296, id]).unwrap_err();
        assert_eq!(error, Cl100kError::UnknownToken { position: 1, id });
        assert!(error.to_string().starts_with(&format!("id 2 of the list is {id}: ")), "{error}");
    }
    // 1296 is ` test`, 222 the byte 0x80, and 161 is 0xE5.
    assert_eq!(decode(&[1296, 222, 1296]), Err(Cl100kError::NotText { position: 1 }));
    assert_eq!(decode(&[1296, 161, 222, 1296]), Err(Cl100kError::NotText { position: 1 }));
    assert_eq!(decode(&[1296, 161, 222]).unwrap(), " test", "a character that goes on");
    assert_eq!(decode(&[222, 222, 222, 1296]).unwrap(), " test");
    assert_eq!(decode(&[222, 222, 222, 222, 1296]), Err(Cl100kError::NotText { position: 3 }));
}

#[test]
fn one_token_that_differs_is_another_vocabulary() {
    let file = file();
    let qwen = vocabulary(&file);
    let with = |id: usize, token: &'static str| {
        let mut changed = Vocabulary { model: "gpt2", pre: "qwen2", merges: Vec::new(), ..qwen.clone() };
        changed.tokens[id] = token;
        Tokenizer::new(&changed).unwrap().decode_cl100k(&[0])
    };
    assert_eq!(with(99_155, "another"), Err(Cl100kError::OtherVocabulary));
    assert_eq!(with(99_156, "another"), Ok("!".into()), "cl100k_base ends before it");
    let mut short = Vocabulary { model: "gpt2", pre: "qwen2", merges: Vec::new(), eos: Some(0), ..qwen.clone() };
    short.tokens.truncate(99_155);
    short.token_types.truncate(99_155);
    assert_eq!(Tokenizer::new(&short).unwrap().decode_cl100k(&[0]), Err(Cl100kError::OtherVocabulary));
}
