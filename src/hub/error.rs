//! What goes wrong with names, cache and download.

use crate::hub::name::{ModelName, NameError, Repository};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum HubError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{name} is not on this machine")]
    NotStored { name: ModelName },
    #[error("{name} may be any of: {}; say which", .there.join(", "))]
    Several { name: ModelName, there: Vec<String> },
    #[error("{repository} has no {wanted}; there are: {}", some(.there))]
    NoSuch { repository: Repository, wanted: String, there: Vec<String> },
    #[error("HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set: nothing is downloaded; unset it to go on")]
    Offline,
    #[error("there is no home folder to keep models in: say one with HF_HOME")]
    NoFolder,
    #[error("{url} cannot be reached: {source}")]
    Unreachable { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "{repository} is given out on request only: ask for it at {page} and then set HF_TOKEN to a token of that account{}",
        if *.token { " (the one that was sent has no access)" } else { "" }
    )]
    Gated { repository: Repository, page: String, token: bool },
    #[error(
        "the hub says {status} to {repository}: there is no such repository, or it is not public; {}",
        if *.token { "the token that was sent (HF_TOKEN, or of the login) may have expired or give no access" }
        else { "for one that is not, set HF_TOKEN" }
    )]
    NoAccess { repository: Repository, status: u16, token: bool },
    #[error("there is no {url} (404)")]
    NotFound { url: String },
    #[error("{url}: the server says {status}{words}")]
    Refused { url: String, status: u16, words: String },
    #[error("{url}: the server says {status}{}", busy(*.status, *.after))]
    Busy { url: String, status: u16, after: Option<Duration> },
    #[error(
        "{url} was answered with a web page{title}: a network's login page or a proxy stands between; log in there, or set \
         HTTPS_PROXY"
    )]
    Page { url: String, title: String },
    #[error("{url} gives the pointer of a file (Git LFS) and not the file: this server does not hold its large files")]
    Pointer { url: String },
    #[error("{url} does not begin as a GGUF file does")]
    NotGguf { url: String },
    #[error("{url} is not answered as the hub does: {problem}")]
    NotTheHub { url: String, problem: String },
    #[error("{file} has {found} bytes at this server, {expected} are announced; what was downloaded before is kept")]
    Size { file: String, expected: u64, found: u64 },
    #[error("{file} broke off after {found} of {expected} bytes, which are kept: {why}")]
    Short { file: String, expected: u64, found: u64, why: String },
    #[error("{file} came with SHA-256 {found}, announced is {expected}; it is removed")]
    Digest { file: String, expected: String, found: String },
    #[error("{} has {free} bytes free, {needed} are needed; another place is said with HF_HOME", .folder.display())]
    NoSpace { folder: PathBuf, needed: u64, free: u64 },
    #[error("{} is being downloaded by another process", .path.display())]
    InUse { path: PathBuf },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn some(there: &[String]) -> String {
    if there.is_empty() { "no model files at all".into() } else { there.join(", ") }
}

fn busy(status: u16, after: Option<Duration>) -> String {
    let words = if status == 429 { ": too many requests" } else { ", which may pass" };
    after.map_or(words.into(), |after| format!("{words}; it wants to be asked again in {} s", after.as_secs()))
}

impl HubError {
    /// For `map_err` of what is done with a file.
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
