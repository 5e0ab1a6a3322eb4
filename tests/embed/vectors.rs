//! What a vector is, and what has none.

use crate::common::{Parts, SHAPE, bits, model, scratch};
use crate::{embed, open};
use qembed_q::{Control, EmbedOptions, Embedder, Error, Isa};

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
