//! Passages of files, short enough to be embedded one by one and long enough to mean something alone.
//!
//! Nothing is dropped in silence: files that are passed over are counted, and every line that is not blank ends up in
//! a passage.

use super::Failure;
use ignore::WalkBuilder;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes after which a passage ends at the next blank line.
const SHORT: usize = 200;
/// Bytes that a passage has at most. A small model loses track in long ones, and a reader too.
const LONG: usize = 600;
/// Bytes of a file that is still taken for text someone wrote.
const MAX_FILE: u64 = 8 << 20;

/// A piece of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passage {
    /// Index into [`Passages::paths`].
    pub(super) path: usize,
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    /// Its text, without blank lines around it.
    pub(super) text: String,
}

/// The passages of a folder or a file, in the order of paths and lines.
#[derive(Debug, Default)]
pub(super) struct Passages {
    pub(super) paths: Vec<PathBuf>,
    pub(super) passages: Vec<Passage>,
    /// Files that are no UTF-8 text, or too large.
    pub(super) skipped: usize,
}

impl Passages {
    /// Reads `path`: the text files of a folder (without hidden ones and those that `.gitignore` names), the objects of
    /// a `.jsonl` file, or any text file. No passage exceeds `limit` bytes.
    pub(super) fn read(path: &Path, field: &str, limit: usize) -> Result<Self, Failure> {
        let mut passages = Passages::default();
        let cannot_read = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::Input(format!("cannot read {}: {error}", path.display()))
        };
        let kind = fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
        if !kind.is_dir() {
            let bytes = fs::read(path).map_err(|error| cannot_read(path, &error))?;
            let text = String::from_utf8(bytes).map_err(|error| cannot_read(path, &error))?;
            passages.paths.push(path.into());
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                passages.passages = objects(path, &text, field, limit)?;
            } else {
                passages.add(&text, limit);
            }
            return Ok(passages);
        }
        // With one kind of separators, on systems that know two.
        let path = path.components().collect::<PathBuf>();
        let walk = WalkBuilder::new(&path).require_git(false).sort_by_file_path(Path::cmp).build();
        for entry in walk {
            let entry = entry.map_err(|error| cannot_read(&path, &error))?;
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let length = entry.metadata().map_err(|error| cannot_read(entry.path(), &error))?.len();
            let text = match length {
                0..=MAX_FILE => fs::read(entry.path()).map_err(|error| cannot_read(entry.path(), &error))?,
                _ => vec![0],
            };
            match String::from_utf8(text) {
                Ok(text) if !text.contains('\0') => {
                    passages.paths.push(entry.into_path());
                    passages.add(&text, limit);
                }
                _ => passages.skipped += 1,
            }
        }
        Ok(passages)
    }

    /// Appends the passages of a text, which belong to the last path.
    fn add(&mut self, text: &str, limit: usize) {
        let path = self.paths.len() - 1;
        self.passages.extend(chunks(text, LONG.min(limit)).map(|(line, text)| Passage { path, line, text }));
    }
}

/// Cuts a text at blank lines once a piece has [`SHORT`] bytes, before headings, and wherever it must for pieces of
/// `limit` bytes. Yields the line on which each piece begins, from 1.
fn chunks(text: &str, limit: usize) -> impl Iterator<Item = (usize, String)> {
    let mut chunks: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() {
            open = open && chunks.last().is_some_and(|(_, chunk)| chunk.len() < SHORT);
            continue;
        }
        for piece in pieces(line, limit) {
            match chunks.last_mut().filter(|_| open && !is_heading(line)) {
                Some((_, chunk)) if chunk.len() + 1 + piece.len() <= limit => {
                    chunk.push('\n');
                    chunk.push_str(piece);
                }
                _ => chunks.push((i + 1, piece.into())),
            }
            open = true;
        }
    }
    chunks.into_iter()
}

/// A heading of Markdown: it belongs to what follows.
fn is_heading(line: &str) -> bool {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    (1..=6).contains(&level) && line[level..].starts_with(' ')
}

