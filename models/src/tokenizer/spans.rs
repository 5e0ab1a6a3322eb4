//! Where in a text its tokens stand.

use std::ops::Range;

use unicode_normalization_alignments::UnicodeNormalization;

use super::nfc::is_nfc;

/// A token and its place in the text that it was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenSpan {
    /// The token.
    pub id: u32,
    /// The bytes of the text that it stands for, from the start of a character to the end of one. Neighbours overlap where
    /// a character is spread over several tokens: each has all of it. A character that NFC composed stands for all that it
    /// was composed of; marks that NFC puts into another order stand for one another.
    pub bytes: Range<usize>,
}

/// From the bytes of a normalized text to those of the text itself.
pub(super) enum Origins<'t> {
    /// They are the same.
    Same(&'t str),
    /// Of each character of the normalized text, where it starts there, and the bytes that it was made of.
    Characters(Vec<(u32, Range<u32>)>),
}

impl<'t> Origins<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        if is_nfc(text) {
            return Self::Same(text);
        }
        let mut ends = text.char_indices().map(|(at, c)| (at + c.len_utf8()) as u32);
        let (mut at, mut origin) = (0, 0..0);
        // What comes with each character is by how many it made the text longer: 1 has no origin of its own and shares that
        // of the one before, 0 replaces a character, -2 replaces three.
        let characters = text.nfc().map(|(c, change)| {
            let start = at;
            at += c.len_utf8() as u32;
            let replaced = usize::try_from(1 - change).unwrap_or(0);
            if let Some(end) = replaced.checked_sub(1).and_then(|others| ends.nth(others)) {
                origin = origin.end..end;
            }
            (start, origin.clone())
        });
        Self::Characters(characters.collect())
    }

    /// What the bytes `range` of the normalized text, which are not none, were made of: whole characters.
    pub(super) fn of(&self, range: Range<usize>) -> Range<usize> {
        match self {
            Self::Same(text) => text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end),
            Self::Characters(characters) => {
                let at = |byte: usize| &characters[characters.partition_point(|(at, _)| *at as usize <= byte) - 1].1;
                at(range.start).start as usize..at(range.end - 1).end as usize
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_nfc_changes_keep_their_origin() {
        let origins = |text: &str| {
            let origins = Origins::new(text);
            let normalized: String = text.nfc().map(|(c, _)| c).collect();
            let places = normalized.char_indices().map(|(at, c)| origins.of(at..at + c.len_utf8()));
            (normalized.clone(), places.collect::<Vec<_>>())
        };
        assert_eq!(origins("aé"), ("aé".into(), vec![0..1, 1..3]));
        assert_eq!(origins("ae\u{301}b"), ("aéb".into(), vec![0..1, 1..4, 4..5]), "composed");
        assert_eq!(origins("\u{1100}\u{1161}\u{11a8}!"), ("각!".into(), vec![0..9, 9..10]), "of three");
        assert_eq!(origins("x\u{958}y"), ("x\u{915}\u{93c}y".into(), vec![0..1, 1..4, 1..4, 4..5]), "decomposed");
        assert_eq!(origins("é\u{323}b"), ("\u{1eb9}\u{301}b".into(), vec![0..4, 0..4, 4..5]), "in another order");
        assert_eq!(origins("\u{212b}\u{338}"), ("Å\u{338}".into(), vec![0..3, 3..5]), "one for one");
    }

    #[test]
    fn a_part_of_a_character_stands_for_all_of_it() {
        let same = Origins::new("a引b");
        assert_eq!([0..1, 0..2, 1..2, 2..3, 3..5].map(|range| same.of(range)), [0..1, 0..4, 1..4, 1..4, 1..5]);
        let changed = Origins::new("ae\u{301}b");
        assert_eq!([0..1, 1..2, 2..3, 2..4].map(|range| changed.of(range)), [0..1, 1..4, 1..4, 1..5]);
    }
}
