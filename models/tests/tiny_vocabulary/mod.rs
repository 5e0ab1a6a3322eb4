//! Small vocabularies that are complete: a token for every byte, `<|endoftext|>`, and whatever a test adds.

use qembed_models::tokenizer::Vocabulary;

/// Owner of the strings that a [`Vocabulary`] borrows.
pub(crate) struct Tiny {
    pub(crate) tokens: Vec<String>,
    pub(crate) token_types: Vec<i32>,
    pub(crate) merges: Vec<String>,
}

/// Ids 0 to 255 are the bytes in order, 256 is `<|endoftext|>`, and the results of `merges` follow.
pub(crate) fn byte_level(merges: &[&str]) -> Tiny {
    let mut tiny = Tiny { tokens: Vec::new(), token_types: Vec::new(), merges: Vec::new() };
    let mut others = '\u{100}'..;
    for byte in 0..=u8::MAX {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
        tiny.push(&if printable { char::from(byte) } else { others.next().unwrap() }.to_string(), 1);
    }
    tiny.push("<|endoftext|>", 3);
    for merge in merges {
        tiny.push(&merge.replace(' ', ""), 1);
        tiny.merges.push((*merge).into());
    }
    tiny
}

impl Tiny {
    pub(crate) fn push(&mut self, token: &str, token_type: i32) {
        self.tokens.push(token.into());
        self.token_types.push(token_type);
    }

    pub(crate) fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary {
            model: "gpt2",
            pre: "qwen2",
            tokens: self.tokens.iter().map(String::as_str).collect(),
            token_types: self.token_types.clone(),
            merges: self.merges.iter().map(String::as_str).collect(),
            ..Vocabulary::default()
        }
    }
}
