//! What changes when an input does.

use crate::corpus::read::error::{ReadError, ReadProblem};
use crate::corpus::read::files::{Files, InputFile};
use crate::digest::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};

/// The files of an input and what is in them, for comparison, and to be kept meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Of each file, in their order.
    pub files: Vec<FileFingerprint>,
}

/// A file and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFingerprint {
    /// What it is called for people.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

/// How an input differs from what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Change {
    /// Something else is in a file.
    #[error("{path} has changed")]
    Changed {
        /// Which.
        path: String,
    },
    /// A file is gone.
    #[error("{path} is no longer among the files that are read")]
    Gone {
        /// Which.
        path: String,
    },
    /// A file has come.
    #[error("{path} was not among the files that were read")]
    Added {
        /// Which.
        path: String,
    },
    /// All files are the same, but their order is not.
    #[error("the files that are read come in another order, from {path} on")]
    Order {
        /// The first that stands elsewhere.
        path: String,
    },
}

impl Files {
    /// Reads all files. `read` is told of bytes as they are read, of [`Files::bytes`] in all.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn fingerprint(&self, mut read: impl FnMut(u64)) -> Result<Fingerprint, ReadError> {
        let files = self.list().iter().map(|file| fingerprint(file, &mut read)).collect::<Result<_, _>>()?;
        Ok(Fingerprint { files })
    }
}

impl Fingerprint {
    /// What is the first to have changed since, if anything has.
    pub fn change(&self, now: &Self) -> Option<Change> {
        let find = |files: &[FileFingerprint], path: &str| files.iter().find(|file| file.path == path).cloned();
        for file in &self.files {
            let path = file.path.clone();
            match find(&now.files, &path) {
                None => return Some(Change::Gone { path }),
                Some(other) if other != *file => return Some(Change::Changed { path }),
                Some(_) => (),
            }
        }
        if let Some(new) = now.files.iter().find(|file| find(&self.files, &file.path).is_none()) {
            return Some(Change::Added { path: new.path.clone() });
        }
        let moved = self.files.iter().zip(&now.files).find(|(before, after)| before != after);
        moved.map(|(_, after)| Change::Order { path: after.path.clone() })
    }
}

fn fingerprint(file: &InputFile, read: &mut impl FnMut(u64)) -> Result<FileFingerprint, ReadError> {
    let failed = |problem| ReadError::new(&file.shown, problem);
    let mut input = File::open(&file.path).map_err(|error| failed(ReadProblem::Open(error)))?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
                read(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(failed(ReadProblem::Read(error))),
        }
    }
    let sha256 = hex(&hash.finalize());
    Ok(FileFingerprint { path: file.shown.to_string_lossy().into_owned(), bytes, sha256 })
}
