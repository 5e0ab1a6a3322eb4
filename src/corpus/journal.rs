//! What is done of a corpus, kept so that a killed run loses nothing of it.
//!
//! A file that only grows: a header that says what is computed, then frames of finished rows, each with its length and a checksum. A frame
//! that is cut short or torn by a crash is the last one, and is dropped when the file is opened again. Rows come about in the order of the
//! input: those of a window in any order, since passes take texts that are alike together.

use crate::corpus::frames::{Frames, write_frame};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first bytes of a journal. The number counts forms of the file.
const MAGIC: &[u8; 8] = b"QEMBJRN1";
/// How long finished rows may be in the system's hands alone: what a crash of the machine costs.
const SYNC: Duration = Duration::from_secs(1);
/// The most bytes that wait for their frame.
const FRAME: usize = 4 << 20;
/// What is computed: names and values. A run goes on only with the journal of the same.
pub(crate) type Identity = Vec<(String, String)>;

/// Why there is no journal to write to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A run was interrupted, and this one was not told to go on with it.
    #[error("{}: an earlier run was interrupted after {rows} rows: resume it, or start anew", path.display())]
    Interrupted {
        /// The journal.
        path: PathBuf,
        /// Rows that are done.
        rows: u64,
    },
    /// Another process writes it.
    #[error("{}: another run is writing it: wait for its end, or name another output", path.display())]
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// It is no journal, or one of another version.
    #[error("{}: this is no journal that this version can read: start anew", path.display())]
    Foreign {
        /// The journal.
        path: PathBuf,
    },
    /// It is of other work than this.
    #[error(
        "{}: {what} has changed since the run began: it was {was:?} and is {is:?}. Put it back, or start anew",
        path.display()
    )]
    Changed {
        /// The journal.
        path: PathBuf,
        /// What differs.
        what: String,
        /// As it was.
        was: String,
        /// As it is.
        is: String,
    },
}

/// What to do about a journal that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// There must be none.
    New,
    /// Go on with it, if there is one.
    Resume,
    /// Throw it away.
    Over,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// Its vectors, one behind the other, in the type of the output; and the tokens that were read for them.
    Vectors { count: u32, tokens: u64, bytes: Vec<u8> },
    /// It has none, for this reason.
    Failed(String),
}

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    done: Rows,
    /// Where the rows begin.
    start: u64,
    waiting: Vec<u8>,
    synced: Instant,
}

impl Journal {
    /// The journal at `path` for work of this identity.
    ///
    /// # Errors
    /// Another run's lock; a journal that is there and should not be, or is of other work.
    pub(crate) fn open(path: &Path, identity: &Identity, how: Start) -> Result<Self, JournalError> {
        let fail = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(JournalError::Busy { path: path.to_owned() }),
            // Where the file system knows no locks, it has to do without.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let length = file.metadata().map_err(fail)?.len();
        let mut magic = [0; MAGIC.len()];
        let begun = length >= MAGIC.len() as u64 && file.read_exact(&mut magic).is_ok();
        if begun && magic != *MAGIC {
            return Err(JournalError::Foreign { path: path.to_owned() });
        }
        // Killed before the header was whole: nothing was computed.
        let mut frames = Frames::new(&file, MAGIC.len() as u64).map_err(fail)?;
        let header = match how {
            Start::Over => None,
            _ if !begun => None,
            _ => frames.next_frame().map_err(fail)?,
        };
        let Some(header) = header else {
            return Self::begin(path, file, identity).map_err(fail);
        };
        let start = frames.end();
        let mut done = Rows::default();
        while let Some(frame) = frames.next_frame().map_err(fail)? {
            let mut frame = Cursor { frame, at: 0 };
            while let Some((row, _)) = frame.next_entry() {
                done.insert(row);
            }
        }
        if how == Start::New {
            return Err(JournalError::Interrupted { path: path.to_owned(), rows: done.count() });
        }
        let known: Identity =
            serde_json::from_slice(&header).map_err(|_| JournalError::Foreign { path: path.to_owned() })?;
        same(path, &known, identity)?;
        // What is behind the last whole frame is none.
        let end = frames.end();
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(fail)?;
        Ok(Self { path: path.to_owned(), file, done, start, waiting: Vec::new(), synced: Instant::now() })
    }

