//! The promises of the library: exact, whole, safe.

mod common;

use common::{Parts, SHAPE, SHAPE_K, bits, model, scratch};
use qembed_q::{
    Control, DEFAULT_TASK, EmbedOptions, Embedder, Embeddings, Empty, Error, InstructionError, Isa, LoadOptions,
    Prompt, Truncate,
};
use serde_json::json;
use std::path::Path;

fn open(path: &Path, isa: Option<&str>, threads: usize) -> Embedder {
    Embedder::open_with(path, &LoadOptions::default().threads(threads).isa(isa.map(str::to_owned))).unwrap()
}

fn embed(embedder: &Embedder, texts: &[&str], options: &EmbedOptions) -> Embeddings {
    embedder.embed(texts, options).unwrap()
}

/// A text of `len` bytes, so many tokens; `salt` tells texts of one length apart.
fn text(len: usize, salt: usize) -> String {
    (0..len).map(|i| char::from(b' ' + ((i * 7 + i * i * 3 + salt * 11) % 95) as u8)).collect()
}

/// 33 texts of mixed lengths: several of one length, twice the same, one byte, and the edges of every kernel's tiles.
fn mixed_texts() -> Vec<String> {
    let lengths = [
        1, 7, 31, 32, 33, 15, 40, 40, 40, 40, 63, 64, 65, 2, 3, 16, 17, 90, 5, 5, 1, 8, 30, 30, 47, 48, 49, 129, 12,
        24, 36,
    ];
    let mut texts: Vec<_> = lengths.iter().enumerate().map(|(i, len)| text(*len, i)).collect();
    texts.push(texts[6].clone());
    texts.push(texts[27].clone());
    assert_eq!(texts.len(), 33);
    texts
}

/// A permutation that moves nearly everything: i → 5i + 3 mod n, for n without the divisor 5.
fn permuted(i: usize, n: usize) -> usize {
    (5 * i + 3) % n
}

#[test]
fn a_vector_has_the_same_bits_alone_and_in_any_batch_order_and_thread_count() {
    let texts = mixed_texts();
    let options = EmbedOptions::default();
    for level in ["Q4_K_M", "Q8_0", "F16"] {
        let path = model(SHAPE_K, level);
        for isa in Isa::all() {
            let one = open(&path, Some(isa.name), 1);
            assert_eq!((one.isa(), one.threads()), (isa.name, 1));
            let alone: Vec<_> = texts.iter().map(|text| bits(&one.embed(&[text], &options).unwrap()[0])).collect();
            let permutation: Vec<usize> = (0..texts.len()).map(|i| permuted(i, texts.len())).collect();
            let shuffled: Vec<&String> = permutation.iter().map(|i| &texts[*i]).collect();
            for threads in 1..=3 {
                let embedder = open(&path, Some(isa.name), threads);
                let together = embedder.embed(&texts, &options).unwrap();
                assert_eq!(together.len(), texts.len());
                for (i, expected) in alone.iter().enumerate() {
                    assert_eq!(&bits(&together[i]), expected, "{level} {} {threads} threads, text {i}", isa.name);
                    assert_eq!(together.tokens()[i], texts[i].len() + 1);
                }
                if threads == 2 {
                    let shuffled = embedder.embed(&shuffled, &options).unwrap();
                    for (at, i) in permutation.iter().enumerate() {
                        assert_eq!(bits(&shuffled[at]), alone[*i], "{level} {} shuffled, text {i}", isa.name);
                    }
                }
            }
            // Texts differ, and so do their vectors: else all of the above would say nothing.
            let mut distinct = alone.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), texts.len() - 2, "{level} {}", isa.name);
        }
    }
}

