//! Tokens and texts: back and forth, given by the caller, and in pieces.

mod common;

use common::{SHAPE, bits, model};
use proptest::prelude::*;
use qembed_q::{
    Cl100kError, Control, EmbedOptions, Embedder, Empty, Error, LoadOptions, Prompt, TokenSpan, Tokens, Truncate,
    UnknownToken,
};

fn open() -> Embedder {
    open_with(LoadOptions::default())
}

fn open_with(load: LoadOptions) -> Embedder {
    Embedder::open_with(model(SHAPE, "F16"), &load.threads(1)).unwrap()
}

fn instruct(task: &str) -> EmbedOptions {
    EmbedOptions::default().prompt(Prompt::Instruct(task.into()))
}

/// The ids of a text in a vocabulary of bytes.
fn ids(embedder: &Embedder, text: &str) -> Vec<u32> {
    embedder.token_spans(text).unwrap().into_iter().map(|span| span.id).collect()
}

/// Text without what NFC would change.
const TEXT: &str = "[a-zA-Z0-9 .,:é引力😀\n]{0,60}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokens_decode_to_their_text(text in TEXT) {
        let embedder = open();
        let ids = ids(&embedder, &text);
        prop_assert_eq!(&embedder.decode(&ids, false).unwrap(), &text);
        prop_assert_eq!(embedder.decode_bytes(&ids, true).unwrap(), text.as_bytes());
        let tokens = embedder.tokenize(&[text], &EmbedOptions::default().empty(Empty::EndToken)).unwrap();
        prop_assert_eq!(tokens[0].ids(), [ids, vec![embedder.end_token()]].concat());
    }

    /// All of a text is in its pieces, in order, and no piece is too long.
    #[test]
    fn pieces_are_the_text(length in 1..1500usize, overlap in 0..300usize, task in "[a-z]{0,40}", query in any::<bool>()) {
        let embedder = open();
        let options = if query { instruct(&task) } else { EmbedOptions::default() };
        let before = if query { format!("Instruct: {task}\nQuery:") } else { String::new() };
        let text: String = (0..length).map(|i| char::from(b'a' + (i * i % 26) as u8)).collect();
        let pieces = embedder.tokenize_chunks(&text, &options, overlap).unwrap();
        let own: Vec<&[u32]> = pieces.iter().map(|piece| own(&embedder, piece, &before)).collect();
        let room = embedder.max_tokens() - before.len() - 1;
        let mut whole = own[0].to_vec();
        for pair in own.windows(2) {
            prop_assert_eq!(&pair[0][pair[0].len() - overlap..], &pair[1][..overlap]);
            whole.extend(&pair[1][overlap..]);
        }
        prop_assert_eq!(whole, ids(&embedder, &text));
        prop_assert_eq!(pieces.len(), if length <= room { 1 } else { (length - overlap).div_ceil(room - overlap) });
        let (last, others) = own.split_last().unwrap();
        prop_assert!(others.iter().all(|piece| piece.len() == own[0].len()));
        prop_assert!(last.len() + pieces.len() > own[0].len() && last.len() <= own[0].len());
        prop_assert!(pieces.iter().all(|piece| piece.len() <= embedder.max_tokens() && piece.cut() == 0));
    }
}

/// What of a piece is the text's.
fn own<'a>(embedder: &Embedder, piece: &'a Tokens, before: &str) -> &'a [u32] {
    let (end, rest) = piece.ids().split_last().unwrap();
    assert_eq!(*end, embedder.end_token());
    assert_eq!(rest[..before.len()], ids(embedder, before));
    &rest[before.len()..]
}

#[test]
fn half_a_character_and_ids_that_are_none() {
    let embedder = open();
    let ids = ids(&embedder, "a引");
    assert_eq!(embedder.decode(&ids[..3], false).unwrap(), "a\u{fffd}");
    assert_eq!(embedder.decode_bytes(&ids[2..], false).unwrap(), &"引".as_bytes()[1..]);
    let end = embedder.end_token();
    assert!(embedder.is_special(end) && !embedder.is_special(ids[0]));
    assert_eq!(embedder.decode(&[ids[0], end], false).unwrap(), "a<|endoftext|>");
    assert_eq!(embedder.decode(&[ids[0], end], true).unwrap(), "a");
    let unknown = Err(UnknownToken { position: 1, id: 300, tokens: 300 });
    assert_eq!(embedder.decode(&[ids[0], 300], false), unknown);
    assert_eq!(embedder.decode_cl100k(&[0]), Err(Cl100kError::OtherVocabulary));
}

#[test]
fn tokens_have_their_place_in_the_text() {
    let text = "e\u{301}引";
    let spans = open().token_spans(text).unwrap();
    let places: Vec<&str> = spans.iter().map(|TokenSpan { bytes, .. }| &text[bytes.clone()]).collect();
    assert_eq!(places, ["e\u{301}", "e\u{301}", "引", "引", "引"]);
}

