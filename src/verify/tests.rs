//! What `tests/verify.rs` cannot reach without a published file: the facts that are known of those.

use super::*;
use qembed_kernels::formats::Format;
use qembed_models::gguf::GgufBuilder;
use qembed_models::synth::{Spec, write};

const SHAPE: &str = "tiny,layers=2,hidden=64,ffn=96,heads=4,kv_heads=2,head_dim=32,vocab=300,context=400";

fn gguf_of(builder: GgufBuilder) -> Gguf {
    Gguf::from_bytes(builder.begin(Vec::new()).unwrap().finish().unwrap().into()).unwrap()
}

fn only(checks: &Checks, name: &str) -> Check {
    checks.0.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name}: {:?}", checks.0)).clone()
}

/// The metadata of the published 0.6B file, with one key set otherwise.
fn published_metadata(change: impl FnOnce(&mut GgufBuilder)) -> Check {
    let mut builder = GgufBuilder::new();
    builder.set("general.architecture", "qwen3");
    for (key, value) in [
        ("block_count", 28u32),
        ("context_length", 32_768),
        ("embedding_length", 1024),
        ("feed_forward_length", 3072),
        ("attention.head_count", 16),
        ("attention.head_count_kv", 8),
        ("attention.key_length", 128),
        ("attention.value_length", 128),
        ("pooling_type", 3),
    ] {
        builder.set(&format!("qwen3.{key}"), value);
    }
    builder.set("qwen3.rope.freq_base", 1e6f32);
    builder.set("qwen3.attention.layer_norm_rms_epsilon", 1e-6f32);
    builder.set("tokenizer.ggml.eos_token_id", END_OF_TEXT);
    change(&mut builder);
    let gguf = gguf_of(builder);
    let mut checks = Checks(Vec::new());
    checks.metadata(&gguf, &Config::read(&gguf).unwrap(), Some(&PUBLISHED[0]));
    only(&checks, "model")
}

#[test]
fn metadata_of_a_published_model() {
    assert_eq!(published_metadata(|_| ()).verdict, Verdict::Pass);
    let fails = |change: &dyn Fn(&mut GgufBuilder), words: &str| {
        let check = published_metadata(|builder| change(builder));
        assert!(check.verdict == Verdict::Fail && check.detail.contains(words), "{words}: {}", check.detail);
    };
    fails(&|b| _ = b.set("qwen3.rope.freq_base", 1e4f32), "rope base is 10000, Qwen3-Embedding-0.6B has 1000000");
    fails(&|b| _ = b.set("qwen3.attention.layer_norm_rms_epsilon", 1e-5f32), "epsilon");
    fails(&|b| _ = b.set("qwen3.attention.head_count_kv", 4u32), "key-value heads is 4");
    fails(&|b| _ = b.set("qwen3.attention.head_count", 32u32), "heads is 32");
    fails(
        &|b| _ = b.set("qwen3.attention.key_length", 64u32).set("qwen3.attention.value_length", 64u32),
        "head width is 64",
    );
    fails(&|b| _ = b.set("qwen3.context_length", 8192u32), "context is 8192");
    fails(&|b| _ = b.set("tokenizer.ggml.eos_token_id", 151_645u32), "end token is Some(151645)");
    fails(&|b| _ = b.remove("tokenizer.ggml.eos_token_id"), "end token is None");
}

/// The hash takes in every token before the end of text, every merge, their order, and where one list ends.
#[test]
fn fingerprint_covers_tokens_and_merges() {
    let of = |change: &dyn Fn(&mut Vec<String>, &mut Vec<String>)| {
        let mut tokens: Vec<String> = (0..END_OF_TEXT + 2).map(|i| format!("t{i}")).collect();
        let mut merges = vec!["a b".to_owned(), "c d".to_owned()];
        change(&mut tokens, &mut merges);
        let mut builder = GgufBuilder::new();
        builder.set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.merges", merges);
        let gguf = gguf_of(builder);
        // As many tokens as Qwen has, but others.
        for (published, verdict) in [(Some(&PUBLISHED[0]), Verdict::Fail), (None, Verdict::Skip)] {
            let mut checks = Checks(Vec::new());
            checks.vocabulary(&gguf, published);
            assert_eq!(only(&checks, "vocabulary").verdict, verdict);
        }
        fingerprint(&gguf).unwrap()
    };
    let whole = of(&|_, _| ());
    let last = END_OF_TEXT as usize - 1;
    assert!(whole.is_some());
    assert_eq!(of(&|tokens, _| tokens[last + 1] = "other".into()), whole, "special tokens are not looked at");
    assert_ne!(of(&|tokens, _| tokens[last] = "other".into()), whole);
    assert_ne!(of(&|tokens, _| tokens.swap(0, 1)), whole);
    assert_ne!(of(&|_, merges| merges.swap(0, 1)), whole);
    assert_ne!(of(&|_, merges| _ = merges.pop()), whole);
    assert_eq!(of(&|tokens, _| tokens.truncate(last)), None);
}

