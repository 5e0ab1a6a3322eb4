//! Files that appear whole or not at all.
//!
//! Until a file is whole it has a temporary name beside its target, `.NAME.PID-N.partial`, and an exclusive lock, which
//! the system takes back however its process ends. So who starts a file of the same name tells the leftovers of killed
//! runs, which are not locked, from the work of others, which is, and removes the former.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file that is written under a temporary name beside its target and takes the target's name on [`Self::commit`].
/// Dropped without a commit, it leaves nothing behind. A reader that has the old target mapped keeps the old contents;
/// on Windows it cannot be replaced then.
#[derive(Debug)]
pub struct AtomicFile {
    target: PathBuf,
    temporary: PathBuf,
    /// `None` once committed.
    file: Option<BufWriter<File>>,
}

/// The temporary files of this process; `None` once no more may be made.
static UNFINISHED: Mutex<Option<Vec<PathBuf>>> = Mutex::new(Some(Vec::new()));

fn unfinished() -> MutexGuard<'static, Option<Vec<PathBuf>>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ending() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the program is being stopped")
}

/// Removes every [`AtomicFile`] of this process that is not committed, for a program that ends without dropping them
/// (on Ctrl-C, say). From then on none can be created or committed.
pub fn discard_unfinished_files() {
    for path in unfinished().take().unwrap_or_default() {
        let _ = fs::remove_file(path);
    }
}

impl AtomicFile {
    /// Starts a file; the target itself is not touched before the commit. What killed runs have left of the same target
    /// is removed.
    ///
    /// # Errors
    /// Besides those of the system: a target that exists and is no regular file, since it would be replaced by one.
    pub fn create(target: impl AsRef<Path>) -> io::Result<Self> {
        let target = target.as_ref().to_owned();
        let Some(name) = target.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"));
        };
        if fs::metadata(&target).is_ok_and(|existing| !existing.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is no regular file"));
        }
        remove_leftovers(&target, name);
        for number in 0u64.. {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{number}.partial", std::process::id()));
            let temporary = target.with_file_name(hidden);
            // Held until the file is in the list, so that none escapes `discard_unfinished_files`.
            let mut unfinished = unfinished();
            let files = unfinished.as_mut().ok_or_else(ending)?;
            let file = match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // Between the two steps another process may have taken the new file for a leftover.
            let lost = match file.try_lock() {
                Ok(()) => !temporary.exists(),
                Err(TryLockError::WouldBlock) => true,
                // A file system without locks: nobody can take a lock on the file, so nobody removes it.
                Err(TryLockError::Error(_)) => false,
            };
            if !lost {
                files.push(temporary.clone());
                return Ok(AtomicFile { target, temporary, file: Some(BufWriter::with_capacity(1 << 18, file)) });
            }
        }
        unreachable!("a number is free")
    }

    /// The name that the file has until the commit, for a library that opens by name what it writes. Who writes that way
    /// must have closed it before.
    ///
    /// On Windows, where the lock would keep the library out, this gives it up: then a second run that starts the same
    /// target removes the file, and the commit fails.
    ///
    /// # Errors
    /// When the lock cannot be given up.
    pub fn open_to_others(&self) -> io::Result<&Path> {
        match &self.file {
            Some(file) if cfg!(windows) => file.get_ref().unlock()?,
            _ => {}
        }
        Ok(&self.temporary)
    }

    /// Writes everything to the disk and gives the file its name.
    pub fn commit(mut self) -> io::Result<()> {
        if let Some(out) = &mut self.file {
            out.flush()?;
            out.get_ref().sync_all()?;
            let mut unfinished = unfinished();
            let files = unfinished.as_mut().ok_or_else(ending)?;
            fs::rename(&self.temporary, &self.target)?;
            files.retain(|path| *path != self.temporary);
            self.file = None;
        }
        Ok(())
    }
}

/// Removes the temporary files of processes that have ended. What cannot be looked at stays.
fn remove_leftovers(target: &Path, name: &OsStr) {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !is_temporary_name(&entry.file_name(), name) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether `entry` is `.NAME.PID-N.partial`.
fn is_temporary_name(entry: &OsStr, name: &OsStr) -> bool {
    let middle = || {
        let rest = entry.as_encoded_bytes().strip_prefix(b".")?.strip_prefix(name.as_encoded_bytes())?;
        rest.strip_prefix(b".")?.strip_suffix(b".partial")
    };
    middle().is_some_and(|middle| {
        let mut numbers = middle.split(|byte| *byte == b'-');
        let mut number = || numbers.next().is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit));
        number() && number() && numbers.next().is_none()
    })
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |f| f.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |f| f.flush())
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.as_mut().map_or(Ok(0), |f| f.seek(to))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Taken apart, so that nothing more is written.
            let (file, _unwritten) = file.into_parts();
            if let Some(files) = unfinished().as_mut() {
                files.retain(|path| *path != self.temporary);
            }
            let _ = fs::remove_file(&self.temporary);
            drop(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn leftovers_go_and_the_work_of_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out.gguf");
        let [left, others, foreign] =
            [".out.gguf.4000000000-0.partial", ".other.out.gguf.1-0.partial", ".out.gguf.mine.partial"];
        for name in [left, others, foreign] {
            fs::write(folder.path().join(name), "left").unwrap();
        }
        // Two at once, as of two processes.
        let (mut first, mut second) = (AtomicFile::create(&target).unwrap(), AtomicFile::create(&target).unwrap());
        let pid = std::process::id();
        let (a, b) = (format!(".out.gguf.{pid}-0.partial"), format!(".out.gguf.{pid}-1.partial"));
        let mut expected = vec![others.to_owned(), foreign.to_owned(), a, b];
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        first.write_all(b"first").unwrap();
        second.write_all(b"second").unwrap();
        first.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"first");
        second.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"second");
        assert_eq!(names(folder.path()), [others, foreign, "out.gguf"]);
    }

    #[test]
    fn only_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let said = AtomicFile::create(folder.path()).unwrap_err().to_string();
        assert!(said.contains("no regular file"), "{said}");
        assert!(AtomicFile::create(folder.path().join("..")).is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn it_is_written_by_name_and_gone_back_in() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"two words").unwrap();
        file.seek(SeekFrom::Start(1)).unwrap();
        file.write_all(b"en").unwrap();
        assert_eq!(file.stream_position().unwrap(), 3);
        file.flush().unwrap();
        let at = file.open_to_others().unwrap().to_owned();
        assert_eq!(fs::read(&at).unwrap(), b"ten words");
        OpenOptions::new().append(true).open(&at).unwrap().write_all(b" more").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"ten words more");
        assert_eq!(names(folder.path()), ["a"]);
    }
}