#[test]
fn tokens_of_the_caller_are_those_of_the_text() {
    let embedder = open();
    for options in [EmbedOptions::default(), instruct("Find")] {
        let expected = embedder.tokenize(&["重力 is"], &options).unwrap().remove(0);
        let mut ids = ids(&embedder, "重力 is");
        assert_eq!(embedder.tokens_of_ids(&ids, &options).unwrap(), expected);
        ids.push(embedder.end_token());
        assert_eq!(embedder.tokens_of_ids(&ids, &options).unwrap(), expected, "one end token is enough");
        let vectors = embedder.embed_tokens([expected], &EmbedOptions::default(), &Control::default()).unwrap();
        assert_eq!(bits(&vectors[0]), bits(&embedder.embed(&["重力 is"], &options).unwrap()[0]));
    }
}

#[test]
fn tokens_that_cannot_be_taken_are_errors() {
    let embedder = open();
    let default = EmbedOptions::default();
    let end = embedder.end_token();
    for empty in [&[][..], &[end]] {
        let error = embedder.tokens_of_ids(empty, &default).unwrap_err();
        assert!(matches!(error, Error::EmptyText { text: 0 }), "{error:?}");
        assert_eq!(embedder.tokens_of_ids(empty, &default.clone().empty(Empty::EndToken)).unwrap().ids(), [end]);
    }
    assert!(matches!(embedder.tokenize_chunks("", &default, 0), Err(Error::EmptyText { text: 0 })));
    assert_eq!(embedder.tokenize_chunks("", &default.clone().empty(Empty::EndToken), 0).unwrap().len(), 1);
    let error = embedder.tokens_of_ids(&[97, 300], &default).unwrap_err();
    assert!(matches!(error, Error::Vocabulary { text: 0, token: 300, rows: 300 }), "{error:?}");
    let error = embedder.tokens_of_ids(&[97; 400], &default).unwrap_err();
    assert!(matches!(error, Error::TooLong { text: 0, tokens: 401, limit: 400 }), "{error:?}");
    assert_eq!(embedder.tokens_of_ids(&[97; 399], &default).unwrap().len(), 400);
}

#[test]
fn what_was_cut_is_counted() {
    let embedder = open();
    let (long, fits) = ("x".repeat(450), "x".repeat(399));
    for (options, cut) in [(EmbedOptions::default(), 51), (instruct("T"), 51 + "Instruct: T\nQuery:".len())] {
        for end in [Truncate::Left, Truncate::Right] {
            let options = options.clone().truncate(end);
            let tokens = embedder.tokenize(&[&long[..], "x"], &options).unwrap();
            assert_eq!([tokens[0].len(), tokens[0].cut(), tokens[1].cut()], [400, cut, 0]);
            assert_eq!(embedder.tokens_of_ids(&ids(&embedder, &fits), &options).unwrap().cut(), cut - 51);
        }
    }
}

#[test]
fn pieces_fit_into_the_memory_budget() {
    let budget = open().memory().of_pass(100, 1);
    let embedder = open_with(LoadOptions::default().memory_budget(budget));
    let lengths = |length: usize| {
        let pieces = embedder.tokenize_chunks(&"x".repeat(length), &EmbedOptions::default(), 10).unwrap();
        pieces.iter().map(Tokens::len).collect::<Vec<_>>()
    };
    assert_eq!((lengths(99), lengths(100)), (vec![100], vec![56, 56]));
    // 278 less 10 is three times 89 and one more.
    assert_eq!(lengths(278), [78, 78, 78, 78]);
    let pieces = embedder.tokenize_chunks(&"x".repeat(300), &EmbedOptions::default(), 10).unwrap();
    assert_eq!(embedder.embed_tokens(pieces, &EmbedOptions::default(), &Control::default()).unwrap().len(), 4);
}

#[test]
fn pieces_that_would_have_nothing_new_are_an_error() {
    let embedder = open();
    let long = "x".repeat(400);
    let room = 399 - "Instruct: T\nQuery:".len();
    for overlap in [room, usize::MAX] {
        let error = embedder.tokenize_chunks(&long, &instruct("T"), overlap).unwrap_err();
        assert!(matches!(error, Error::Overlap { overlap: o, room: r } if (o, r) == (overlap, room)), "{error:?}");
        assert_eq!(
            embedder.tokenize_chunks("x", &instruct("T"), overlap).unwrap().len(),
            1,
            "one piece overlaps with none"
        );
    }
    let pieces = embedder.tokenize_chunks(&long, &instruct("T"), room - 1).unwrap();
    assert_eq!(pieces.len(), 401 - room);
}

/// The first token of the text is then one with the instruction's last, and that is in the first piece only.
#[cfg(feature = "builtin")]
#[test]
fn a_text_that_merges_with_the_instruction_is_whole_in_its_pieces() {
    let embedder = Embedder::builtin().unwrap();
    let text = format!(":{}", "x y ".repeat(embedder.max_tokens()));
    let pieces = embedder.tokenize_chunks(&text, &instruct("Find"), 0).unwrap();
    let text_of = |piece: &Tokens| embedder.decode(piece.ids(), true).unwrap();
    let own = |piece| text_of(piece).strip_prefix("Instruct: Find\nQuery:").unwrap().to_owned();
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() <= embedder.max_tokens()));
    assert_eq!(pieces.iter().map(own).collect::<String>(), text);
}