/// A forward pass takes 1024 tokens, so these need several, one of them for a text that is longer by itself.
#[test]
fn texts_that_take_several_passes_keep_their_order_and_bits() {
    let embedder = open(&model(SHAPE_K, "Q8_0"), None, 2);
    let texts: Vec<_> =
        [350, 350, 300, 22, 1, 1023, 1024, 300, 1400, 5, 5].iter().enumerate().map(|(i, len)| text(*len, i)).collect();
    let together = embedder.embed(&texts, &EmbedOptions::default()).unwrap();
    for (i, text) in texts.iter().enumerate() {
        let alone = embedder.embed(&[text], &EmbedOptions::default()).unwrap();
        assert_eq!(bits(&alone[0]), bits(&together[i]), "text {i}");
        assert_eq!(together.tokens()[i], text.len() + 1);
    }
}

#[test]
fn callers_on_several_threads_get_the_same_bits() {
    fn shareable<T: Send + Sync>() {}
    shareable::<Embedder>();
    shareable::<Embeddings>();
    shareable::<Error>();

    let embedder = open(&model(SHAPE_K, "Q4_K_M"), None, 2);
    let texts = mixed_texts();
    let expected = embedder.embed(&texts, &EmbedOptions::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (embedder, texts, expected) = (&embedder, &texts, &expected);
            scope.spawn(move || {
                for i in (thread..texts.len()).step_by(4) {
                    let vectors =
                        embedder.embed(&texts[i..(i + 2).min(texts.len())], &EmbedOptions::default()).unwrap();
                    assert_eq!(bits(&vectors[0]), bits(&expected[i]), "thread {thread}, text {i}");
                }
            });
        }
    });
}

#[test]
fn vectors_have_length_one_and_are_cut_before_they_are_normalized() {
    let embedder = open(&model(SHAPE, "F16"), None, 1);
    assert_eq!(embedder.dimensions(), 64);
    let whole = embed(&embedder, &["abc", "重力"], &EmbedOptions::default());
    for dimensions in [32, 33, 63, 64] {
        let options = EmbedOptions::default().dimensions(dimensions);
        let cut = embed(&embedder, &["abc", "重力"], &options);
        assert_eq!((cut.dimensions(), cut.len(), cut.as_flat().len()), (dimensions, 2, 2 * dimensions));
        for (cut, whole) in cut.iter().zip(whole.iter()) {
            let length = |vector: &[f32]| vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            // Each value is rounded once, by at most 2^-24 of itself.
            assert!((length(cut) - 1.0).abs() < 1e-7, "{dimensions}: {}", length(cut));
            let expected = length(&whole[..dimensions]);
            // Two such roundings on each side.
            for (cut, whole) in cut.iter().zip(whole) {
                let expected = f64::from(*whole) / expected;
                assert!((f64::from(*cut) - expected).abs() <= 4.0 * 2f64.powi(-24) * expected.abs());
            }
        }
        assert_eq!(dimensions == 64, bits(&cut[0]) == bits(&whole[0]));
    }
}

#[test]
fn vectors_that_are_not_normalized_are_the_states_that_the_others_are_made_of() {
    let embedder = open(&model(SHAPE, "F16"), None, 1);
    let texts = ["abc", "重力"];
    let states = embed(&embedder, &texts, &EmbedOptions::default().normalize(false));
    for dimensions in [32, 64] {
        let options = EmbedOptions::default().dimensions(dimensions);
        let cut = embed(&embedder, &texts, &options.clone().normalize(false));
        let vectors = embed(&embedder, &texts, &options);
        for i in 0..texts.len() {
            assert_eq!(bits(&cut[i]), bits(&states[i][..dimensions]));
            let length = cut[i].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() > 0.1, "{length}: normalized or not is the same");
            let unit: Vec<f32> = cut[i].iter().map(|x| (f64::from(*x) / length) as f32).collect();
            assert_eq!(bits(&unit), bits(&vectors[i]));
        }
    }
}

#[test]
fn dimensions_that_cannot_be_had_are_errors() {
    let embedder = open(&model(SHAPE, "F16"), None, 1);
    for asked in [0, 1, 31, 65, usize::MAX] {
        let options = EmbedOptions::default().dimensions(asked);
        let error = embedder.embed(&["a"], &options).unwrap_err();
        assert!(matches!(error, Error::Dimensions { asked: a, min: 32, max: 64 } if a == asked), "{error:?}");
        assert!(error.to_string().contains("32 … 64"), "{error}");
    }
}

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

