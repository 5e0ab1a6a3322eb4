//! Long texts in pieces that mean something by themselves.

use crate::corpus::language::Language;
use crate::corpus::read::ending;
use crate::corpus::record::Chunk;
use crate::embedder::Embedder;
use crate::error::Error;
use crate::options::EmbedOptions;
use std::collections::HashMap;
use std::path::Path;
use text_splitter::{ChunkConfig, ChunkConfigError, ChunkSizer, CodeSplitter, MarkdownSplitter, TextSplitter};

/// The most bytes of code that are parsed: its syntax takes memory, some hundred times its size.
const MOST_CODE: usize = 1 << 20;

/// How texts are cut up: where the text itself has borders, the greatest that fit: sections (of Markdown), functions and statements (of
/// code), paragraphs, sentences, words, characters.
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
    /// Functions, types and statements.
    Code(Language),
}

impl Structure {
    /// That of the texts of a file, by its name.
    pub fn of_path(path: &Path) -> Self {
        match ending(path).as_deref() {
            Some("md" | "markdown") => Structure::Markdown,
            Some(ending) => Language::of_ending(ending).map_or(Structure::Plain, Structure::Code),
            None => Structure::Plain,
        }
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
    code: HashMap<Language, CodeSplitter<Counter<'a>>>,
}

impl<'a> Chunker<'a> {
    /// `room`: tokens that the model has room for.
    pub(crate) fn new(embedder: &'a Embedder, how: Chunking, room: usize) -> Result<Self, ChunkingError> {
        let Chunking { tokens, overlap, .. } = how;
        if tokens > room {
            return Err(ChunkingError::Room { tokens, room });
        }
        let no = |_: ChunkConfigError| ChunkingError::Overlap { tokens, overlap };
        if tokens == 0 {
            return Err(ChunkingError::Overlap { tokens, overlap });
        }
        let config = || ChunkConfig::new(tokens).with_sizer(Counter(embedder)).with_overlap(overlap).map_err(no);
        let code = |language: Language| Ok((language, language.splitter(config()?)));
        Ok(Self {
            embedder,
            plain: TextSplitter::new(config()?),
            markdown: MarkdownSplitter::new(config()?),
            code: Language::ALL.into_iter().map(code).collect::<Result<_, ChunkingError>>()?,
        })
    }

    /// The chunks of a text, without the blanks around them; none of a blank text.
    pub(crate) fn chunks<'t>(&self, text: &'t str, structure: Structure) -> Result<Vec<(Chunk, &'t str)>, Error> {
        let spans = self.embedder.token_spans(text)?;
        let line_ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let line = |at: usize| line_ends.partition_point(|end| *end < at) as u64 + 1;
        let pieces: Vec<(usize, &str)> = match structure {
            Structure::Plain => self.plain.chunk_indices(text).collect(),
            Structure::Markdown => self.markdown.chunk_indices(text).collect(),
            Structure::Code(language) if text.len() <= MOST_CODE => self.code[&language].chunk_indices(text).collect(),
            Structure::Code(_) => self.plain.chunk_indices(text).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use qembed_models::PassMemory;

    /// Every byte of a text is a token.
    fn embedder() -> Embedder {
        let memory = |_| PassMemory { per_token: 1, per_text: 1, limit: None };
        crate::tests::embedder(100_000, memory, |_, _, _| panic!("nothing is computed")).unwrap()
    }

    /// Chunks of a text; that they leave out nothing but blanks, and are what they say they are.
    fn chunks(text: &str, tokens: usize, structure: Structure) -> Vec<&str> {
        let chunks = Chunking::new(tokens).chunks(&embedder(), text, structure).unwrap();
        let mut end = 0;
        for (number, (chunk, piece)) in chunks.iter().enumerate() {
            let (from, to) = (chunk.bytes.start as usize, chunk.bytes.end as usize);
            assert_eq!((chunk.number, &text[from..to]), (number as u64, *piece));
            assert!(from >= end && text[end..from].trim().is_empty(), "{structure:?}: {:?} is lost", &text[end..from]);
            assert!(piece.len() <= tokens && !piece.trim().is_empty(), "{structure:?}: {piece:?}");
            assert_eq!(chunk.lines.0, text[..from].matches('\n').count() as u64 + 1);
            end = to;
        }
        assert!(text[end..].trim().is_empty(), "{structure:?}: {:?} is lost", &text[end..]);
        chunks.into_iter().map(|(_, piece)| piece).collect()
    }

    /// Of each language three things that are not cut, the second and the third with a blank line in them, as people write them.
    const CODE: [(&str, [&str; 3]); 4] = [
        (
            "a.go",
            [
                "func first(x int) int {\n\treturn 2 * x\n}",
                "func (s *Some) second(x int) int {\n\ty := 2 * x\n\n\treturn x + y\n}",
                "type third struct {\n\tx int\n\n\ty int\n}",
            ],
        ),
        (
            "a.java",
            [
                "class First {\n  int x = 2;\n}",
                "class Second {\n  int y = 2;\n\n  int second(int x) { return 2 * x + y; }\n}",
                "interface Third {\n  int x();\n\n  int y();\n}",
            ],
        ),
        (
            "a.js",
            [
                "function first(x) {\n  return 2 * x;\n}",
                "export const second = (x) => {\n  const y = 2 * x;\n\n  return <b>{x + y}</b>;\n};",
                "class Third {\n  x = 1;\n\n  y = 2;\n}",
            ],
        ),
        (
            "a.PY.gz",
            [
                "def first(x):\n    return 2 * x",
                "@cache\ndef second(x, y=0):\n    y += 2 * x\n\n    return x + y * second(y)",
                "class Third:\n    x = 1\n\n    y = 2",
            ],
        ),
    ];

    #[test]
    fn code_is_cut_between_functions() {
        for (name, parts) in CODE {
            let structure = Structure::of_path(name.as_ref());
            let code = parts.join("\n\n") + "\n";
            assert_eq!(chunks(&code, 95, structure), parts, "{name}");
            assert_ne!(chunks(&code, 95, Structure::Plain), parts, "{name}: what the syntax is for");
            let crlf = |text: &str| text.replace('\n', "\r\n");
            assert_eq!(chunks(&crlf(&code), 100, structure), parts.map(crlf), "{name}");
        }
        let known = CODE.map(|(name, _)| Structure::of_path(name.as_ref()));
        assert!(Language::ALL.iter().all(|language| known.contains(&Structure::Code(*language))));
    }

    #[test]
    fn what_does_not_parse_is_cut_around() {
        for (name, parts) in CODE {
            let structure = Structure::of_path(name.as_ref());
            // Something stray, and an end that is missing.
            let code = [parts[0], ")))", parts[1], parts[2], &parts[1][..40]].join("\n\n");
            let found = chunks(&code, 95, structure);
            assert!(found.iter().any(|chunk| chunk.ends_with(parts[1])), "{name}: {found:#?}");
            assert!(found.iter().any(|chunk| chunk.starts_with(parts[2])), "{name}: {found:#?}");
        }
        let prose =
            "There is no code in this file, but it has quotation marks (\" and '), {braces, and #hash <marks.\n\n"
                .repeat(3);
        for language in Language::ALL {
            let structure = Structure::Code(language);
            assert!(chunks(&prose, 60, structure).len() > 4);
            chunks(&"({[<'\"`#/*\u{e4}\u{1f600}\0\r\n\t".repeat(40), 30, structure);
            assert!(chunks(" \r\n\t\n", 30, structure).is_empty() && chunks("", 30, structure).is_empty());
        }
    }
}
