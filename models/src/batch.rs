//! The texts of a forward pass, as a tree in which common prefixes stand once.

use qembed_kernels::Node;
use std::ops::Range;

/// A text of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Its tokens, at least one.
    pub tokens: &'a [u32],
    /// How many of its first tokens are likely to come again in other passes, such as those of an instruction.
    pub prefix: usize,
}

/// Texts to run in one pass. Tokens that texts have in common from their start are computed once, and so are texts that
/// are equal; the bits of the results do not show it.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The tokens to compute, node after node.
    pub(crate) tokens: Vec<u32>,
    /// First those whose keys and values are known already, then those to compute. A parent comes before its children.
    pub(crate) nodes: Vec<Run>,
    /// How many are known already.
    pub(crate) known: usize,
    /// The node with which each text ends; none for a text without tokens.
    pub(crate) ends: Vec<Option<usize>>,
    /// Tokens of each text.
    lengths: Vec<usize>,
}

/// A run of tokens that texts share.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) parent: Option<usize>,
    /// Position of its first token.
    pub(crate) first: usize,
    /// Its rows of keys and values: of computed tokens their places in [`Batch::tokens`], of known ones what follows.
    pub(crate) rows: Range<usize>,
}

impl Batch {
    /// A batch of `texts`.
    pub fn new<T: AsRef<[u32]>>(texts: &[T]) -> Self {
        Self::continuing(texts, &[] as &[&[u32]])
    }

    /// A batch of texts of which some continue one of `prefixes`, whose keys and values are at hand.
    pub fn continuing<T: AsRef<[u32]>, P: AsRef<[u32]>>(texts: &[T], prefixes: &[P]) -> Self {
        let mut batch = Self { known: prefixes.len(), ..Self::default() };
        batch.nodes.extend(prefixes.iter().map(|known| Run { parent: None, first: 0, rows: 0..known.as_ref().len() }));
        batch.add_texts(texts);
        let mut order: Vec<usize> = (0..texts.len()).filter(|i| batch.lengths[*i] > 0).collect();
        order.sort_by_key(|i| texts[*i].as_ref());
        let sorted: Vec<&[u32]> = order.iter().map(|i| texts[*i].as_ref()).collect();

        // Runs of neighbours in `sorted` that share their first `depth` tokens, which end with the node `parent`.
        let mut work = Vec::new();
        let mut rest = 0;
        while rest < sorted.len() {
            let known = |text: &[u32]| longest_prefix(text, prefixes.iter().map(AsRef::as_ref));
            let parent = known(sorted[rest]);
            let run = sorted[rest..].iter().take_while(|text| known(text) == parent).count();
            work.push((rest..rest + run, parent.map_or(0, |i| prefixes[i].as_ref().len()), parent));
            rest += run;
        }
        while let Some((mut run, depth, parent)) = work.pop() {
            while let Some(first) = run.clone().next() {
                // Those that go on as the first one does: the fewer tokens in common the further away, for they are sorted.
                let alike = run.clone().take_while(|i| sorted[*i].get(depth) == sorted[first].get(depth)).count();
                let group = first..first + alike;
                let common = common_tokens(sorted[first], sorted[group.end - 1]);
                let node = batch.nodes.len();
                let row = batch.tokens.len();
                batch.tokens.extend_from_slice(&sorted[first][depth..common]);
                batch.nodes.push(Run { parent, first: depth, rows: row..batch.tokens.len() });
                // The shortest are the first.
                let ending = group.clone().take_while(|i| sorted[*i].len() == common).count();
                order[first..first + ending].iter().for_each(|text| batch.ends[*text] = Some(node));
                work.push((first + ending..group.end, common, Some(node)));
                run.start = group.end;
            }
        }
        batch.place_known();
        batch
    }

    /// A batch that computes every token of every text.
    pub fn separate<T: AsRef<[u32]>>(texts: &[T]) -> Self {
        let mut batch = Self::default();
        batch.add_texts(texts);
        for (i, text) in texts.iter().map(AsRef::as_ref).enumerate().filter(|(_, text)| !text.is_empty()) {
            let row = batch.tokens.len();
            batch.ends[i] = Some(batch.nodes.len());
            batch.tokens.extend_from_slice(text);
            batch.nodes.push(Run { parent: None, first: 0, rows: row..batch.tokens.len() });
        }
        batch
    }

    fn add_texts<T: AsRef<[u32]>>(&mut self, texts: &[T]) {
        self.lengths.extend(texts.iter().map(|text| text.as_ref().len()));
        self.ends.resize(texts.len(), None);
    }

    /// Rows of what is known follow those of what is computed.
    fn place_known(&mut self) {
        let mut row = self.tokens.len();
        for node in &mut self.nodes[..self.known] {
            node.rows = row..row + node.rows.len();
            row = node.rows.end;
        }
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.ends.len()
    }