/// The vectors that a call gives before it fails, and its error.
fn given(embedder: &Embedder, texts: &[String], ordered: bool) -> (Vec<(usize, Vec<u32>)>, Error) {
    let mut given = Vec::new();
    let each = |i: usize, vector: &[f32], _: usize| given.push((i, bits(vector)));
    let (options, control) = (EmbedOptions::default(), Control::default());
    let error = match ordered {
        true => embedder.embed_each(texts, &options, &control, each),
        false => embedder.embed_unordered(texts, &options, &control, each),
    };
    (given, error.unwrap_err())
}

/// Who streams texts gets the vectors of all before the one that fails; who asks before gets the error at once.
#[test]
fn texts_before_one_that_fails_have_their_vectors() {
    let path = scratch("before").join("model.gguf");
    let mut parts = Parts::of(&model(SHAPE, "F16"));
    let embeddings = parts.tensor("token_embd.weight");
    let row = embeddings.data.len() / 300 * usize::from(b'!');
    embeddings.data[row..row + 2].copy_from_slice(&0x7e00u16.to_le_bytes()); // NaN
    parts.write(&path);
    let embedder = open(&path, None, 1);
    // Several passes and windows; those that fail stand first and last in the order in which passes are made.
    let good: Vec<String> = (0..10_000).map(|i| format!("{} {}", i * 7919 % 10_000, "y".repeat(i % 9))).collect();
    let expected = embedder.embed(&good, &EmbedOptions::default()).unwrap();
    for (bad, foreseen) in [("!", false), ("z!", false), (&"z".repeat(400)[..], true), ("", true)] {
        for at in [0, 1, 700, 9000] {
            let mut texts = good.clone();
            texts[at] = bad.to_owned();
            texts[9500] = "!".to_owned();
            let checked = embedder.check(&texts, &EmbedOptions::default());
            assert_eq!(checked.err().and_then(|error| error.text()), foreseen.then_some(at));
            for ordered in [true, false] {
                let (mut given, error) = given(&embedder, &texts, ordered);
                assert_eq!(error.text(), Some(at), "{error}");
                if !ordered {
                    given.sort();
                }
                assert!(given.iter().all(|(i, vector)| *vector == bits(&expected[*i])));
                assert!(given.iter().take(at).map(|(i, _)| *i).eq(0..at));
                assert!(!ordered || given.len() == at);
            }
        }
    }
}

#[test]
fn a_vector_that_is_not_finite_is_an_error() {
    let folder = scratch("not_finite");
    for (tensor, value) in [
        ("output_norm.weight", f32::NAN),
        ("output_norm.weight", f32::INFINITY),
        ("blk.0.attn_norm.weight", f32::NAN),
        ("blk.1.ffn_norm.weight", f32::NEG_INFINITY),
        ("blk.0.attn_q_norm.weight", f32::NAN),
        ("blk.1.ffn_norm.weight", 1e38), // finite, but what follows overflows
    ] {
        for level in ["F16", "Q8_0"] {
            let path = folder.join("model.gguf");
            let mut parts = Parts::of(&model(SHAPE, level));
            parts.tensor(tensor).data[8..12].copy_from_slice(&value.to_le_bytes());
            parts.write(&path);
            for isa in Isa::all() {
                let embedder = open(&path, Some(isa.name), 1);
                let result = embedder.embed(&["abcdef", "x"], &EmbedOptions::default());
                let what = format!("{level}, {tensor} = {value}, {}", isa.name);
                assert!(matches!(result, Err(Error::NonFinite { text: 0 })), "{what}: {result:?}");
            }
        }
    }
    // A vector without a direction has none to be normalized to.
    let path = folder.join("zero.gguf");
    let mut parts = Parts::of(&model(SHAPE, "F16"));
    parts.tensor("output_norm.weight").data.fill(0);
    parts.write(&path);
    let error = open(&path, None, 1).embed(&["abc"], &EmbedOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { text: 0 }), "{error:?}");
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

