//! Tokens that are found in the raw text, before normalization and splitting, because no merge leads to them.
//!
//! Two kinds, as in the reference tokenizer and in llama.cpp: control tokens (`<|im_start|>`) count only if the caller
//! asks for them, so that nobody's text can forge one; user-defined tokens (`<think>`) are words of the vocabulary and
//! always count.

use aho_corasick::{AhoCorasick, MatchKind};

use super::{SpecialTokens, TokenizerError};

/// What a stretch of text is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment<'t> {
    /// Text to normalize, split and merge; not empty.
    Text(&'t str),
    /// One token.
    Token(u32),
}

/// Finds added tokens: leftmost first, the longest of those that start there.
pub(super) struct AddedTokens {
    user_defined: Matcher,
    all: Matcher,
}

impl AddedTokens {
    pub(super) fn new(control: &[(&str, u32)], user_defined: &[(&str, u32)]) -> Result<Self, TokenizerError> {
        Ok(Self { user_defined: Matcher::new(user_defined)?, all: Matcher::new(&[control, user_defined].concat())? })
    }

    /// The segments of `text`, in order.
    pub(super) fn segments<'t>(&self, text: &'t str, special: SpecialTokens) -> impl Iterator<Item = Segment<'t>> {
        let matcher = match special {
            SpecialTokens::AsText => &self.user_defined,
            SpecialTokens::Parse => &self.all,
        };
        let mut matches = matcher.automaton.iter().flat_map(move |automaton| automaton.find_iter(text));
        let mut at = 0;
        let mut token = None;
        std::iter::from_fn(move || {
            if let Some(id) = token.take() {
                return Some(Segment::Token(id));
            }
            let start = at;
            match matches.next() {
                Some(found) => {
                    at = found.end();
                    let id = matcher.ids[found.pattern()];
                    if found.start() == start {
                        return Some(Segment::Token(id));
                    }
                    token = Some(id);
                    Some(Segment::Text(&text[start..found.start()]))
                }
                None => {
                    at = text.len();
                    (start < at).then(|| Segment::Text(&text[start..]))
                }
            }
        })
    }
}

struct Matcher {
    automaton: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl Matcher {
    fn new(tokens: &[(&str, u32)]) -> Result<Self, TokenizerError> {
        let (words, ids): (Vec<&str>, Vec<u32>) = tokens.iter().copied().filter(|(word, _)| !word.is_empty()).unzip();
        let automaton = if words.is_empty() {
            None
        } else {
            Some(AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(words)?)
        };
        Ok(Self { automaton, ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftmost_longest_and_only_what_was_asked_for() {
        let added = AddedTokens::new(&[("<s>", 1), ("<s>x", 2)], &[("<u>", 3)]).unwrap();
        let segments = |text, special| added.segments(text, special).collect::<Vec<_>>();
        use Segment::{Text, Token};
        assert_eq!(
            segments("a<s>xb<u><s>", SpecialTokens::Parse),
            [Text("a"), Token(2), Text("b"), Token(3), Token(1)]
        );
        assert_eq!(segments("a<s>xb<u><s>", SpecialTokens::AsText), [Text("a<s>xb"), Token(3), Text("<s>")]);
        assert_eq!(segments("", SpecialTokens::Parse), []);
    }
}
