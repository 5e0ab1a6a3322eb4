//! Mapping a file into memory: the one unsafe call of this crate.

use super::error::GgufProblem;
use bytes::Bytes;
use std::fs::{self, File};
use std::path::Path;

/// Maps a whole file read-only. The mapping lives as long as any slice of the returned [`Bytes`].
///
/// The contract, which no code can check and the user has to keep: nobody truncates or overwrites the file while it is
/// mapped. Replacing it by a rename, as downloads and [`AtomicFile`](super::AtomicFile) do, is safe.
pub(super) fn map(path: &Path) -> Result<Bytes, GgufProblem> {
    // Asked before the open, which would wait forever on a pipe.
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(GgufProblem::Directory);
    }
    if !kind.is_file() {
        return Err(GgufProblem::NotRegular);
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Err(GgufProblem::Empty);
    }
    #[allow(unsafe_code)]
    // SAFETY: the mapping is private and read-only, so this process cannot write through it. That no other process
    // truncates the file (SIGBUS on access) or changes its bytes under our shared references cannot be enforced here:
    // it is the documented contract of `Gguf::open`, the same that every program which maps model files relies on.
    // Offsets and counts are read once, at open, and what is read later (array elements) is bounds-checked again, so
    // that even a breach of the contract does not become a slice outside the mapping.
    let mapping = unsafe { memmap2::MmapOptions::new().map(&file) }?;
    Ok(Bytes::from_owner(mapping))
}