/// A file that is cut or written to under a mapping ends the work; one that is replaced does not, nor one that was read.
#[cfg(unix)]
#[test]
fn a_file_that_changes_under_the_work() {
    use qembed_q::gguf::{Access, GgufProblem};
    let folder = scratch("changes");
    let path = folder.join("model.gguf");
    let default = EmbedOptions::default();
    let fresh = |access| {
        std::fs::copy(model(SHAPE, "F16"), &path).unwrap();
        let embedder = Embedder::open_with(&path, &LoadOptions::default().access(access)).unwrap();
        let vectors = embed(&embedder, &["abc"], &default);
        (embedder, vectors)
    };
    let length = std::fs::metadata(model(SHAPE, "F16")).unwrap().len();
    let open_file = || std::fs::OpenOptions::new().write(true).open(&path).unwrap();

    let (embedder, _) = fresh(Access::Mapped);
    open_file().set_len(length - 1).unwrap();
    let error = embedder.embed(&["abc"], &default).unwrap_err();
    let Error::Gguf(problem) = &error else { panic!("{error:?}") };
    assert!(matches!(problem.problem(), GgufProblem::Changed) && problem.path() == path, "{error}");

    let (embedder, _) = fresh(Access::Mapped);
    open_file().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(matches!(embedder.embed(&["abc"], &default), Err(Error::Gguf(_))));

    let (embedder, vectors) = fresh(Access::Mapped);
    std::fs::write(folder.join("other"), "other").unwrap();
    std::fs::rename(folder.join("other"), &path).unwrap();
    assert_eq!(embed(&embedder, &["abc"], &default), vectors);

    let (embedder, vectors) = fresh(Access::Read);
    open_file().set_len(10).unwrap();
    assert_eq!(embed(&embedder, &["abc"], &default), vectors);
}

/// 32,000 tokens: a matrix of all scores of one head would be 4 GB.
#[test]
fn a_long_text_needs_memory_in_its_length_only() {
    let shape = "tiny,layers=1,hidden=32,ffn=32,heads=1,kv_heads=1,head_dim=16,vocab=300,context=40000";
    let embedder = open(&model(shape, "Q8_0"), None, 2);
    let long = text(32_000, 1);
    let before = peak_memory();
    let vectors = embed(&embedder, &[&long], &EmbedOptions::default());
    assert_eq!(vectors.tokens(), [32_001]);
    // The last tokens are seen, and so is the first.
    let other = format!("{}~~", &long[..31_998]);
    assert_ne!(vectors[0], embed(&embedder, &[&other], &EmbedOptions::default())[0]);
    match before.zip(peak_memory()) {
        // Other tests of this program run meanwhile; all their models together are below 10 MB.
        Some((before, after)) => assert!(after - before < 200 << 20, "{} MB more", (after - before) >> 20),
        None => println!("SKIPPED: peak memory, which this system does not tell"),
    }
}

/// The most memory that this process had resident, in bytes.
fn peak_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}

#[test]
fn threads_and_instruction_sets_that_cannot_be_had_are_errors() {
    let path = model(SHAPE, "F16");
    let open = |threads, isa: Option<&str>| {
        Embedder::open_with(&path, &LoadOptions::default().threads(threads).isa(isa.map(str::to_owned)))
            .map(|embedder| embedder.threads())
    };
    assert_eq!(open(Some(3), Some("SCALAR")).unwrap(), 3);
    assert!(matches!(open(Some(1025), None), Err(Error::TooManyThreads { threads: 1025, limit: 1024 })));
    let error = open(None, Some("mmx")).unwrap_err();
    assert!(error.to_string().contains("\"mmx\"") && error.to_string().contains("scalar"), "{error}");
}
