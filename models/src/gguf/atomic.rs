//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that is written under a temporary name beside its target and takes the target's name on [`Self::commit`].
/// Dropped without a commit, it leaves nothing behind. A reader that has the old target mapped keeps the old contents.
#[derive(Debug)]
pub struct AtomicFile {
    target: PathBuf,
    temporary: PathBuf,
    /// `None` once committed.
    file: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Starts a file; the target itself is not touched before the commit.
    pub fn create(target: impl AsRef<Path>) -> io::Result<Self> {
        let target = target.as_ref().to_owned();
        let Some(name) = target.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", std::process::id()));
        let temporary = target.with_file_name(hidden);
        let file = Some(BufWriter::with_capacity(1 << 18, File::create(&temporary)?));
        Ok(AtomicFile { target, temporary, file })
    }

    /// Writes everything to the disk and gives the file its name.
    pub fn commit(mut self) -> io::Result<()> {
        if let Some(mut out) = self.file.take() {
            let done = out.flush().and_then(|()| out.get_ref().sync_all());
            drop(out);
            if let Err(e) = done.and_then(|()| fs::rename(&self.temporary, &self.target)) {
                let _ = fs::remove_file(&self.temporary);
                return Err(e);
            }
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |f| f.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |f| f.flush())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            let (file, _unwritten) = file.into_parts();
            drop(file);
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
