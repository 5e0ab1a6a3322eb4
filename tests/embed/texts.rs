//! What the model sees of a text: instructions, the context's limit, nothing at all, another tokenizer.

use crate::common::{SHAPE, model, scratch};
use crate::{embed, open, text};
use qembed_q::{DEFAULT_TASK, EmbedOptions, Embedder, Empty, Error, InstructionError, LoadOptions, Prompt, Truncate};
use serde_json::json;
use std::path::Path;

#[test]
fn a_query_is_its_instruction_and_text_without_a_space_between() {
    let embedder = open(&model(SHAPE, "F16"), None, 1);
    let with = |prompt: Prompt| EmbedOptions::default().prompt(prompt);
    let document = |text: &str| embed(&embedder, &[text], &EmbedOptions::default());
    let query = embed(&embedder, &["what?"], &with(Prompt::Query));
    let by_hand = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:what?";
    assert_eq!(query, document(by_hand));
    assert_eq!(query, embed(&embedder, &["what?"], &with(Prompt::Instruct(DEFAULT_TASK.into()))));
    assert_eq!(
        embed(&embedder, &[" x"], &with(Prompt::Instruct("Find\nit".into()))),
        document("Instruct: Find\nit\nQuery: x")
    );
    assert_ne!(query, document("what?"));
}

#[test]
fn a_text_over_the_context_is_an_error_or_is_cut_where_asked() {
    let embedder = open(&model(SHAPE, "F16"), None, 1);
    let limit = embedder.max_tokens();
    assert_eq!(limit, 400);
    let (fits, long) = (text(limit - 1, 0), text(limit + 50, 1));
    let default = EmbedOptions::default();
    assert_eq!(embed(&embedder, &[&fits], &default).tokens(), [limit]);

    let error = embedder.embed(&["a", &fits, &long], &default).unwrap_err();
    assert!(matches!(error, Error::TooLong { text: 2, tokens: 451, limit: 400 }), "{error:?}");
    for words in ["text 3 ", "451 tokens", "limit is 400"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = embedder.embed(&[&text(limit, 0)], &default).unwrap_err();
    assert!(matches!(error, Error::TooLong { text: 0, tokens: 401, limit: 400 }), "{error:?}");

    let cut = |end: Truncate, prompt: Prompt| EmbedOptions::default().truncate(end).prompt(prompt);
    for end in [Truncate::Left, Truncate::Right] {
        let options = cut(end, Prompt::Document);
        let kept = match end {
            Truncate::Left => &long[long.len() - (limit - 1)..],
            Truncate::Right => &long[..limit - 1],
        };
        assert_eq!(embed(&embedder, &[&long], &options), embed(&embedder, &[kept], &default), "{end:?}");
        // What fits is not touched.
        assert_eq!(embed(&embedder, &[&fits], &options), embed(&embedder, &[&fits], &default));

        // An instruction stays, whichever end is cut.
        let prefix = "Instruct: T\nQuery:";
        let room = limit - 1 - prefix.len();
        let kept = match end {
            Truncate::Left => &long[long.len() - room..],
            Truncate::Right => &long[..room],
        };
        let options = cut(end, Prompt::Instruct("T".into()));
        let expected = embed(&embedder, &[&format!("{prefix}{kept}")], &default);
        assert_eq!(embed(&embedder, &[&long], &options), expected, "{end:?}");

        // And one that leaves no room for the text is an error, not a vector of the instruction.
        for task in [text(limit, 2), text(limit - 1 - "Instruct: \nQuery:".len(), 3)] {
            let error = embedder.embed(&["abc"], &cut(end, Prompt::Instruct(task))).unwrap_err();
            assert!(matches!(error, Error::InstructionTooLong { limit: 400, .. }), "{error:?}");
        }
    }
}

/// Whatever is wrong with an instruction, it is never the first text that is named.
#[test]
fn an_instruction_that_cannot_be_used_is_named_itself() {
    let path = model(SHAPE, "F16");
    let embedder = open(&path, None, 1);
    let with = |task: String| EmbedOptions::default().prompt(Prompt::Instruct(task));
    let own = "Instruct: \nQuery:".len();
    let limit = embedder.max_tokens();
    for tokens in [limit - 1, limit, limit + 100] {
        let error = embedder.embed(&["a"], &with(text(tokens - own, 0))).unwrap_err();
        assert!(matches!(error, Error::InstructionTooLong { tokens: t, limit: 400 } if t == tokens), "{error:?}");
    }
    assert_eq!(embedder.embed(&["a"], &with(text(limit - 2 - own, 0))).unwrap().tokens(), [limit]);

    let load = LoadOptions::default().memory_budget(embedder.memory().of_pass(100, 1));
    let embedder = Embedder::open_with(&path, &load).unwrap();
    let error = embedder.embed(&["a"], &with(text(99 - own, 0))).unwrap_err();
    let Error::Instruction(InstructionError::OverBudget { tokens: 99, limit: 100, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(error.to_string().starts_with("the instruction has 99 tokens") && error.text().is_none(), "{error}");
    assert_eq!(embedder.embed(&["a"], &with(text(98 - own, 0))).unwrap().tokens(), [100]);
    let error = embedder.embed(&["a", "bc"], &with(text(98 - own, 0))).unwrap_err();
    assert!(matches!(error, Error::OverBudget { text: 1, .. }) && error.text() == Some(1), "{error:?}");

    // And one with a token that the model does not know: `X` has the id 355.
    let mut json = swapped_tokenizer(&path, 100);
    json["model"]["vocab"]["<more355>"] = json!(u32::from(b'X'));
    json["model"]["vocab"]["X"] = json!(355);
    json["added_tokens"][0]["id"] = json!(256);
    json["model"]["vocab"]["<more256>"] = json!(356);
    let tokenizer = scratch("instruction").join("tokenizer.json");
    std::fs::write(&tokenizer, json.to_string()).unwrap();
    let load = LoadOptions::default().tokenizer(tokenizer);
    let error = Embedder::open_with(&path, &load).unwrap().embed(&["a"], &with("X".into())).unwrap_err();
    assert!(matches!(error, Error::Instruction(InstructionError::Vocabulary { token: 355, rows: 300 })), "{error:?}");
}

#[test]
fn an_empty_text_is_an_error_that_names_it() {
    let embedder = open(&model(SHAPE, "F16"), None, 1);
    for prompt in [Prompt::Document, Prompt::Query] {
        let options = EmbedOptions::default().prompt(prompt);
        let error = embedder.embed(&["a", "", "b"], &options).unwrap_err();
        assert!(matches!(error, Error::EmptyText { text: 1 }), "{error:?}");
        assert!(error.to_string().contains("text 2 is empty"), "{error}");
    }
    assert!(embed(&embedder, &[], &EmbedOptions::default()).is_empty());
    // Blanks and look-alikes of special tokens are text.
    let texts = [" ", "\n", "\0", "<|endoftext|>", "<|im_start|>"];
    let vectors = embed(&embedder, &texts, &EmbedOptions::default());
    assert_eq!(vectors.tokens(), texts.map(|text| text.len() + 1));
}

#[test]
fn an_empty_text_has_the_vector_of_the_end_token_where_asked() {
    let embedder = open(&model(SHAPE, "F16"), None, 1);
    let with = |prompt: Prompt| EmbedOptions::default().prompt(prompt).empty(Empty::EndToken);
    let vectors = embed(&embedder, &["a", "", "b", ""], &with(Prompt::Document));
    assert_eq!(vectors.tokens(), [2, 1, 2, 1]);
    assert!(vectors[1] == vectors[3] && vectors[1] != vectors[0]);
    assert_eq!(vectors[0], embed(&embedder, &["a"], &EmbedOptions::default())[0]);
    assert_eq!(embed(&embedder, &[""], &with(Prompt::Document))[0], vectors[1]);
    // After an instruction: what a text of nothing but that gets.
    let query = embed(&embedder, &["", "a"], &with(Prompt::Instruct("T".into())));
    assert_eq!(query[0], embed(&embedder, &["Instruct: T\nQuery:"], &EmbedOptions::default())[0]);
}

/// `tokenizer.json` of a vocabulary of bytes in which `a` and `b` have changed places.
fn swapped_tokenizer(model: &Path, more_tokens: usize) -> serde_json::Value {
    let gguf = qembed_q::gguf::Gguf::open(model).unwrap();
    let tokens = gguf.require_array("tokenizer.ggml.tokens").unwrap();
    let tokens: Vec<_> = tokens.iter_str().unwrap().map(|token| token.unwrap().to_owned()).collect();
    let mut vocab: serde_json::Map<_, _> =
        tokens[..256].iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    vocab.insert("a".into(), usize::from(b'b').into());
    vocab.insert("b".into(), usize::from(b'a').into());
    let end = 256 + more_tokens;
    vocab.extend((256..end).map(|id| (format!("<more{id}>"), id.into())));
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    serde_json::json!({
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "use_regex": false },
        ] },
        "added_tokens": [{ "id": end, "content": "<|endoftext|>", "special": true }],
    })
}

