//! What attention needs to know of a tree of texts: the same for every layer of a pass.

use super::gpu::Gpu;
use super::memory::Memory;
use crate::backend::Node;
use crate::path::Path;

/// Keys of a block, queries of a task, and the row of keys that there are none of: as in `attention.metal`.
pub(super) const KEYS: usize = 32;
pub(super) const QUERIES: usize = 8;
const NO_ROW: u32 = u32::MAX;

/// Tables for the kernels.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Of each packed key, its row.
    pub(super) rows: Vec<u32>,
    /// Of each task its first query, how many they are, the position of the first, and where its blocks begin.
    pub(super) tasks: Vec<[u32; 4]>,
    /// Where the blocks of each path are packed, in keys.
    pub(super) blocks: Vec<u32>,
}

impl Plan {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let (paths, packed) = Path::of(nodes, KEYS, KEYS);
        let mut plan = Self { rows: vec![NO_ROW; packed], ..Self::default() };
        for (i, (path, node)) in paths.iter().zip(nodes).enumerate() {
            for position in path.own.start * KEYS..path.len {
                let at = path.blocks[position / KEYS] + position % KEYS;
                plan.rows[at] = Path::row(&paths, nodes, i, position) as u32;
            }
            let first = path.len - node.queries.len();
            for query in (0..node.queries.len()).step_by(QUERIES) {
                let count = (node.queries.len() - query).min(QUERIES);
                let task = [node.queries.start + query, count, first + query, plan.blocks.len()];
                plan.tasks.push(task.map(|x| x as u32));
            }
            if !node.queries.is_empty() {
                plan.blocks.extend(path.blocks.iter().map(|block| *block as u32));
            }
        }
        // Long ones first, so that the grid ends with short ones.
        plan.tasks.sort_by_key(|[.., position, _]| std::cmp::Reverse(*position));
        plan
    }

    /// The most bytes that tables, packed keys and values take, with so many values of a token's keys.
    pub(super) fn bytes(columns: usize, tokens: usize, nodes: usize) -> usize {
        // A node packs the block anew that its parent left unfinished, and pads its last.
        let packed = tokens + nodes * 2 * (KEYS - 1);
        let tables = packed + 4 * (tokens / QUERIES + nodes) + nodes * tokens.div_ceil(KEYS);
        size_of::<f32>() * (2 * columns * packed + tables)
    }
}

/// The plan of these nodes, in the GPU's memory.
pub(super) struct Planned<D: Gpu> {
    pub(super) nodes: Vec<Node>,
    pub(super) packed: usize,
    /// Of each task the keys that it goes through.
    pub(super) keys: Vec<usize>,
    pub(super) tables: [Memory<D>; 3],
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prefix of 40 tokens without queries, and two texts that go on with 3 and 9 tokens.
    #[test]
    fn blocks_are_those_of_the_path() {
        let node = |parent, rows, queries| Node { parent, rows, queries };
        let nodes = [node(None, 12..52, 0..0), node(Some(0), 0..3, 0..3), node(Some(0), 3..12, 3..12)];
        let plan = Plan::of(&nodes);
        // The prefix packs two blocks, of which the second is unfinished, and each text that one again with its own tokens.
        let padded = |rows: Vec<u32>| {
            let pads = rows.len().next_multiple_of(KEYS) - rows.len();
            [rows, vec![NO_ROW; pads]].concat()
        };
        let of_text = |own: std::ops::Range<u32>| padded((44..52).chain(own).collect());
        assert_eq!(plan.rows, [padded((12..52).collect()), of_text(0..3), of_text(3..12)].concat());
        assert_eq!(plan.blocks, [0, 64, 0, 96]);
        // Of the second text, eight queries and one.
        assert_eq!(plan.tasks, [[11, 1, 48, 2], [0, 3, 40, 0], [3, 8, 40, 2]]);
        assert!(Plan::bytes(1, 52, 3) >= 4 * (2 * plan.rows.len() + plan.rows.len() + 4 * 3 + 4));
    }
}
