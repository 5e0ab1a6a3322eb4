//! One file of the hub, into its cache: continued where it was left, checked, and then linked to.
//!
//! Bytes are written to `<etag>.incomplete` as they come, so whatever ends the program, the next one goes on from there. It
//! takes the blob's name once its size and SHA-256 are right.

use crate::hub::cache::Cached;
use crate::hub::error::HubError;
use crate::hub::http::{Http, Tries, Want, header, page, plain};
use crate::hub::note::Note;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// Bytes that are read and written at once.
const CHUNK: usize = 1 << 18;
/// Bytes by which a file is known to be one.
const BEGIN: usize = 512;

/// A file as the hub announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Path in the repository.
    pub(crate) file: String,
    pub(crate) url: String,
    pub(crate) commit: String,
    /// The SHA-256 of a large file, in hexadecimal digits; otherwise something that only says whether it has changed.
    pub(crate) etag: String,
    pub(crate) size: u64,
}

impl Remote {
    fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit())).then_some(&self.etag)
    }

    /// Bytes of it that are in the cache.
    pub(crate) fn there(&self, cached: &Cached) -> u64 {
        let len = |path: PathBuf| path.metadata().map_or(0, |what| what.len());
        if self.is_whole(cached) { self.size } else { len(cached.incomplete(&self.etag)).min(self.size) }
    }

    /// Whether it is in the cache, or in a snapshot where there are no links.
    fn is_whole(&self, cached: &Cached) -> bool {
        let whole = |path: PathBuf| path.metadata().is_ok_and(|what| what.len() == self.size);
        whole(cached.blob(&self.etag)) || whole(cached.snapshot(&self.commit).join(&self.file))
    }
}

/// Sees to it that a file is in the cache. `progress` is told the bytes of it that are there.
pub(crate) fn fetch(
    http: &Http<'_>,
    cached: &Cached,
    remote: &Remote,
    progress: &dyn Fn(u64),
) -> Result<PathBuf, HubError> {
    let pointer = cached.snapshot(&remote.commit).join(&remote.file);
    let blob = cached.blob(&remote.etag);
    let _lock = cached.lock(&remote.etag, || http.note(Note::Waiting { file: &remote.file }))?;
    if remote.is_whole(cached) {
        http.note(Note::There { file: &remote.file });
        progress(remote.size);
        if pointer.metadata().is_ok_and(|what| what.len() == remote.size) {
            return Ok(pointer);
        }
    } else {
        let folder = blob.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(HubError::at(folder))?;
        Part::open(http, cached, remote)?.complete(progress)?;
        fs::rename(cached.incomplete(&remote.etag), &blob).map_err(HubError::at(&blob))?;
    }
    cached.link(&remote.etag, &remote.commit, &remote.file)
}

/// A file that is not whole yet.
struct Part<'a> {
    http: &'a Http<'a>,
    cached: &'a Cached,
    remote: &'a Remote,
    path: PathBuf,
    out: File,
    /// Bytes written, and their digest.
    at: u64,
    digest: Sha256,
}

impl<'a> Part<'a> {
    fn open(http: &'a Http<'a>, cached: &'a Cached, remote: &'a Remote) -> Result<Self, HubError> {
        let path = cached.incomplete(&remote.etag);
        let out = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let out = out.map_err(HubError::at(&path))?;
        let mut part = Self { http, cached, remote, path, out, at: 0, digest: Sha256::new() };
        let found = part.out.metadata().map_err(part.fails())?.len();
        if found > remote.size {
            part.empty()?;
        } else if found > 0 {
            part.read_again(found)?;
            http.note(Note::Resumed { file: &remote.file, at: found });
        }
        Ok(part)
    }

    fn fails(&self) -> impl FnOnce(io::Error) -> HubError + use<> {
        HubError::at(self.path.clone())
    }

    /// The digest of what an earlier run has written.
    fn read_again(&mut self, found: u64) -> Result<(), HubError> {
        let mut chunk = vec![0; CHUNK];
        while self.at < found {
            match self.out.read(&mut chunk).map_err(self.fails())? {
                0 => break,
                n => self.count(&chunk[..n]),
            }
        }
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.at += bytes.len() as u64;
    }

    fn empty(&mut self) -> Result<(), HubError> {
        self.out.set_len(0).and_then(|()| self.out.seek(SeekFrom::Start(0))).map_err(self.fails())?;
        (self.at, self.digest) = (0, Sha256::new());
        Ok(())
    }