/// Cuts a line into pieces of at most `limit` bytes, after a blank where there is one.
fn pieces(line: &str, limit: usize) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = limit.min(rest.len());
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end < rest.len() {
            end = rest[..end].rfind(' ').map_or(end, |blank| blank + 1);
        }
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        Some(piece)
    })
}

/// The texts of a file with one JSON object a line: a passage each, unless they exceed `limit` bytes.
fn objects(path: &Path, text: &str, field: &str, limit: usize) -> Result<Vec<Passage>, Failure> {
    let mut passages = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |problem: String| Failure::Input(format!("{}, line {}: {problem}", path.display(), i + 1));
        let object: serde_json::Value = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
        match object.get(field).and_then(|text| text.as_str()) {
            Some(text) if (1..=limit).contains(&text.len()) => {
                passages.push(Passage { path: 0, line: i + 1, text: text.into() });
            }
            Some(text) if !text.trim().is_empty() => {
                let chunks = chunks(text, LONG.min(limit));
                passages.extend(chunks.map(|(_, text)| Passage { path: 0, line: i + 1, text }));
            }
            _ => return Err(bad(format!("no text under {field:?}; name another field with --field"))),
        }
    }
    Ok(passages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, limit: usize) -> Vec<(usize, String)> {
        chunks(text, limit).collect()
    }

    #[test]
    fn short_paragraphs_stay_together_and_long_ones_apart() {
        let long = "word ".repeat(50).trim_end().to_owned();
        let text = format!("title\n\n{long}\n\n\nnext\nline\n\nlast\n");
        let expected = [(1, format!("title\n{long}")), (6, "next\nline\nlast".into())];
        assert_eq!(lines(&text, 800), expected);
    }

    #[test]
    fn a_heading_starts_a_passage_and_a_comment_does_not() {
        assert_eq!(lines("a\n# b\nc\n#d\n", 800), [(1, "a".into()), (2, "# b\nc\n#d".into())]);
    }

    /// Whatever the text, no line is lost and no piece is too long.
    #[test]
    fn nothing_is_lost_and_nothing_too_long() {
        let words: String =
            (0..2000).map(|i| ["wörter ", "二二二", "x\n", "\n\n", "# ", "\t "][i * i % 11 % 6]).collect();
        for limit in [4, 7, 32, 511, 800] {
            let chunks = lines(&words, limit);
            assert!(chunks.iter().all(|(_, chunk)| (1..=limit).contains(&chunk.len())), "{limit}");
            let kept = |text: &str| text.split_whitespace().collect::<String>();
            let joined: String = chunks.iter().map(|(_, chunk)| chunk.as_str()).collect();
            assert_eq!(kept(&joined), kept(&words), "{limit}");
            for (line, chunk) in &chunks {
                let first = words.lines().nth(line - 1).unwrap();
                assert!(first.contains(chunk.lines().next().unwrap()), "{limit}: line {line}");
            }
        }
    }

    #[test]
    fn objects_are_one_passage_unless_they_are_too_long() {
        let found = objects(Path::new("f"), "{\"t\":\"one\\n\\n# two\"}\n{\"t\":\"four five\"}\n", "t", 8).unwrap();
        let found: Vec<_> = found.iter().map(|p| (p.line, &p.text[..])).collect();
        assert_eq!(found, [(1, "one"), (1, "# two"), (2, "four "), (2, "five")]);
        assert_eq!(objects(Path::new("f"), "{\"t\":\"one\\n\\n# two\"}\n", "t", 10).unwrap().len(), 1);
    }

    #[test]
    fn objects_without_the_field_are_refused_by_line() {
        let path = Path::new("f.jsonl");
        let found = objects(path, "{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n", "text", 9).unwrap();
        assert_eq!(found.iter().map(|p| (p.line, &p.text[..])).collect::<Vec<_>>(), [(1, "a"), (3, "b")]);
        for (text, word) in [("{\"text\":\"a\"}\n{\"x\":1}", "--field"), ("\n{", "EOF"), ("{\"text\":\"\"}", "--field")]
        {
            let error = objects(path, text, "text", 9).unwrap_err().to_string();
            let line = text.lines().count();
            assert!(error.contains(&format!("f.jsonl, line {line}")) && error.contains(word), "{error}");
        }
    }
}
