//! A vector's bits depend on nothing but its text.

use crate::common::{SHAPE_K, bits, model};
use crate::{open, text};
use qembed_q::{EmbedOptions, Embedder, Embeddings, Error, Isa};

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
