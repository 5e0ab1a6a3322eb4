//! Where the keys of a text lie that shares a prefix with others.

use crate::backend::Node;
use std::ops::Range;

/// The tokens of a text up to the end of a node, and where their keys are packed, in blocks counted from the text's start.
/// Whole blocks belong to the node in which they end, and all that continue it use them; one that the parent left unfinished
/// is packed anew, so that a text's blocks are the same whatever shares its prefix.
pub(crate) struct Path {
    /// Position of the node's first token.
    pub(crate) first: usize,
    /// Tokens up to the node's end.
    pub(crate) len: usize,
    /// Where each block is packed, in keys.
    pub(crate) blocks: Vec<usize>,
    /// The blocks that the node packs itself.
    pub(crate) own: Range<usize>,
}

impl Path {
    /// The path of each node, and how many keys are packed for all.
    pub(crate) fn of(nodes: &[Node], keys: usize, pad: usize) -> (Vec<Self>, usize) {
        let mut paths: Vec<Self> = Vec::with_capacity(nodes.len());
        let mut packed = 0;
        for node in nodes {
            let (first, mut blocks) = node.parent.map_or((0, Vec::new()), |parent| {
                let parent = &paths[parent];
                (parent.len, parent.blocks[..parent.len / keys].to_vec())
            });
            let len = first + node.rows.len();
            let own = blocks.len()..len.div_ceil(keys);
            for block in own.clone() {
                blocks.push(packed);
                packed += (len - block * keys).min(keys).next_multiple_of(pad);
            }
            paths.push(Self { first, len, blocks, own });
        }
        (paths, packed)
    }

    /// The row of the token at `position` of the path that ends with node `i`.
    pub(crate) fn row(paths: &[Self], nodes: &[Node], mut i: usize, position: usize) -> usize {
        while position < paths[i].first {
            i = nodes[i].parent.expect("a node without parent starts at 0");
        }
        nodes[i].rows.start + position - paths[i].first
    }
}
