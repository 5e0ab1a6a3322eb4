//! Which of the texts that wait make the next pass.

use crate::memory::MemoryNeeds;
use crate::tokens::Tokens;
use qembed_models::common_tokens;

/// So many passes or texts are worth waiting for, to look at together for what they have in common.
const WINDOW_PASSES: usize = 8;
const WINDOW_TEXTS: usize = 4096;

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

/// Tokenized texts that wait for a pass. Texts with long beginnings in common come into the same one, where that saves work.
pub(crate) struct Planner {
    limits: Limits,
    /// Those whose turn is next stand at the end, if `sorted`.
    waiting: Vec<(usize, Tokens)>,
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
        let number = self.number;
        self.number += 1;
        self.tokens += tokens.len();
        self.waiting.push((number, tokens));
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
        self.waiting.retain(|(number, _)| wanted(*number));
        self.tokens = self.waiting.iter().map(|(_, tokens)| tokens.len()).sum();
    }

    /// Takes out the texts of the next pass, with their numbers; none if none wait. A text that is too long for a pass with
    /// others is one by itself.
    pub(crate) fn next_pass(&mut self) -> Vec<(usize, Tokens)> {
        if !self.sorted {
            // Neighbours in this order have the longest beginnings in common. The first come last.
            if self.limits.shares_prefixes {
                self.waiting.sort_by(|(i, a), (j, b)| (b, j).cmp(&(a, i)));
            } else {
                self.waiting.sort_by(|(i, _), (j, _)| j.cmp(i));
            }
            self.sorted = true;
        }
        let count = self.fitting();
        let mut pass = self.waiting.split_off(self.waiting.len() - count);
        pass.reverse();
        self.tokens -= pass.iter().map(|(_, tokens)| tokens.len()).sum::<usize>();
        pass
    }

    /// How many of the next texts fit into a pass together.
    fn fitting(&self) -> usize {
        let Limits { tokens: limit, memory, shares_prefixes } = &self.limits;
        let (mut total, mut count) = (0, 0);
        let mut before: &[u32] = &[];
        for (_, tokens) in self.waiting.iter().rev() {
            let shared = if *shares_prefixes { common_tokens(before, tokens.ids()) } else { 0 };
            before = tokens.ids();
            total += tokens.len() - shared;
            if count > 0 && (total > *limit || memory.of_pass(total, count + 1) > memory.budget) {
                break;
            }
            count += 1;
        }
        count
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
    fn enough_is_enough() {
        let mut planner = planner(4, 1000, true);
        for _ in 0..WINDOW_PASSES * 2 {
            assert!(!planner.is_full());
            planner.push(Tokens::of_ids(&[1, 2]));
        }
        assert!(planner.is_full());
    }
}
