//! Which of the texts that wait make the next pass.

use crate::memory::MemoryNeeds;
use crate::tokens::Tokens;
use qembed_models::common_tokens;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// So many passes or texts are worth waiting for, to look at together for what they have in common.
const WINDOW_PASSES: usize = 8;
const WINDOW_TEXTS: usize = 4096;
/// Texts that are tried for a pass between layers: they are looked at before every layer.
#[cfg(feature = "serve")]
const LOOKED_AT: usize = 1024;

/// What bounds a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Tokens to compute, unless a single text has more.
    pub(crate) tokens: usize,
    /// Memory: a pass stays within its budget.
    pub(crate) memory: MemoryNeeds,
    /// Whether tokens that texts have in common from their start count once.
    pub(crate) shares_prefixes: bool,
}

/// When a text's turn is: before all with a greater one. Equal for all where nobody waits for one of them alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    /// What the caller said; lower first.
    pub(crate) priority: i64,
    /// Within a priority.
    pub(crate) time: u64,
}

/// A text that waits.
struct Waiting {
    turn: Turn,
    number: usize,
    tokens: Tokens,
}

/// Tokenized texts that wait for a pass. Within a turn, texts with long beginnings in common come into the same one, where
/// that saves work.
pub(crate) struct Planner {
    limits: Limits,
    /// Those whose turn is next stand at the end, if `sorted`.
    waiting: Vec<Waiting>,
    sorted: bool,
    /// Of those that wait.
    tokens: usize,
    /// Of the next text that comes in.
    number: usize,
}

impl Planner {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, waiting: Vec::new(), sorted: true, tokens: 0, number: 0 }
    }

    /// Takes a text in; its number, by which it is known from here on. Numbers count from 0.
    pub(crate) fn push(&mut self, tokens: Tokens) -> usize {
        self.push_at(Turn::default(), tokens)
    }

    /// [`Self::push`] with a turn.
    pub(crate) fn push_at(&mut self, turn: Turn, tokens: Tokens) -> usize {
        let number = self.number;
        self.number += 1;
        self.tokens += tokens.len();
        self.waiting.push(Waiting { turn, number, tokens });
        self.sorted = false;
        number
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether so many wait that passes would not get better by more.
    pub(crate) fn is_full(&self) -> bool {
        self.tokens >= WINDOW_PASSES * self.limits.tokens || self.waiting.len() >= WINDOW_TEXTS
    }

    /// Gives up the texts that are not `wanted`, by their number; the others keep their turn.
    pub(crate) fn retain(&mut self, wanted: impl Fn(usize) -> bool) {
        self.waiting.retain(|text| wanted(text.number));
        self.tokens = self.waiting.iter().map(|text| text.tokens.len()).sum();
    }

    /// The turn that is next, and the tokens of its text.
    #[cfg(feature = "serve")]
    pub(crate) fn next_turn(&mut self) -> Option<(Turn, usize)> {
        self.sort();
        self.waiting.last().map(|text| (text.turn, text.tokens.len()))
    }

    /// Tokens of all that wait, whatever they have in common.
    #[cfg(feature = "serve")]
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether the texts that wait are more than fit into the next pass.
    #[cfg(feature = "serve")]
    pub(crate) fn fills_a_pass(&mut self) -> bool {
        self.sort();
        self.fitting() < self.waiting.len()
    }

    /// How many of the sorted texts fit into the next pass.
    fn fitting(&self) -> usize {
        let mut filling = Filling::new(self.limits);
        self.waiting.iter().rev().take_while(|&text| filling.add(&text.tokens, true)).count()
    }

    /// Takes out the texts of the next pass, with their numbers; none if none wait. A text that is too long for a pass with
    /// others is one by itself.
    pub(crate) fn next_pass(&mut self) -> Vec<(usize, Tokens)> {
        self.sort();
        let pass = self.waiting.split_off(self.waiting.len() - self.fitting());
        self.tokens -= pass.iter().map(|text| text.tokens.len()).sum::<usize>();
        pass.into_iter().rev().map(|text| (text.number, text.tokens)).collect()
    }

    /// Takes out texts for a small pass between the layers of another one: those whose turn is before `turn`, as many as fit
    /// into so many tokens and bytes. Others keep their turn.
    #[cfg(feature = "serve")]
    pub(crate) fn pass_between(&mut self, turn: Turn, tokens: usize, bytes: u64) -> Vec<(usize, Tokens)> {
        self.sort();
        let memory = MemoryNeeds { budget: bytes, ..self.limits.memory };
        let mut filling = Filling::new(Limits { tokens, memory, ..self.limits });
        let first = self.waiting.partition_point(|text| text.turn >= turn);
        let looked_at = self.waiting[first..].iter().rev().take(LOOKED_AT);
        let fitting = looked_at.filter(|&text| filling.add(&text.tokens, false));
        let chosen: BTreeSet<usize> = fitting.map(|text| text.number).collect();
        let (pass, rest) =
            std::mem::take(&mut self.waiting).into_iter().partition(|text| chosen.contains(&text.number));
        let pass: Vec<Waiting> = pass;
        self.waiting = rest;
        self.tokens -= pass.iter().map(|text| text.tokens.len()).sum::<usize>();
        pass.into_iter().rev().map(|text| (text.number, text.tokens)).collect()
    }

    fn sort(&mut self) {
        if !self.sorted {
            // Within a turn, neighbours have the longest beginnings in common.
            if self.limits.shares_prefixes {
                self.waiting.sort_by(|a, b| (b.turn, &b.tokens, b.number).cmp(&(a.turn, &a.tokens, a.number)));
            } else {
                self.waiting.sort_by_key(|text| Reverse((text.turn, text.number)));
            }
            self.sorted = true;
        }
    }
}