    fn begin(path: &Path, mut file: File, identity: &Identity) -> io::Result<Self> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(MAGIC)?;
        write_frame(&mut file, &serde_json::to_vec(identity)?)?;
        file.sync_all()?;
        let start = file.stream_position()?;
        let (path, done) = (path.to_owned(), Rows::default());
        Ok(Self { path, file, done, start, waiting: Vec::new(), synced: Instant::now() })
    }

    /// How many rows are done, those included that wait to be written.
    pub(crate) fn count(&self) -> u64 {
        self.done.count()
    }

    /// Whether a row is done.
    pub(crate) fn has(&self, row: u64) -> bool {
        self.done.has(row)
    }

    fn fail(&self, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), source }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub(crate) fn push(&mut self, row: u64, entry: &Entry) -> Result<(), JournalError> {
        let (kind, count, tokens, bytes) = match entry {
            Entry::Vectors { count, tokens, bytes } => (0, *count, *tokens, &bytes[..]),
            Entry::Failed(reason) => (1, 0, 0, reason.as_bytes()),
        };
        self.waiting.extend_from_slice(&row.to_le_bytes());
        self.waiting.push(kind);
        self.waiting.extend_from_slice(&count.to_le_bytes());
        self.waiting.extend_from_slice(&tokens.to_le_bytes());
        self.waiting.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.waiting.extend_from_slice(bytes);
        self.done.insert(row);
        if self.waiting.len() >= FRAME { self.flush() } else { Ok(()) }
    }

    /// Hands the rows to the system, which keeps them whatever happens to this process; now and then to the disk.
    ///
    /// # Errors
    /// When they cannot be written; then no more may be added.
    pub(crate) fn flush(&mut self) -> Result<(), JournalError> {
        if !self.waiting.is_empty() {
            let written = self.file.seek(SeekFrom::End(0)).and_then(|_| write_frame(&mut self.file, &self.waiting));
            self.waiting.clear();
            written.map_err(|error| self.fail(error))?;
        }
        if self.synced.elapsed() >= SYNC { self.sync() } else { Ok(()) }
    }

    /// Waits until the disk has what was handed to the system.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(|error| self.fail(error))
    }

    /// The rows that were flushed, from the first on, for as long as none is missing.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn entries(&self) -> io::Result<Entries> {
        let frames = Frames::new(&self.file, self.start)?;
        Ok(Entries { frames, frame: Cursor::default(), early: BTreeMap::new(), next: 0 })
    }

    /// Takes the journal away: its output is written.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove(self) -> io::Result<()> {
        let Self { path, file, .. } = self;
        drop(file);
        std::fs::remove_file(path)
    }
}

/// The first thing that is not as it was.
fn same(path: &Path, was: &Identity, is: &Identity) -> Result<(), JournalError> {
    let of = |identity: &Identity, name: &str| {
        identity.iter().find(|(other, _)| other == name).map_or(String::new(), |(_, value)| value.clone())
    };
    for name in was.iter().chain(is).map(|(name, _)| name) {
        let (was, is) = (of(was, name), of(is, name));
        if was != is {
            return Err(JournalError::Changed { path: path.to_owned(), what: name.clone(), was, is });
        }
    }
    Ok(())
}

/// Numbers of rows, most of which follow one another from 0.
#[derive(Debug, Default)]
struct Rows {
    /// All below this.
    below: u64,
    more: BTreeSet<u64>,
}

impl Rows {
    fn insert(&mut self, row: u64) {
        if !self.has(row) {
            self.more.insert(row);
        }
        while self.more.remove(&self.below) {
            self.below += 1;
        }
    }

    fn has(&self, row: u64) -> bool {
        row < self.below || self.more.contains(&row)
    }

    fn count(&self) -> u64 {
        self.below + self.more.len() as u64
    }
}

/// A frame that is being read.
#[derive(Debug, Default)]
struct Cursor {
    frame: Vec<u8>,
    at: usize,
}

impl Cursor {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.frame.get(self.at..self.at + N)?.try_into().ok()?;
        self.at += N;
        Some(bytes)
    }

    /// The next row and what became of it.
    fn next_entry(&mut self) -> Option<(u64, Entry)> {
        let row = u64::from_le_bytes(self.take()?);
        let [kind] = self.take()?;
        let (count, tokens) = (u32::from_le_bytes(self.take()?), u64::from_le_bytes(self.take()?));
        let length = u64::from_le_bytes(self.take()?) as usize;
        let bytes = self.frame.get(self.at..self.at.checked_add(length)?)?.to_vec();
        self.at += length;
        let entry = match kind {
            0 => Entry::Vectors { count, tokens, bytes },
            _ => Entry::Failed(String::from_utf8(bytes).ok()?),
        };
        Some((row, entry))
    }
}

