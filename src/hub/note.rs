//! What is said and shown while a model is fetched.

use crate::hub::error::HubError;
use std::fmt;
use std::time::Duration;

/// Something that whoever waits may want to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Note<'a> {
    /// A file is there already.
    There {
        /// Its name in the repository.
        file: &'a str,
    },
    /// The rest of a file is fetched.
    Resumed {
        /// Its name in the repository.
        file: &'a str,
        /// Bytes that are there.
        at: u64,
    },
    /// A file is fetched from its start again, since the server gives no parts.
    Restarted {
        /// Its name in the repository.
        file: &'a str,
    },
    /// Another process fetches the same file.
    Waiting {
        /// Its name in the repository.
        file: &'a str,
    },
    /// What failed is tried again.
    Again {
        /// How it failed.
        error: &'a HubError,
        /// After how long.
        pause: Duration,
    },
    /// Nothing but its size tells whether a file is whole: the server gives no SHA-256.
    Unchecked {
        /// Its name in the repository.
        file: &'a str,
    },
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There { file } => write!(f, "{file} is there already"),
            Self::Resumed { file, at } => write!(f, "{file} goes on after {at} bytes"),
            Self::Restarted { file } => write!(f, "{file} begins anew: the server gives no parts of files"),
            Self::Waiting { file } => write!(f, "{file} is being downloaded by another process: waiting for it"),
            Self::Again { error, pause } => write!(f, "{error}; again in {} s", pause.as_secs_f32()),
            Self::Unchecked { file } => write!(f, "{file}: the server gives no SHA-256; only the size is checked"),
        }
    }
}

/// Who is told notes.
pub(crate) type Notes<'a> = Option<&'a dyn Fn(&Note<'_>)>;

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullProgress {
    /// Bytes that are there, of all files of the model.
    pub done: u64,
    /// Bytes of all its files.
    pub total: u64,
}