/// A pass in the making.
struct Filling<'a> {
    limits: Limits,
    texts: usize,
    /// Tokens to compute.
    tokens: usize,
    /// The texts, where they may share.
    sharing: BTreeSet<&'a [u32]>,
}

impl<'a> Filling<'a> {
    fn new(limits: Limits) -> Self {
        Self { limits, texts: 0, tokens: 0, sharing: BTreeSet::new() }
    }

    /// Adds a text if it fits; the first one, if it may be `alone`, in any case.
    fn add(&mut self, text: &'a Tokens, alone: bool) -> bool {
        let ids = text.ids();
        let shared = if self.limits.shares_prefixes {
            // Among sorted texts the neighbours have the most in common.
            let neighbours = [self.sharing.range(..=ids).next_back(), self.sharing.range(ids..).next()];
            neighbours.into_iter().flatten().map(|other| common_tokens(other, ids)).max().unwrap_or(0)
        } else {
            0
        };
        let tokens = self.tokens + ids.len() - shared;
        let memory = &self.limits.memory;
        let fits = tokens <= self.limits.tokens && memory.of_pass(tokens, self.texts + 1) <= memory.budget;
        if !(fits || alone && self.texts == 0) {
            return false;
        }
        (self.tokens, self.texts) = (tokens, self.texts + 1);
        if self.limits.shares_prefixes {
            self.sharing.insert(ids);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planner(tokens: usize, budget: u64, shares_prefixes: bool) -> Planner {
        let memory = MemoryNeeds { file: 0, fixed: 0, per_token: 10, per_text: 100, budget, available: None };
        Planner::new(Limits { tokens, memory, shares_prefixes })
    }

    /// The numbers of the texts of each pass.
    fn passes(mut planner: Planner, texts: &[&[u32]]) -> Vec<Vec<usize>> {
        for (i, text) in texts.iter().enumerate() {
            assert_eq!(planner.push(Tokens::of_ids(text)), i);
        }
        std::iter::from_fn(|| Some(planner.next_pass()).filter(|pass| !pass.is_empty()))
            .map(|pass| pass.into_iter().map(|(i, _)| i).collect())
            .collect()
    }

    #[test]
    fn texts_with_a_beginning_in_common_make_a_pass() {
        let texts: [&[u32]; 5] = [&[1, 1, 1, 2], &[7, 2], &[1, 1, 1, 3], &[7, 3], &[1, 1, 1, 2]];
        // Of those that begin with 1: 4 tokens, none, and 1.
        assert_eq!(passes(planner(5, 1000, true), &texts), [vec![0, 4, 2], vec![1, 3]]);
        assert_eq!(passes(planner(4, 1000, true), &texts), [vec![0, 4], vec![2], vec![1, 3]]);
        assert_eq!(passes(planner(6, 1000, false), &texts), [vec![0, 1], vec![2, 3], vec![4]], "in their order");
    }

    #[test]
    fn memory_bounds_a_pass_and_a_long_text_is_one() {
        let texts: [&[u32]; 4] = [&[1; 3], &[2; 9], &[3; 2], &[4; 2]];
        // 10 for each token and 100 for each text.
        assert_eq!(passes(planner(8, 240, true), &texts), [vec![0], vec![1], vec![2, 3]]);
        assert_eq!(passes(planner(8, 239, true), &texts), [vec![0], vec![1], vec![2], vec![3]]);
    }

    #[test]
    fn texts_come_and_go_between_passes() {
        let mut planner = planner(4, 1000, true);
        for text in [[1, 2], [3, 4], [5, 6], [7, 8]] {
            planner.push(Tokens::of_ids(&text));
        }
        let numbers = |pass: Vec<(usize, Tokens)>| pass.into_iter().map(|(i, _)| i).collect::<Vec<_>>();
        planner.retain(|number| number != 1);
        assert_eq!((planner.len(), planner.tokens), (3, 6));
        assert_eq!(numbers(planner.next_pass()), [0, 2]);
        assert_eq!(planner.push(Tokens::of_ids(&[6, 6])), 4);
        assert_eq!(numbers(planner.next_pass()), [4, 3]);
        assert!(planner.next_pass().is_empty() && planner.len() == 0);
    }

    #[test]
    fn turns_come_before_what_texts_have_in_common() {
        let mut planner = planner(5, 1000, true);
        let turn = |priority, time| Turn { priority, time };
        for (turn, text) in [
            (turn(0, 7), &[1, 1, 1, 2][..]),
            (turn(0, 3), &[9, 9]),
            (turn(0, 5), &[1, 1, 1, 3]),
            (turn(-1, 9), &[9, 8]),
            (turn(0, 5), &[1, 1, 1]),
        ] {
            planner.push_at(turn, Tokens::of_ids(text));
        }
        let numbers = |pass: Vec<(usize, Tokens)>| pass.into_iter().map(|(i, _)| i).collect::<Vec<_>>();
        assert_eq!(numbers(planner.next_pass()), [3, 1], "9 8, and 9 for the second; 1 1 1 is too much");
        assert_eq!(numbers(planner.next_pass()), [4, 2, 0], "1 1 1, 3, 2");
    }

    #[cfg(feature = "serve")]
    #[test]
    fn a_small_pass_between_takes_what_is_short_and_early() {
        let mut planner = planner(8, 1000, true);
        let turn = |time| Turn { priority: 0, time };
        for (time, text) in [(1, &[1; 6][..]), (2, &[2, 3]), (9, &[4]), (3, &[2, 2, 2]), (4, &[2, 5]), (2, &[3])] {
            planner.push_at(turn(time), Tokens::of_ids(text));
        }
        let numbers = |pass: Vec<(usize, Tokens)>| pass.into_iter().map(|(i, _)| i).collect::<Vec<_>>();
        // 2 3, 3; not 2 2 2, of which two more are to compute; 5 after 2.
        assert_eq!(numbers(planner.pass_between(turn(9), 4, 1000)), [1, 5, 4]);
        assert_eq!(planner.tokens(), 6 + 1 + 3);
        assert_eq!(numbers(planner.pass_between(turn(9), 4, 129)), [] as [usize; 0], "three tokens and a text are 130");
        assert_eq!(numbers(planner.pass_between(turn(9), 4, 130)), [3]);
        assert_eq!(planner.next_turn(), Some((turn(1), 6)));
        assert_eq!(numbers(planner.next_pass()), [0, 2]);
    }

    #[test]
    fn enough_is_enough() {
        let mut planner = planner(4, 1000, true);
        for _ in 0..WINDOW_PASSES * 2 {
            assert!(!planner.is_full());
            planner.push(Tokens::of_ids(&[1, 2]));
        }
        assert!(planner.is_full());
    }
}
