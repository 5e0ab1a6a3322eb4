//! Passages of files, short enough to be embedded one by one and long enough to mean something alone.
//!
//! Nothing is dropped in silence: what is passed over is counted, and every line that is not blank ends up in a passage.

use ignore::WalkBuilder;
use qembed_models::text::{TextError, decode};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Bytes after which a passage ends at the next blank line.
const SHORT: usize = 200;
/// Bytes that a passage has at most. A small model loses track in long ones, and a reader too.
const LONG: usize = 600;
/// Bytes of a file that is still taken for text someone wrote.
const MAX_FILE: u64 = 8 << 20;

/// A piece of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Passage {
    /// Index into [`Passages::paths`].
    pub path: usize,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// Its text, without blank lines around it.
    pub text: String,
}

/// The passages of a folder or a file, in the order of paths and lines.
#[derive(Debug, Default)]
pub struct Passages {
    /// The files that were read.
    pub paths: Vec<PathBuf>,
    /// Their passages.
    pub passages: Vec<Passage>,
    /// Files of a folder that are no UTF-8 text, or too large.
    pub skipped: usize,
    /// Symbolic links to folders, which are not followed: they may lead anywhere, and in circles.
    pub folder_links: usize,
    /// What of a folder could not be read.
    pub unreadable: Vec<SourceError>,
}

/// Why a source, or a part of it, gave no passages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or a folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// In a folder, the way on was barred.
    #[error("cannot read {0}")]
    Walk(#[from] ignore::Error),
    /// A file is no UTF-8 text.
    #[error("cannot read {}: {source}", path.display())]
    NotText {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: TextError,
    },
    /// A line of a file of objects holds none with a text.
    #[error("{}, {source}", path.display())]
    Object {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        source: ObjectError,
    },
}

/// A line that is no JSON object with a text, counted from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// It is no JSON.
    #[error("line {line}: {source}")]
    Json {
        /// Which line.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The field is missing, blank, or no string.
    #[error("line {line}: no text under {field:?}; name the field that has it")]
    NoText {
        /// Which line.
        line: usize,
        /// The field.
        field: String,
    },
}

impl Passages {
    /// Reads `path`: any text file, the objects of one whose name ends with `.jsonl` or `.ndjson`, or the files of a folder,
    /// without hidden ones and those that `.gitignore` names. No passage exceeds `limit` bytes.
    ///
    /// Of a folder each file is read once, whether it lies there or a link leads to it; a file of objects of which one has
    /// no `field` is read as any other text.
    ///
    /// # Errors
    /// When the source itself gives nothing. In a folder, what cannot be read is passed over.
    pub fn read(path: &Path, field: &str, limit: usize) -> Result<Self, SourceError> {
        let mut passages = Passages::default();
        let cannot_read = |source| SourceError::Read { path: path.into(), source };
        if fs::metadata(path).map_err(cannot_read)?.is_dir() {
            passages.read_folder(path, field, limit);
            let nothing_else = passages.paths.is_empty() && passages.skipped == 0;
            return if nothing_else && !passages.unreadable.is_empty() {
                Err(passages.unreadable.swap_remove(0))
            } else {
                Ok(passages)
            };
        }
        let bytes = fs::read(path).map_err(cannot_read)?;
        let text = decode(&bytes).map_err(|source| SourceError::NotText { path: path.into(), source })?;
        if holds_objects(path) {
            let found = objects(text, field, limit);
            let found = found.map_err(|source| SourceError::Object { path: path.into(), source })?;
            passages.add(path.into(), found);
        } else {
            passages.add(path.into(), chunks(text, LONG.min(limit)));
        }
        Ok(passages)
    }

    fn read_folder(&mut self, folder: &Path, field: &str, limit: usize) {
        for path in self.files(folder) {
            let read = |path: &Path| match fs::metadata(path)?.len() {
                0..=MAX_FILE => fs::read(path).map(Some),
                _ => Ok(None),
            };
            let bytes = match read(&path) {
                Ok(bytes) => bytes,
                Err(source) => {
                    self.unreadable.push(SourceError::Read { path, source });
                    continue;
                }
            };
            match bytes.as_deref().map(decode) {
                Some(Ok(text)) if !text.contains('\0') => {
                    let found = if holds_objects(&path) { objects(text, field, limit).ok() } else { None };
                    let found = found.unwrap_or_else(|| chunks(text, LONG.min(limit)).collect());
                    self.add(path, found);
                }
                Some(Err(source @ TextError::Utf16)) => self.unreadable.push(SourceError::NotText { path, source }),
                _ => self.skipped += 1,
            }
        }
    }

