//! Cuts text into the pieces that byte-pair merges may not cross, as the `qwen2` pattern does.
//!
//! The reference runs [`PATTERN`] in a backtracking regex engine. Over a long run of white space that engine reaches
//! its backtrack limit, and the `tokenizers` crate then takes the rest of the text for one piece: silently other
//! tokens. So the pattern is written out by hand here: one pass, linear in the text, with nothing to exhaust. It must
//! never differ from the pattern; the tests compare the two on generated text and on every character.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// The pattern that [`piece_len`] implements: `pre_tokenizer` of the reference `tokenizer.json`, and what llama.cpp
/// calls `qwen2`.
pub(super) const PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// What the pattern distinguishes. Discriminants are the two bits stored in [`CLASSES`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Other = 0,
    Letter = 1,
    Number = 2,
    Space = 3,
}

/// Two bits for every character up to the last letter, number or space (51 KB), from the regex crates' own Unicode
/// tables.
static CLASSES: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let mut table = Vec::new();
    for (pattern, kind) in [(r"\p{L}", Kind::Letter), (r"\p{N}", Kind::Number), (r"\s", Kind::Space)] {
        let hir = regex_syntax::parse(pattern).expect("a constant pattern");
        let HirKind::Class(Class::Unicode(class)) = hir.kind() else { unreachable!("a character class") };
        for range in class.ranges() {
            let (start, end) = (range.start() as usize, range.end() as usize);
            if table.len() <= end / 4 {
                table.resize(end / 4 + 1, 0);
            }
            for c in start..=end {
                table[c / 4] |= (kind as u8) << (c % 4 * 2);
            }
        }
    }
    table.into_boxed_slice()
});

/// The pieces of `text`, in order; they cover it without gaps.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let classes: &[u8] = &CLASSES;
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, tail) = rest.split_at(piece_len(classes, rest));
        rest = tail;
        Some(piece)
    })
}

fn kind(classes: &[u8], c: char) -> Kind {
    let c = c as usize;
    match classes.get(c / 4).map_or(0, |byte| byte >> (c % 4 * 2) & 3) {
        0 => Kind::Other,
        1 => Kind::Letter,
        2 => Kind::Number,
        _ => Kind::Space,
    }
}

/// Bytes of the first piece of `text`, which is not empty. The alternatives stand in the pattern's order.
fn piece_len(classes: &[u8], text: &str) -> usize {
    let kind = |c| kind(classes, c);
    let run = |from: usize, wanted: Kind| {
        let rest = &text[from..];
        from + rest.find(|c| kind(c) != wanted).unwrap_or(rest.len())
    };
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let after_first = first.len_utf8();
    let first_kind = kind(first);
    if let Some(len) = (first == '\'').then(|| contraction_len(text)).flatten() {
        return len;
    }
    if first_kind == Kind::Letter {
        return run(after_first, Kind::Letter);
    }
    if first_kind == Kind::Number {
        return after_first;
    }
    let second_kind = chars.next().map(kind);
    if second_kind == Some(Kind::Letter) && !matches!(first, '\r' | '\n') {
        return run(after_first, Kind::Letter);
    }
    if first_kind == Kind::Other || (first == ' ' && second_kind == Some(Kind::Other)) {
        let end = run(after_first, Kind::Other);
        return text.len() - text[end..].trim_start_matches(['\r', '\n']).len();
    }
    let end = run(after_first, Kind::Space);
    if let Some(newline) = text[..end].rfind(['\r', '\n']) {
        return newline + 1;
    }
    match text[..end].char_indices().next_back() {
        // White space before a word leaves its last character to the word.
        Some((last, _)) if last > 0 && end < text.len() => last,
        _ => end,
    }
}

/// Length of an English contraction at the start of `text`, which starts with an apostrophe. Case folds as in a
/// Unicode regex, where `ſ` (U+017F) is an `s`.
fn contraction_len(text: &str) -> Option<usize> {
    let mut chars = text[1..].chars();
    let first = chars.next()?;
    match first.to_ascii_lowercase() {
        's' | 't' | 'm' | 'd' | 'ſ' => Some(1 + first.len_utf8()),
        'r' | 'v' => matches!(chars.next(), Some('e' | 'E')).then_some(3),
        'l' => matches!(chars.next(), Some('l' | 'L')).then_some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::pattern::Pattern;
    use tokenizers::utils::SysRegex;

    use super::*;

    /// The oracle: the pattern, in the engine that `tokenizers` uses.
    fn by_regex<'t>(regex: &SysRegex, text: &'t str) -> Vec<&'t str> {
        if text.is_empty() {
            return Vec::new();
        }
        regex.find_matches(text).unwrap().into_iter().map(|((start, end), _)| &text[start..end]).collect()
    }

    #[track_caller]
    fn assert_same(regex: &SysRegex, text: &str) {
        assert_eq!(pieces(text).collect::<Vec<_>>(), by_regex(regex, text), "{text:?}");
    }

    #[test]
    fn every_character_in_every_role() {
        let regex = SysRegex::new(PATTERN).unwrap();
        for c in '\0'..=char::MAX {
            assert_same(&regex, &format!("{c}a {c}'{c} \n{c}{c}7"));
        }
    }

    #[test]
    fn every_contraction_and_its_look_alikes() {
        let regex = SysRegex::new(PATTERN).unwrap();
        let letters = ['s', 'S', 'ſ', 't', 'T', 'r', 'R', 'e', 'E', 'v', 'V', 'm', 'M', 'l', 'L', 'd', 'D', 'é', '\''];
        for a in letters {
            for b in letters {
                assert_same(&regex, &format!("x'{a}{b}y '{a}{b} '{a} 7'{a}{b}"));
            }
        }
    }

    #[test]
    fn a_backtracking_engine_would_lose_the_text_after_a_long_blank() {
        let text = format!("{}one two", " ".repeat(1_100_000));
        assert_ne!(by_regex(&SysRegex::new(PATTERN).unwrap(), &text).last(), Some(&" two"));
        let ours: Vec<_> = pieces(&text).collect();
        assert_eq!((ours.len(), &ours[1..]), (3, &[" one", " two"][..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn same_as_the_pattern(text in "[ \t\r\n\u{a0}\u{3000}'’sStTrReEvVmMlLdDſéß中ひ한ق٣7½Ⅷ_!@😀\u{301}\u{200d}]{0,24}") {
            assert_same(&SysRegex::new(PATTERN).unwrap(), &text);
        }

        #[test]
        fn same_as_the_pattern_on_any_text(text in any::<String>()) {
            assert_same(&SysRegex::new(PATTERN).unwrap(), &text);
        }
    }
}
