//! Bringing a file into memory, as a rule by mapping it.

use super::error::{GgufError, GgufProblem};
#[cfg(unix)]
use super::fault::Explanation;
use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use std::fs::{self, File};
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// How a file gets into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Mapped; pages are read when they are first used, and may be taken away and read again when memory is short.
    #[default]
    Mapped,
    /// Mapped, and every page read at once: a slower start, no waiting for the disk later.
    Prefault,
    /// Mapped, read at once and locked: its pages cannot be taken away. Needs the right to lock so much (`ulimit -l`).
    Locked,
    /// Read into anonymous memory, without a mapping: for file systems that map badly, or files that may be overwritten.
    Read,
}

/// A mapped file as it was when it was opened.
#[derive(Debug)]
pub(super) struct Mapped {
    path: PathBuf,
    file: File,
    /// Its length and when it was last written.
    state: (u64, Option<SystemTime>),
}

impl Mapped {
    fn new(path: &Path, file: File) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), state: state(&file)?, file })
    }
}

fn state(file: &File) -> io::Result<(u64, Option<SystemTime>)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.modified().ok()))
}

/// Tells whether the files of a model are still what they were when they were mapped. Files that were read into memory
/// always are.
#[derive(Clone, Debug, Default)]
pub struct Watch(pub(super) Vec<Arc<Mapped>>);

impl Watch {
    /// Looks at the files themselves, not at what has their names now: one that was replaced by a rename is as it was.
    ///
    /// # Errors
    /// [`GgufProblem::Changed`] when one has been cut, written to or touched since.
    pub fn unchanged(&self) -> Result<(), GgufError> {
        let changed = |mapped: &&Arc<Mapped>| state(&mapped.file).is_ok_and(|state| state != mapped.state);
        self.0.iter().find(changed).map_or(Ok(()), |mapped| Err(GgufProblem::Changed.at(&mapped.path)))
    }
}

/// The whole file, in the way that `access` says, and how to watch it where it is mapped. A mapping lives as long as any
/// slice of the returned [`Bytes`].
pub(super) fn open(path: &Path, access: Access) -> Result<(Bytes, Option<Mapped>), GgufProblem> {
    // Asked before the open, which would wait forever on a pipe.
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(GgufProblem::Directory);
    }
    if !kind.is_file() {
        return Err(GgufProblem::NotRegular);
    }
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes == 0 {
        return Err(GgufProblem::Empty);
    }
    let no_room = |error: io::Error| match error.kind() {
        io::ErrorKind::OutOfMemory => GgufProblem::NoRoom(bytes),
        _ => error.into(),
    };
    if access == Access::Read {
        return Ok((fs::read(path).map_err(no_room)?.into(), None));
    }
    // Before the mapping, so that no change is missed.
    let mapped = Mapped::new(path, file)?;
    let mapping = map(&mapped.file).map_err(no_room)?;
    match access {
        Access::Locked => lock(&mapping)?,
        Access::Prefault => {
            // A byte of each page; no system has smaller ones.
            black_box(mapping.iter().step_by(4096).fold(0u8, |sum, byte| sum ^ byte));
        }
        Access::Mapped | Access::Read => {}
    }
    #[cfg(unix)]
    let mapping = Explained { _explanation: Explanation::new(path, &mapping), mapping };
    Ok((Bytes::from_owner(mapping), Some(mapped)))
}

/// A mapping whose faults are explained for as long as it is there.
#[cfg(unix)]
struct Explained {
    // Dropped first.
    _explanation: Explanation,
    mapping: Mmap,
}

#[cfg(unix)]
impl AsRef<[u8]> for Explained {
    fn as_ref(&self) -> &[u8] {
        &self.mapping
    }
}

/// The whole file, mapped.
#[cfg(feature = "convert")]
pub(crate) fn open_mapped(path: &Path) -> Result<Bytes, GgufProblem> {
    Ok(open(path, Access::Mapped)?.0)
}

/// Maps a whole file read-only.
///
/// The contract, which no code can check and the user has to keep: nobody truncates or overwrites the file while it is
/// mapped. Replacing it by a rename, as downloads and [`AtomicFile`](super::AtomicFile) do, is safe.
fn map(file: &File) -> io::Result<Mmap> {
    #[allow(unsafe_code)]
    // SAFETY: the mapping is private and read-only, so this process cannot write through it. That no other process
    // truncates the file (SIGBUS on access) or changes its bytes under our shared references cannot be enforced here:
    // it is the documented contract of `Gguf::open`, the same that every program which maps model files relies on.
    // Offsets and counts are read once, at open, and what is read later (array elements) is bounds-checked again, so
    // that even a breach of the contract does not become a slice outside the mapping.
    unsafe {
        MmapOptions::new().map(file)
    }
}

#[cfg(unix)]
fn lock(mapping: &Mmap) -> io::Result<()> {
    let why = |error: io::Error| {
        let advice = "raise the limit on locked memory (ulimit -l), or do not lock";
        io::Error::new(error.kind(), format!("cannot lock {} bytes in memory: {error}; {advice}", mapping.len()))
    };
    mapping.lock().map_err(why)
}

#[cfg(not(unix))]
fn lock(_: &Mmap) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "locking memory is not supported on this system"))
}