    /// The files of a folder, in the order of their paths.
    fn files(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut is_link = HashSet::new();
        // With one kind of separators, on systems that know two.
        let folder = folder.components().collect::<PathBuf>();
        for entry in WalkBuilder::new(folder).require_git(false).sort_by_file_path(Path::cmp).build() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.unreadable.push(error.into());
                    continue;
                }
            };
            let Some(kind) = entry.file_type().filter(|kind| entry.depth() > 0 && !kind.is_dir()) else { continue };
            let path = entry.into_path();
            let target = match kind.is_symlink() {
                true => fs::metadata(&path).map(|target| target.file_type()),
                false => Ok(kind),
            };
            match target {
                Ok(target) if target.is_file() => {
                    if kind.is_symlink() {
                        is_link.insert(path.clone());
                    }
                    files.push(path);
                }
                Ok(target) if target.is_dir() => self.folder_links += 1,
                // A pipe, say, at which one might wait for ever.
                Ok(_) => self.skipped += 1,
                Err(source) => self.unreadable.push(SourceError::Read { path, source }),
            }
        }
        if !is_link.is_empty() {
            let whole = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
            let mut known: HashSet<PathBuf> = files.iter().filter(|path| !is_link.contains(*path)).map(whole).collect();
            files.retain(|path| !is_link.contains(path) || known.insert(whole(path)));
        }
        files
    }

    /// Appends a file and its passages: of each, the line and the text.
    fn add(&mut self, path: PathBuf, passages: impl IntoIterator<Item = (usize, String)>) {
        let number = self.paths.len();
        self.paths.push(path);
        self.passages.extend(passages.into_iter().map(|(line, text)| Passage { path: number, line, text }));
    }
}

/// Whether a file has a JSON object a line, by its name or that of the file to which it is a link.
fn holds_objects(path: &Path) -> bool {
    let ends = |path: &Path, name: &str| path.extension().is_some_and(|end| end.eq_ignore_ascii_case(name));
    let says_so = |path: &Path| ends(path, "jsonl") || ends(path, "ndjson");
    says_so(path) || path.is_symlink() && path.canonicalize().is_ok_and(|path| says_so(&path))
}

/// Cuts a text at blank lines once a piece has 200 bytes, before headings, and wherever it must for pieces of
/// `limit` bytes (of at least one character). Yields the line on which each piece begins, from 1, and its text.
pub fn chunks(text: &str, limit: usize) -> impl Iterator<Item = (usize, String)> {
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

/// Cuts a line into pieces of at most `limit` bytes, but at least one character, after a blank where there is one.
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
        end = end.max(rest.chars().next().map_or(0, char::len_utf8));
        if end < rest.len() {
            end = rest[..end].rfind(' ').map_or(end, |blank| blank + 1);
        }
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        Some(piece)
    })
}

/// The texts under `field` of one JSON object a line, each with its line, from 1: one passage each, unless it exceeds
/// `limit` bytes.
///
/// # Errors
/// At the first line that is not blank and no object with such a text.
pub fn objects(text: &str, field: &str, limit: usize) -> Result<Vec<(usize, String)>, ObjectError> {
    let mut passages = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = i + 1;
        let object: serde_json::Value =
            serde_json::from_str(line).map_err(|source| ObjectError::Json { line: number, source })?;
        match object.get(field).and_then(|text| text.as_str()) {
            Some(text) if (1..=limit).contains(&text.len()) => passages.push((number, text.into())),
            Some(text) if !text.trim().is_empty() => {
                passages.extend(chunks(text, LONG.min(limit)).map(|(_, text)| (number, text)));
            }
            _ => return Err(ObjectError::NoText { line: number, field: field.into() }),
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

    /// Less than a character is none: the piece is longer then, and never empty.
    #[test]
    fn a_character_is_never_cut() {
        assert_eq!(lines("ä二a\n", 1), [(1, "ä".into()), (1, "二".into()), (1, "a".into())]);
        assert_eq!(lines("ab\n", 0), [(1, "a".into()), (1, "b".into())]);
    }

    #[test]
    fn objects_are_one_passage_unless_they_are_too_long() {
        let found = objects("{\"t\":\"one\\n\\n# two\"}\n{\"t\":\"four five\"}\n", "t", 8).unwrap();
        let expected = [(1, "one"), (1, "# two"), (2, "four "), (2, "five")];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(objects("{\"t\":\"one\\n\\n# two\"}\n", "t", 10).unwrap().len(), 1);
    }

    #[test]
    fn objects_without_the_field_are_refused_by_line() {
        let found = objects("{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n", "text", 9).unwrap();
        assert_eq!(found, [(1, "a".into()), (3, "b".into())]);
        for (text, word) in [("{\"text\":\"a\"}\n{\"x\":1}", "field"), ("\n{", "EOF"), ("{\"text\":\"\"}", "field")] {
            let error = objects(text, "text", 9).unwrap_err().to_string();
            let line = text.lines().count();
            assert!(error.starts_with(&format!("line {line}: ")) && error.contains(word), "{error}");
        }
    }
}
