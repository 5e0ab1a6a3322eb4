//! What becomes of a row: a record of the output, or several, one a chunk.

use crate::corpus::dtype::Dtype;
use crate::corpus::row::{ColumnType, Columns, Value};
use std::ops::Range;

/// The name in [`Layout::metadata`] that a part of an output has, with `3/8` for the third of eight. A whole one has none.
pub const PART: &str = "qembed.part";
/// The name in [`Layout::metadata`] that a file of an output in several has, with its number, from 0.
pub const SHARD: &str = "qembed.shard";
/// The name in the metadata that the last of these files has besides, with how many they are.
pub const SHARDS: &str = "qembed.shards";

/// What all records of an output have in common.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The type of all ids.
    pub id: ColumnType,
    /// Columns that are kept of the input.
    pub columns: Columns,
    /// Whether a record is a chunk of a row and says which.
    pub chunked: bool,
    /// Values of a vector.
    pub dimensions: usize,
    /// What a value of a vector is.
    pub dtype: Dtype,
    /// What a reader of the output may want to know and compare: names and values, in this order.
    pub metadata: Vec<(String, String)>,
}

/// A record of the output.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The number of its row in the input, from 0; a part of a corpus counts from where the corpus begins.
    pub row: u64,
    /// Name of its row.
    pub id: &'a Value,
    /// Which part of its row it is, where rows are cut up.
    pub chunk: Option<&'a Chunk>,
    /// What was embedded, without instruction.
    pub text: &'a str,
    /// SHA-256 of what was embedded, by which a later run knows it again.
    pub hash: [u8; 32],
    /// Tokens that were embedded, with instruction and end token.
    pub tokens: u64,
    /// As many values as [`Layout::columns`] has.
    pub kept: &'a [Value],
    /// The vector, in the [`Dtype`] of the layout.
    pub vector: &'a [u8],
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number within the text, from 0.
    pub number: u64,
    /// Bytes of the text.
    pub bytes: Range<u64>,
    /// Lines of the text, from 1; the last one is part of it.
    pub lines: (u64, u64),
    /// Tokens of the text, without instruction and end token.
    pub tokens: Range<u64>,
}
impl Chunk {
    /// Bytes of a chunk in a journal.
    pub(crate) const BYTES: usize = 7 * 8;

    /// Writes it for a journal.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Chunk { number, bytes, lines, tokens } = self;
        for value in [*number, bytes.start, bytes.end, lines.0, lines.1, tokens.start, tokens.end] {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Reads it from [`Self::BYTES`] bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut values = bytes.chunks_exact(8).map(|eight| eight.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || values.next();
        let (number, bytes) = (next()?, next()?..next()?);
        Some(Chunk { number, bytes, lines: (next()?, next()?), tokens: next()?..next()? })
    }
}
