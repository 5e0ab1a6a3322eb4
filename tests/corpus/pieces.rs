//! Long texts in chunks.

use crate::{Corpus, embedder, floats};
use qembed_q::EmbedOptions;
use std::fs;

#[test]
fn long_texts_in_chunks() {
    let corpus = Corpus::new("chunks");
    let text: String =
        (0..60).map(|i| format!("Sentence number {i}. {}", if i % 7 == 6 { "\n\n" } else { "" })).collect();
    fs::create_dir(corpus.path("docs")).unwrap();
    fs::write(corpus.path("docs/a.txt"), &text).unwrap();
    fs::write(corpus.path("docs/b.md"), format!("# One\n\n{}\n\n# Two\n\n{}", &text[..150], &text[..100])).unwrap();
    let arguments = ["--input", "docs", "--whole-file", "--chunk", "tokens=200,overlap=40"];
    let run = |more: &[&str]| corpus.embed(&[&arguments[..], more].concat());
    run(&["--id", "path", "--output", "out.jsonl"]);
    let embed = |texts: &[&str]| {
        let vectors = embedder().embed(texts, &EmbedOptions::default()).unwrap();
        vectors.iter().map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let lines = corpus.lines("out.jsonl");
    let of = |name: &str| lines.iter().filter(|line| line["id"].as_str().unwrap().ends_with(name)).collect::<Vec<_>>();
    let chunks = of("a.txt");
    assert!(chunks.len() > 4, "{}", chunks.len());
    let mut pieces = Vec::new();
    for (i, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk["chunk"], i);
        let at = |name: &str, end: usize| chunk[name][end].as_u64().unwrap() as usize;
        let piece = &text[at("bytes", 0)..at("bytes", 1)];
        assert!(piece.len() <= 200 && piece == piece.trim(), "a token a byte: {piece:?}");
        assert_eq!((at("tokens", 0), at("tokens", 1)), (at("bytes", 0), at("bytes", 1)));
        let line = |end: usize| text[..end].matches('\n').count() + 1;
        assert_eq!((at("lines", 0), at("lines", 1)), (line(at("bytes", 0)), line(at("bytes", 1) - 1)));
        assert_eq!(floats(&chunk["embedding"]), embed(&[piece])[0]);
        pieces.push(piece);
    }
    // Of Markdown no chunk has the end of a section and the next heading in it.
    assert!(of("b.md").iter().any(|chunk| chunk["bytes"][0].as_u64() == Some(9 + 150)), "{:?}", of("b.md"));

    // Pooled, without an order of pieces in it.
    for (how, pool) in [("mean", 0usize), ("max", 1)] {
        let name = format!("{how}.jsonl");
        run(&["--id", "path", "--chunk-pool", how, "--output", &name]);
        let vectors = embed(&pieces);
        let column = |i: usize| vectors.iter().map(move |vector| f64::from(vector[i]));
        let sum = |i: usize| column(i).sum::<f64>() / vectors.len() as f64;
        let mut expected: Vec<f64> =
            (0..64).map(|i| if pool == 0 { sum(i) } else { column(i).fold(f64::MIN, f64::max) }).collect();
        let length = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        expected.iter_mut().for_each(|x| *x /= length);
        let found = floats(&corpus.lines(&name)[0]["embedding"]);
        // Two roundings to f32.
        assert!(found.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() <= 2.0 * f64::from(f32::EPSILON)));
    }
    let said = corpus.refused(1, &["--input", "docs", "--whole-file", "--chunk", "500", "--output", "x.npy"]);
    assert!(said.contains("chunks of 500 tokens: with the instruction the model has room for 399"), "{said}");
    assert!(
        corpus
            .refused(1, &["--input", "docs", "--chunk", "tokens=9,overlap=9", "--output", "x.npy"])
            .contains("overlap")
    );
}
