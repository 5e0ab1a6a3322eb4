//! `tokenizer.json`, and text encoded by it. The text follows the file, after a byte of 0.
#![no_main]

use qembed_fuzz::tokenizer_json;
use qembed_models::tokenizer::{SpecialTokens, Tokenizer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (json, text) = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b"It's 3 caf\xc3\xa9s.<|im_start|>"[..]),
    };
    let tokenizer = match Tokenizer::from_json(&tokenizer_json(json)) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return drop(error.to_string()),
    };
    let text = String::from_utf8_lossy(text);
    for special in [SpecialTokens::AsText, SpecialTokens::Parse] {
        let tokens = tokenizer.encode_with(&text, special).expect("a short text");
        assert!(tokens.iter().all(|token| (*token as usize) < tokenizer.vocab_size()));
        assert_eq!(tokens.is_empty(), text.is_empty());
    }
});