/// The rows of a journal in the order of the input.
#[derive(Debug)]
pub(crate) struct Entries {
    frames: Frames,
    frame: Cursor,
    /// Rows that came before their turn.
    early: BTreeMap<u64, Entry>,
    next: u64,
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.early.remove(&self.next) {
                self.next += 1;
                return Some(Ok(entry));
            }
            match self.frame.next_entry() {
                Some((row, entry)) => drop(self.early.insert(row, entry)),
                None => match self.frames.next_frame() {
                    Ok(Some(frame)) => self.frame = Cursor { frame, at: 0 },
                    Ok(None) => return None,
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(model: &str) -> Identity {
        [("model", model), ("dimensions", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    fn vectors(n: u8) -> Entry {
        Entry::Vectors { count: 1, tokens: u64::from(n), bytes: vec![n; 8] }
    }

    fn all(journal: &Journal) -> Vec<Entry> {
        journal.entries().unwrap().map(Result::unwrap).collect()
    }

    /// The order in which the rows of [`written`] came about.
    const ORDER: [usize; 4] = [0, 2, 1, 3];

    /// A journal of three frames, and its entries.
    fn written(path: &Path) -> Vec<Entry> {
        let mut journal = Journal::open(path, &identity("a"), Start::New).unwrap();
        let entries = vec![vectors(1), Entry::Failed("no text".into()), vectors(2), vectors(3)];
        for (i, row) in ORDER.into_iter().enumerate() {
            journal.push(row as u64, &entries[row]).unwrap();
            assert_eq!(journal.count(), i as u64 + 1);
            if i != 1 {
                journal.flush().unwrap();
            }
        }
        assert_eq!(all(&journal), entries);
        entries
    }

    #[test]
    fn a_run_goes_on_where_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.journal");
        let entries = written(&path);
        let whole = std::fs::read(&path).unwrap();
        let mut seen = Vec::new();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut journal = Journal::open(&path, &identity("a"), Start::Resume).unwrap();
            let rows = journal.count() as usize;
            seen.push(rows);
            for (row, entry) in entries.iter().enumerate() {
                assert_eq!(journal.has(row as u64), ORDER[..rows].contains(&row), "cut at {length}");
                if !journal.has(row as u64) {
                    journal.push(row as u64, entry).unwrap();
                    journal.flush().unwrap();
                }
            }
            assert_eq!(all(&journal), entries, "cut at {length}");
        }
        seen.dedup();
        assert_eq!(seen, [0, 1, 3, 4], "frames are whole or not there");
    }

    #[test]
    fn a_torn_frame_and_what_follows_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.journal");
        let entries = written(&path);
        let whole = std::fs::read(&path).unwrap();
        let header = 8 + 8 + serde_json::to_vec(&identity("a")).unwrap().len();
        for at in header..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 0x40;
            std::fs::write(&path, &torn).unwrap();
            let journal = Journal::open(&path, &identity("a"), Start::Resume).unwrap();
            let rows = journal.count() as usize;
            assert!(rows < entries.len(), "byte {at}");
            // Rows in order, up to the first that is missing.
            let in_order = (0..4).take_while(|row| ORDER[..rows].contains(row)).count();
            assert_eq!(all(&journal), entries[..in_order]);
        }
    }

    #[test]
    fn other_work_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.journal");
        written(&path);
        let error = Journal::open(&path, &identity("b"), Start::Resume).unwrap_err().to_string();
        assert!(error.ends_with(
            "out.journal: model has changed since the run began: it was \"a\" and is \"b\". Put it back, or start anew"
        ));
        let more = [identity("a"), vec![("instruction".into(), "x".into())]].concat();
        let error = Journal::open(&path, &more, Start::Resume).unwrap_err();
        assert!(matches!(&error, JournalError::Changed { what, .. } if what == "instruction"), "{error}");
        let error = Journal::open(&path, &identity("a"), Start::New).unwrap_err();
        assert!(matches!(error, JournalError::Interrupted { rows: 4, .. }), "{error}");
        std::fs::write(&path, "something else").unwrap();
        let error = Journal::open(&path, &identity("a"), Start::Resume).unwrap_err();
        assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"something else", "it is not ours to change");
    }

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.journal");
        let journal = Journal::open(&path, &identity("a"), Start::New).unwrap();
        let second = Journal::open(&path, &identity("a"), Start::Resume).unwrap_err();
        assert!(matches!(second, JournalError::Busy { .. }), "{second}");
        journal.remove().unwrap();
        assert!(!path.exists());
    }
}