#[test]
fn a_tokenizer_json_counts_only_when_asked_for() {
    let folder = scratch("tokenizer_json");
    let path = folder.join("model.gguf");
    std::fs::copy(model(SHAPE, "F16"), &path).unwrap();
    let own = open(&path, None, 1);
    let json = folder.join("tokenizer.json");
    let asked = |text: String| {
        std::fs::write(&json, text).unwrap();
        Embedder::open_with(&path, &LoadOptions::default().tokenizer(json.clone()))
    };
    let other = asked(swapped_tokenizer(&path, 0).to_string()).unwrap();
    let default = EmbedOptions::default();
    assert_eq!(embed(&other, &["abc a", "xyz"], &default), embed(&own, &["bac b", "xyz"], &default));
    assert_ne!(embed(&other, &["abc a"], &default), embed(&own, &["abc a"], &default));
    assert_eq!(embed(&open(&path, None, 1), &["abc a"], &default), embed(&own, &["abc a"], &default));

    // One that belongs to a larger model: its end of text has no embedding.
    let error = asked(swapped_tokenizer(&path, 100).to_string()).unwrap().embed(&["abc"], &default).unwrap_err();
    assert!(matches!(error, Error::Vocabulary { text: 0, token: 356, rows: 300 }), "{error:?}");
    assert!(error.to_string().contains("another model"), "{error}");

    // A broken one is an error where it is asked for, and no trouble elsewhere.
    let error = asked("{".into()).err().unwrap();
    assert!(matches!(error, Error::Tokenizer(_)) && error.to_string().contains("tokenizer.json"), "{error}");
    assert_eq!(embed(&open(&path, None, 1), &["abc a"], &default), embed(&own, &["abc a"], &default));
}
