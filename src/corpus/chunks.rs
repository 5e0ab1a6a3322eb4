//! Long texts in pieces that mean something by themselves.

use crate::corpus::record::Chunk;
use crate::embedder::Embedder;
use crate::error::Error;
use crate::options::EmbedOptions;
use std::path::Path;
use text_splitter::{ChunkConfig, ChunkConfigError, ChunkSizer, MarkdownSplitter, TextSplitter};

/// How texts are cut up: where the text itself has borders, the greatest that fit: sections (of Markdown), paragraphs, sentences,
/// words, characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunking {
    /// The most tokens of a chunk, without instruction and end token.
    pub tokens: usize,
    /// The most tokens that a chunk has in common with the one before.
    pub overlap: usize,
    /// What becomes of the vectors of a text's chunks.
    pub pool: Pool,
}

/// What becomes of the vectors of a text's chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pool {
    /// Each is a record of its own.
    #[default]
    None,
    /// The text has one vector: their mean, of length 1.
    Mean,
    /// The text has one vector: of each value the greatest, of length 1.
    Max,
}

/// Why texts cannot be cut up so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkingError {
    /// There is no room in a chunk, or none for anything new.
    #[error("chunks of {tokens} tokens that have {overlap} in common: the overlap has to be less than a chunk")]
    Overlap {
        /// Tokens of a chunk.
        tokens: usize,
        /// Tokens in common.
        overlap: usize,
    },
    /// The model takes fewer tokens.
    #[error("chunks of {tokens} tokens: with the instruction the model has room for {room}")]
    Room {
        /// Tokens of a chunk.
        tokens: usize,
        /// The most that fit.
        room: usize,
    },
    /// A text cannot be tokenized.
    #[error(transparent)]
    Text(#[from] Error),
}

impl Chunking {
    /// Chunks of at most so many tokens, which have none in common, and a vector each.
    pub fn new(tokens: usize) -> Self {
        Self { tokens, overlap: 0, pool: Pool::None }
    }

    /// With [`Self::overlap`].
    #[must_use]
    pub fn overlap(mut self, tokens: usize) -> Self {
        self.overlap = tokens;
        self
    }

    /// With [`Self::pool`].
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// The chunks of a text, without the blanks around them, and where each stands; none of a blank text.
    ///
    /// # Errors
    /// More tokens than the model takes, an overlap that leaves no room for anything new, a text that cannot be tokenized.
    pub fn chunks<'t>(
        self,
        embedder: &Embedder,
        text: &'t str,
        structure: Structure,
    ) -> Result<Vec<(Chunk, &'t str)>, ChunkingError> {
        let room = embedder.encoder(&EmbedOptions::default())?.room();
        Ok(Chunker::new(embedder, self, room)?.chunks(text, structure)?)
    }
}

/// The structure that a text has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Structure {
    /// Paragraphs and sentences.
    #[default]
    Plain,
    /// Sections, lists and tables.
    Markdown,
}

impl Structure {
    /// That of the texts of a file.
    pub(crate) fn of(file: &Path) -> Self {
        let is = |name: &str| file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
        if is("md") || is("markdown") { Structure::Markdown } else { Structure::Plain }
    }
}

/// Counts tokens.
#[derive(Clone, Copy)]
struct Counter<'a>(&'a Embedder);

impl ChunkSizer for Counter<'_> {
    fn size(&self, chunk: &str) -> usize {
        // The whole text could be tokenized, so a part of it can.
        self.0.tokenizer.encode(chunk).map_or(usize::MAX, |ids| ids.len())
    }
}

/// Cuts up texts for a model.
pub(crate) struct Chunker<'a> {
    embedder: &'a Embedder,
    plain: TextSplitter<Counter<'a>>,
    markdown: MarkdownSplitter<Counter<'a>>,
}

impl<'a> Chunker<'a> {
    /// `room`: tokens that the model has room for.
    pub(crate) fn new(embedder: &'a Embedder, how: Chunking, room: usize) -> Result<Self, ChunkingError> {
        let Chunking { tokens, overlap, .. } = how;
        if tokens > room {
            return Err(ChunkingError::Room { tokens, room });
        }
        let no = |_: ChunkConfigError| ChunkingError::Overlap { tokens, overlap };
        let config = || ChunkConfig::new(tokens).with_sizer(Counter(embedder)).with_overlap(overlap).map_err(no);
        if tokens == 0 {
            return Err(ChunkingError::Overlap { tokens, overlap });
        }
        Ok(Self { embedder, plain: TextSplitter::new(config()?), markdown: MarkdownSplitter::new(config()?) })
    }

    /// The chunks of a text, without the blanks around them; none of a blank text.
    pub(crate) fn chunks<'t>(&self, text: &'t str, structure: Structure) -> Result<Vec<(Chunk, &'t str)>, Error> {
        let spans = self.embedder.token_spans(text)?;
        let line_ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let line = |at: usize| line_ends.partition_point(|end| *end < at) as u64 + 1;
        let pieces: Vec<(usize, &str)> = match structure {
            Structure::Plain => self.plain.chunk_indices(text).collect(),
            Structure::Markdown => self.markdown.chunk_indices(text).collect(),
        };
        let chunk = |(number, (start, piece)): (usize, (usize, &'t str))| {
            let end = start + piece.len();
            let first = spans.partition_point(|span| span.bytes.end <= start);
            let last = spans.partition_point(|span| span.bytes.start < end);
            let chunk = Chunk {
                number: number as u64,
                bytes: start as u64..end as u64,
                lines: (line(start), line(end.saturating_sub(1))),
                tokens: first as u64..last as u64,
            };
            (chunk, piece)
        };
        Ok(pieces.into_iter().enumerate().map(chunk).collect())
    }
}