    /// Fetches what is missing, again and again while that comes further, and checks the whole.
    fn complete(mut self, progress: &dyn Fn(u64)) -> Result<(), HubError> {
        let http = self.http;
        progress(self.at);
        let mut furthest = self.at;
        while self.at < self.remote.size {
            http.patiently(true, |tries| {
                let came = self.request(progress);
                if self.at > furthest {
                    (*tries, furthest) = (Tries::default(), self.at);
                }
                came
            })?;
        }
        self.out.sync_all().map_err(self.fails())?;
        let Some(expected) = self.remote.sha256() else {
            http.note(Note::Unchecked { file: &self.remote.file });
            return Ok(());
        };
        let found: String = self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        drop(self.out);
        let _ = fs::remove_file(self.cached.incomplete(&self.remote.etag));
        Err(HubError::Digest { file: self.remote.file.clone(), expected: expected.into(), found })
    }

    /// One request for what is missing; all of it has come when it returns without an error.
    fn request(&mut self, progress: &dyn Fn(u64)) -> Result<(), HubError> {
        let Remote { file, url, size, .. } = self.remote;
        let wrong_size = |found| HubError::Size { file: file.clone(), expected: *size, found };
        let answer = self.http.request(&self.cached.repository, url, Want::From(self.at))?;
        let headers = answer.headers().clone();
        // `bytes 100-199/200`
        let range = header(&headers, "content-range").and_then(|range| range.strip_prefix("bytes "));
        let whole = range.and_then(|range| range.rsplit('/').next()?.parse().ok());
        if let Some(found) = whole.filter(|whole| whole != size) {
            return Err(wrong_size(found));
        }
        let continued = answer.status().as_u16() == 206
            && range.and_then(|range| range.split('-').next()?.parse().ok()) == Some(self.at);
        if !answer.status().is_success() || answer.status().as_u16() == 206 && !continued {
            self.empty()?;
            let why = "the server did not go on where it was left".into();
            return Err(HubError::Short { file: file.clone(), expected: *size, found: 0, why });
        }
        let length = header(&headers, "content-length").and_then(|length| length.parse::<u64>().ok());
        let mut body = answer.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        let mut begin = 0;
        if !continued {
            while begin < BEGIN {
                match body.read(&mut chunk[begin..]) {
                    Ok(0) => break,
                    Ok(n) => begin += n,
                    Err(error) => return Err(self.broke_off(error)),
                }
            }
            is_gguf(url, &headers, &chunk[..begin])?;
        }
        if let Some(found) = length.map(|length| length + if continued { self.at } else { 0 }).filter(|n| n != size) {
            return Err(wrong_size(found));
        }
        if !continued && self.at > 0 {
            self.http.note(Note::Restarted { file });
            self.empty()?;
        }
        let mut came = begin;
        loop {
            if self.at + came as u64 > *size {
                return Err(wrong_size(self.at + came as u64));
            }
            self.out.write_all(&chunk[..came]).map_err(self.fails())?;
            self.count(&chunk[..came]);
            progress(self.at);
            came = match body.read(&mut chunk) {
                Ok(0) if self.at < *size => return Err(self.broke_off(io::ErrorKind::UnexpectedEof.into())),
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) => return Err(self.broke_off(error)),
            };
        }
    }

    fn broke_off(&self, error: io::Error) -> HubError {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the connection was closed".into(),
            _ => plain(error.into(), self.http.settings.download_timeout).to_string(),
        };
        HubError::Short { file: self.remote.file.clone(), expected: self.remote.size, found: self.at, why }
    }
}

/// Fails where something else than a GGUF file begins.
fn is_gguf(url: &str, headers: &ureq::http::HeaderMap, begin: &[u8]) -> Result<(), HubError> {
    match begin {
        [b'G', b'G', b'U', b'F', ..] => Ok(()),
        _ if begin.starts_with(b"version https://git-lfs") => Err(HubError::Pointer { url: url.into() }),
        // Broken off, perhaps.
        [] | [b'G'] | [b'G', b'G'] | [b'G', b'G', b'U'] => Ok(()),
        _ => Err(page(url, headers, begin).unwrap_or(HubError::NotGguf { url: url.into() })),
    }
}
