//! What `search` makes of a file's text, in memory: passages, of lines or of JSON objects.
#![no_main]

use qembed_models::text::decode;
use qembed_q::search::{chunks, objects};
use std::borrow::Cow;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [limit, mode, rest @ ..] = bytes else { return };
    let limit = match limit {
        0..128 => usize::from(*limit),
        more => usize::from(*more - 128) * 8,
    };
    let text = decode(rest).map_or_else(|_| String::from_utf8_lossy(rest), Cow::Borrowed);
    let fits = |passage: &str| !passage.is_empty() && (passage.len() <= limit || passage.chars().count() == 1);
    if mode % 2 == 1 {
        match objects(&text, "t", limit) {
            Ok(found) => assert!(found.iter().all(|(_, passage)| fits(passage))),
            Err(error) => drop(error.to_string()),
        }
        return;
    }
    let found: Vec<(usize, String)> = chunks(&text, limit).collect();
    assert!(found.iter().all(|(_, passage)| fits(passage)));
    assert!(found.is_sorted_by_key(|(line, _)| *line));
    // Nothing is lost, and nothing changes its place.
    let words = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let joined: String = found.iter().map(|(_, passage)| passage.as_str()).collect();
    assert_eq!(words(&joined), words(&text));
    let lines: Vec<&str> = text.lines().collect();
    for (line, passage) in &found {
        assert!(lines[line - 1].contains(passage.lines().next().unwrap_or_default()));
    }
});
