//! The hub's cache on the disk, in the layout of `huggingface_hub`, so that Python finds what is fetched here, and the other
//! way round:
//!
//! ```text
//! models--owner--name/blobs/<etag>                       contents; <etag>.incomplete while they are fetched
//! models--owner--name/snapshots/<commit>/<file>          links to them; the contents themselves where there are no links
//! models--owner--name/refs/main                          the commit
//! .locks/models--owner--name/<etag>.lock                 locked by who fetches it
//! ```

use crate::hub::error::HubError;
use crate::hub::name::Repository;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// What the names of folders of repositories with models begin with.
const PREFIX: &str = "models--";

/// A repository in the cache; it need not be there.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    pub(crate) repository: Repository,
    pub(crate) folder: PathBuf,
    locks: PathBuf,
}

/// Whether this can be the name of a file in the cache: an etag or a commit.
pub(crate) fn is_key(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl Cached {
    pub(crate) fn new(root: &Path, repository: &Repository) -> Self {
        let name = format!("{PREFIX}{}--{}", repository.owner, repository.name);
        Self { repository: repository.clone(), folder: root.join(&name), locks: root.join(".locks").join(&name) }
    }

    /// All repositories in a cache, by name.
    pub(crate) fn all(root: &Path) -> Vec<Self> {
        let mut all: Vec<_> = names(root)
            .iter()
            .filter_map(|name| name.strip_prefix(PREFIX)?.split_once("--"))
            .filter_map(|(owner, name)| Some(Self::new(root, &Repository::new(owner, name)?)))
            .collect();
        all.sort_by(|a, b| a.repository.cmp(&b.repository));
        all
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.blobs().join(etag)
    }

    pub(crate) fn incomplete(&self, etag: &str) -> PathBuf {
        self.blobs().join(format!("{etag}.incomplete"))
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The commit that `main` was when something was fetched last.
    pub(crate) fn main(&self) -> Option<String> {
        let commit = fs::read_to_string(self.folder.join("refs").join("main")).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_key(commit))
    }

    /// All commits of which something is there.
    pub(crate) fn commits(&self) -> Vec<String> {
        names(&self.folder.join("snapshots"))
    }

    /// The files of a commit that are there, as paths with `/`.
    pub(crate) fn files(&self, commit: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![(self.snapshot(commit), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for name in names(&folder) {
                let (path, inside) = (folder.join(&name), format!("{prefix}{name}"));
                match fs::metadata(&path) {
                    Ok(what) if what.is_dir() => folders.push((path, format!("{inside}/"))),
                    Ok(what) if what.is_file() => found.push(inside),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }

    /// The folder of contents.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    /// Takes the lock of a blob, which Python takes too; tells `waiting` if another has it. `None` on a file system without
    /// locks.
    pub(crate) fn lock(&self, etag: &str, waiting: impl FnOnce()) -> Result<Option<File>, HubError> {
        let (file, path) = self.lock_file(etag)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::Error(_)) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(HubError::at(path))?;
                Ok(Some(file))
            }
        }
    }

    /// Fails where the blob is being fetched; else it is not while the result lives.
    pub(crate) fn not_in_use(&self, etag: &str) -> Result<File, HubError> {
        let (file, _) = self.lock_file(etag)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(HubError::InUse { path: self.blob(etag) }),
            _ => Ok(file),
        }
    }

    fn lock_file(&self, etag: &str) -> Result<(File, PathBuf), HubError> {
        fs::create_dir_all(&self.locks).map_err(HubError::at(&self.locks))?;
        let path = self.locks.join(format!("{etag}.lock"));
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        Ok((file.map_err(HubError::at(&path))?, path))
    }

    /// Makes a file of a commit of a blob: a link where the system lets one be made, else the blob itself is moved.
    pub(crate) fn link(&self, etag: &str, commit: &str, file: &str) -> Result<PathBuf, HubError> {
        let pointer = self.snapshot(commit).join(file);
        let folder = pointer.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(HubError::at(folder))?;
        match fs::remove_file(&pointer) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(HubError::at(pointer)(error)),
            _ => {}
        }
        let mut target = PathBuf::new();
        // Out of the folders within the commit, the commit's own, and `snapshots`.
        (0..file.split('/').count() + 1).for_each(|_| target.push(".."));
        let target = target.join("blobs").join(etag);
        if symlink(&target, &pointer).is_err() {
            fs::rename(self.blob(etag), &pointer).map_err(HubError::at(&pointer))?;
        }
        Ok(pointer)
    }

    /// Says which commit `main` is.
    pub(crate) fn set_main(&self, commit: &str) -> Result<(), HubError> {
        if self.main().as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join("main");
        let write = || {
            fs::create_dir_all(self.folder.join("refs"))?;
            let mut file = crate::gguf::AtomicFile::create(&path)?;
            io::Write::write_all(&mut file, commit.as_bytes())?;
            file.commit()
        };
        write().map_err(HubError::at(&path))
    }

    /// The blob that a file is a link to.
    pub(crate) fn blob_of(&self, pointer: &Path) -> Option<String> {
        let target = fs::read_link(pointer).ok()?;
        let name = target.file_name()?.to_str()?;
        (target.parent()?.file_name()? == "blobs" && is_key(name)).then(|| name.to_owned())
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The names in a folder; none if it cannot be read.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_python() {
        let root = tempfile::tempdir().unwrap();
        let repository = Repository::new("Qwen", "Qwen3-Embedding-0.6B-GGUF").unwrap();
        let cached = Cached::new(root.path(), &repository);
        let folder = root.path().join("models--Qwen--Qwen3-Embedding-0.6B-GGUF");
        fs::create_dir_all(folder.join("blobs")).unwrap();
        fs::write(folder.join("blobs/e7a6"), "contents").unwrap();
        let pointer = cached.link("e7a6", "c0ffee", "sub/m.gguf").unwrap();
        assert_eq!(pointer, folder.join("snapshots/c0ffee/sub/m.gguf"));
        assert_eq!(fs::read_to_string(&pointer).unwrap(), "contents");
        if cfg!(unix) {
            assert_eq!(fs::read_link(&pointer).unwrap(), Path::new("../../../blobs/e7a6"));
            assert_eq!(cached.blob_of(&pointer).as_deref(), Some("e7a6"));
        }
        // Again, as when the link was damaged.
        fs::remove_file(&pointer).unwrap();
        fs::write(folder.join("blobs/e7a6"), "contents").unwrap();
        fs::write(&pointer, "damaged").unwrap();
        cached.link("e7a6", "c0ffee", "sub/m.gguf").unwrap();
        assert_eq!(fs::read_to_string(&pointer).unwrap(), "contents");
        cached.set_main("c0ffee").unwrap();
        assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), "c0ffee");
        assert_eq!(cached.files(&cached.main().unwrap()), ["sub/m.gguf"]);
        let all = Cached::all(root.path());
        assert_eq!((all.len(), &all[0].repository), (1, &repository));
    }

    #[test]
    fn a_lock_is_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let cached = Cached::new(root.path(), &Repository::new("o", "r").unwrap());
        let lock = cached.lock("e", || panic!("it is free")).unwrap();
        assert!(root.path().join(".locks/models--o--r/e.lock").exists());
        assert!(matches!(cached.not_in_use("e"), Err(HubError::InUse { .. })));
        drop(lock);
        assert!(cached.not_in_use("e").is_ok());
    }
}