/// A model that is published, as far as these checks can tell, though its vocabulary is not Qwen's.
#[test]
fn vocabulary_and_output_of_a_published_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write(&Spec { dims: SHAPE.parse().unwrap(), level: "Q8_0".parse().unwrap(), seed: 1, vocabulary: None }, &path)
        .unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let mut checks = Checks(Vec::new());
    checks.tokenizer(&gguf, None, Some(&PUBLISHED[0]));
    assert_eq!(only(&checks, "vocabulary").verdict, Verdict::Fail);
    let ids = only(&checks, "token ids");
    assert!(ids.verdict == Verdict::Fail && ids.detail.contains("\"test again\""), "{}", ids.detail);

    let mut builder = GgufBuilder::new();
    builder.copy_metadata(&gguf);
    builder.add_tensor("output.weight", &[32, 1], Format::F32).unwrap();
    builder.add_tensor("token_embd.weight", &[64, 10], Format::F32).unwrap();
    let mut writer = builder.begin(Vec::new()).unwrap();
    writer.write_tensor("output.weight", &[0; 128]).unwrap();
    writer.write_tensor("token_embd.weight", &[0; 2560]).unwrap();
    let gguf = Gguf::from_bytes(writer.finish().unwrap().into()).unwrap();
    for (published, verdict) in [(Some(&PUBLISHED[0]), Verdict::Fail), (None, Verdict::Skip)] {
        let mut checks = Checks(Vec::new());
        checks.tensors(&gguf, &Config::read(&gguf).unwrap(), published);
        assert_eq!(only(&checks, "tied output").verdict, verdict);
    }
    let mut checks = Checks(Vec::new());
    checks.tensors(&gguf, &Config { hidden: 128, ..Config::read(&gguf).unwrap() }, None);
    assert!(only(&checks, "tensors").detail.contains("token_embd.weight is"), "{:?}", checks.0);
    let mut checks = Checks(Vec::new());
    checks.tokenizer(&gguf, None, None);
    let tokens = only(&checks, "tokenizer");
    assert!(tokens.verdict == Verdict::Fail && tokens.detail.contains("only 10 have a vector"), "{}", tokens.detail);
}

/// Each value of a tensor is looked at, in all of the pieces that threads take, up to the last row.
#[test]
fn values_that_are_not_finite_are_counted() {
    const ROW: usize = 1 << 17;
    for (rows, broken) in [(5, vec![]), (5, vec![ROW - 1, 2 * ROW, 5 * ROW - 1]), (2, vec![2 * ROW - 1]), (1, vec![0])]
    {
        let mut values = vec![1f32; rows * ROW];
        for (i, at) in broken.iter().enumerate() {
            values[*at] = [f32::INFINITY, f32::NAN, f32::NEG_INFINITY][i];
        }
        let mut builder = GgufBuilder::new();
        builder.add_tensor("blk.0.ffn_up.weight", &[ROW, rows], Format::F32).unwrap();
        let mut writer = builder.begin(Vec::new()).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write_tensor("blk.0.ffn_up.weight", &bytes).unwrap();
        let gguf = Gguf::from_bytes(writer.finish().unwrap().into()).unwrap();
        for threads in [1, 3] {
            let mut checks = Checks(Vec::new());
            checks.weights(&gguf, threads, None);
            let check = only(&checks, "weights");
            let (verdict, words) = match broken.len() {
                0 => (Verdict::Pass, format!("{}, all finite", rows * ROW)),
                n => (Verdict::Fail, format!("blk.0.ffn_up.weight: {n} values are not finite")),
            };
            assert!(check.verdict == verdict && check.detail.contains(&words), "{check:?}");
        }
    }
}

/// Similarities pass up to what is allowed and no further; more bits allow less.
#[test]
fn similarities_within_the_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let mut allowed = Vec::new();
    for level in ["Q4_0", "Q8_0", "F32"] {
        let path = folder.path().join("model.gguf");
        write(&Spec { dims: SHAPE.parse().unwrap(), level: level.parse().unwrap(), seed: 1, vocabulary: None }, &path)
            .unwrap();
        let gguf = Gguf::open(&path).unwrap();
        let options = LoadOptions::default();
        let own = similarities(&gguf, &options).unwrap();
        let embedder = Embedder::open(&path).unwrap();
        let task = "Given a web search query, retrieve relevant passages that answer the query";
        let queries = QUERIES.map(|query| format!("Instruct: {task}\nQuery:{query}"));
        let texts: Vec<&str> = queries.iter().map(String::as_str).chain(DOCUMENTS).collect();
        let vectors = embedder.embed(&texts, &EmbedOptions::default()).unwrap();
        for (q, row) in own.iter().enumerate() {
            for (d, similarity) in row.iter().enumerate() {
                let dot: f32 = vectors[q].iter().zip(&vectors[2 + d]).map(|(a, b)| a * b).sum();
                assert_eq!(*similarity, dot, "query {q}, with its instruction, and document {d}");
            }
        }
        let tolerance = tolerance(&gguf, 1024);
        allowed.push(tolerance);
        for (shift, verdict) in
            [(0.0, Verdict::Pass), (0.98, Verdict::Pass), (1.02, Verdict::Fail), (f32::NAN, Verdict::Fail)]
        {
            for place in 0..4 {
                let mut similarities = own;
                similarities[place / 2][place % 2] += shift * tolerance;
                let published = Published { similarities, ..PUBLISHED[0] };
                let mut checks = Checks(Vec::new());
                checks.vectors(&gguf, &options, Some(&published));
                assert_eq!(only(&checks, "similarities").verdict, verdict, "{level} {shift} at {place}");
            }
        }
    }
    // The derivation, for 1024 dimensions: delta is 0.0044 at 5.5 bits (vectors and norms have 32) and 0.0008 above eight.
    let derived =
        [0.0044, 0.0008, 0.0008].map(|delta: f32| 0.005 + 8.0 * (2.0 * delta).sqrt() * (2.0 / 1024f32).sqrt());
    assert!(allowed.iter().zip(derived).all(|(a, b)| (a - b).abs() < 1e-6), "{allowed:?} {derived:?}");
}