    /// Tokens of each text.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.lengths.iter().copied()
    }

    /// Number of tokens to compute.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Rows of keys and values, of computed and of known tokens.
    pub(crate) fn rows(&self) -> usize {
        self.nodes[..self.known].last().map_or(self.tokens.len(), |node| node.rows.end)
    }

    /// The position of each token to compute in its text.
    pub(crate) fn positions(&self) -> Vec<u32> {
        self.nodes[self.known..].iter().flat_map(|node| (0..node.rows.len()).map(|i| (node.first + i) as u32)).collect()
    }

    /// Every token of every node as a query.
    pub(crate) fn all_queries(&self) -> Vec<Node> {
        self.queries(|i| if i < self.known { 0 } else { self.nodes[i].rows.len() })
    }

    /// The last token of each node with which a text ends as a query, and their rows.
    pub(crate) fn last_queries(&self) -> (Vec<Node>, Vec<usize>) {
        let mut ending = vec![0; self.nodes.len()];
        self.ends.iter().flatten().for_each(|node| ending[*node] = 1);
        let nodes = self.queries(|i| ending[i]);
        let rows = nodes.iter().filter(|node| !node.queries.is_empty()).map(|node| node.rows.end - 1).collect();
        (nodes, rows)
    }

    fn queries(&self, of: impl Fn(usize) -> usize) -> Vec<Node> {
        let mut row = 0;
        let node = |(i, run): (usize, &Run)| {
            let queries = row..row + of(i);
            row = queries.end;
            Node { parent: run.parent, rows: run.rows.clone(), queries }
        };
        self.nodes.iter().enumerate().map(node).collect()
    }

    /// The rows of the first `count` tokens of text `text`.
    pub(crate) fn rows_of_prefix(&self, text: usize, count: usize) -> Vec<usize> {
        let mut rows = vec![0; count];
        let mut at = self.ends[text];
        while let Some(i) = at {
            let Run { parent, first, rows: of_node } = &self.nodes[i];
            rows.iter_mut().skip(*first).zip(of_node.clone()).for_each(|(to, row)| *to = row);
            at = *parent;
        }
        rows
    }

    /// The first text that has the token of row `row`.
    pub(crate) fn text_with(&self, row: usize) -> usize {
        let has = |text: &usize| self.rows_of_prefix(*text, self.lengths[*text]).contains(&row);
        (0..self.texts()).find(has).expect("each computed token belongs to a text")
    }
}

/// How many tokens two texts have in common from their start.
pub fn common_tokens(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The longest of `prefixes` with which `text` begins and after which it goes on; its number.
pub(crate) fn longest_prefix<'a>(text: &[u32], prefixes: impl Iterator<Item = &'a [u32]>) -> Option<usize> {
    let fits = |prefix: &[u32]| text.len() > prefix.len() && text.starts_with(prefix);
    let fitting = prefixes.enumerate().filter(|(_, prefix)| fits(prefix));
    fitting.max_by_key(|(_, prefix)| prefix.len()).map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of a text's path.
    fn text_of(batch: &Batch, prefixes: &[Vec<u32>], text: usize) -> Vec<u32> {
        let length = batch.lengths[text];
        let all: Vec<u32> = batch.tokens.iter().copied().chain(prefixes.concat()).collect();
        let rows = batch.rows_of_prefix(text, length);
        let nodes = &batch.nodes;
        let end = batch.ends[text].expect("a node");
        assert_eq!(nodes[end].first + nodes[end].rows.len(), length, "a text ends with its node");
        rows.into_iter().map(|row| all[row]).collect()
    }

    #[test]
    fn texts_are_the_paths_of_the_tree_and_nothing_is_computed_twice() {
        let texts: Vec<Vec<u32>> = vec![
            vec![1, 2, 3, 9],
            vec![1, 2, 4, 9],
            vec![5, 9],
            vec![1, 2, 3, 9],
            vec![1, 2, 3],
            vec![1, 7, 9],
            vec![1],
            vec![8, 8, 8, 9],
            vec![8, 8, 9],
            vec![8, 8, 8, 8],
        ];
        let tree = Batch::new(&texts);
        let distinct: std::collections::HashSet<&[u32]> =
            texts.iter().flat_map(|text| (1..=text.len()).map(|len| &text[..len])).collect();
        assert_eq!(tree.tokens(), distinct.len());
        let prefixes = vec![vec![1, 2], vec![8], vec![1], vec![5, 9]];
        let continuing = Batch::continuing(&texts, &prefixes);
        for (i, text) in texts.iter().enumerate() {
            assert_eq!(&text_of(&tree, &[], i), text);
            assert_eq!(&text_of(&continuing, &prefixes, i), text);
            assert_eq!(&text_of(&Batch::separate(&texts), &[], i), text);
        }
        // Of [1 2 …]: 3 9, 4 9; of [8]: 8 and two ends after 8 8, one more token; [1 7 9] goes on from [1], [1] and
        // [5 9] are no longer than what is known of them.
        assert_eq!(continuing.tokens(), 2 + 2 + (1 + 1 + 1 + 1 + 1) + 2 + 1 + 2);
        assert!(continuing.nodes.iter().enumerate().all(|(i, node)| node.parent.is_none_or(|parent| parent < i)));
    }

    #[test]
    fn only_last_tokens_are_queries_of_the_last_layer() {
        let batch = Batch::new(&[vec![1, 2, 9], vec![1, 9], vec![1, 2, 9]]);
        let (nodes, rows) = batch.last_queries();
        assert_eq!(nodes.iter().map(|node| node.queries.len()).sum::<usize>(), 2);
        assert!(rows.iter().all(|row| batch.tokens[*row] == 9));
    }
}
