//! Which files an input is.

use crate::corpus::read::error::{ReadError, ReadProblem};
use crate::corpus::read::format::InputFormat;
use crate::corpus::read::parquet::MAGIC;
use crate::corpus::read::source::Source;
use crate::corpus::read::unpack::head;
use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The files of a [`Source`], in the order of its inputs; those of a folder in the order of their names, folder by folder. A
/// file that is named twice is there once.
#[derive(Clone, Debug)]
pub struct Files {
    pub(super) source: Arc<Source>,
    files: Vec<InputFile>,
    passed_over: u64,
}

/// A file that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is called for people; `-` is standard input.
    pub shown: Arc<Path>,
    /// What it consists of.
    pub format: InputFormat,
    /// Its bytes, as it lies there.
    pub bytes: u64,
    /// When it was last changed, where the system tells.
    pub modified: Option<SystemTime>,
}

impl Source {
    /// Finds out which files there are; none is read yet.
    ///
    /// Hidden files of folders, and links to folders, are left out.
    ///
    /// # Errors
    /// When an input is not there or gives no file, a folder cannot be read, or a file that is named tells not its format.
    pub fn files(&self) -> Result<Files, ReadError> {
        let mut search = Search { source: self, files: Vec::new(), known: HashSet::new(), met: 0, passed_over: 0 };
        self.inputs.iter().try_for_each(|input| search.add(input))?;
        Ok(Files { source: Arc::new(self.clone()), files: search.files, passed_over: search.passed_over })
    }
}

impl Files {
    /// What they are the files of.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The files.
    pub fn list(&self) -> &[InputFile] {
        &self.files
    }

    /// Files of folders and patterns that are not read, since their names tell no format, and links to folders.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

struct Search<'a> {
    source: &'a Source,
    files: Vec<InputFile>,
    known: HashSet<PathBuf>,
    /// Files that are read, each as often as it was named.
    met: u64,
    passed_over: u64,
}

impl Search<'_> {
    fn add(&mut self, input: &Path) -> Result<(), ReadError> {
        if input == Path::new("-") {
            let path = self.source.standard_input.as_deref();
            let path = path.ok_or_else(|| ReadError::new(input, ReadProblem::NotKept))?;
            let about = metadata(path)?;
            let format = self.source.format.or_else(|| by_content(path));
            let format = format.unwrap_or(if self.source.whole_file { InputFormat::Whole } else { InputFormat::Lines });
            self.push(path, input, format, &about);
            return Ok(());
        }
        let before = (self.met, self.passed_over);
        match metadata(input) {
            Ok(about) if about.is_dir() => self.folder(input)?,
            Ok(about) if about.is_file() => {
                let format = self.source.format.or_else(|| self.by_name(input)).or_else(|| by_content(input));
                let format = format.ok_or_else(|| ReadError::new(input, ReadProblem::UnknownFormat))?;
                self.push(input, input, format, &about);
                return Ok(());
            }
            Ok(_) => return Err(ReadError::new(input, ReadProblem::NotAFile)),
            Err(_) if input.to_string_lossy().contains(['*', '?', '[']) => self.pattern(input)?,
            Err(error) => return Err(error),
        }
        if self.met == before.0 {
            let passed_over = self.passed_over - before.1;
            return Err(ReadError::new(input, ReadProblem::NoFiles { passed_over }));
        }
        Ok(())
    }

    /// The files below a folder.
    fn folder(&mut self, folder: &Path) -> Result<(), ReadError> {
        let failed = |error| ReadError::new(folder, ReadProblem::Folder(error));
        let mut entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            match entry.file_type().map_err(failed)? {
                kind if kind.is_dir() => self.folder(&path)?,
                _ => self.found(&path)?,
            }
        }
        Ok(())
    }

    /// The files that a pattern fits, in the order of their paths.
    fn pattern(&mut self, input: &Path) -> Result<(), ReadError> {
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let paths = glob::glob_with(&input.to_string_lossy(), options)
            .map_err(|error| ReadError::new(input, ReadProblem::Pattern(error)))?;
        let mut any = false;
        for path in paths {
            let path = path.map_err(|error| {
                let path = error.path().to_owned();
                ReadError::new(&path, ReadProblem::Folder(error.into()))
            })?;
            any = true;
            if !path.is_dir() {
                self.found(&path)?;
            }
        }
        if any { Ok(()) } else { Err(ReadError::new(input, ReadProblem::NoMatch)) }
    }

    /// A file that was not named itself.
    fn found(&mut self, path: &Path) -> Result<(), ReadError> {
        let Some(format) = self.source.format.or_else(|| self.by_name(path)) else {
            self.passed_over += 1;
            return Ok(());
        };
        let about = metadata(path)?;
        if about.is_file() {
            self.push(path, path, format, &about);
        } else {
            self.passed_over += 1;
        }
        Ok(())
    }

    fn push(&mut self, path: &Path, shown: &Path, format: InputFormat, about: &Metadata) {
        self.met += 1;
        if self.known.insert(path.into()) {
            let (bytes, modified) = (about.len(), about.modified().ok());
            self.files.push(InputFile { path: path.into(), shown: shown.into(), format, bytes, modified });
        }
    }

    fn by_name(&self, path: &Path) -> Option<InputFormat> {
        InputFormat::of_name(path, self.source.whole_file)
    }
}

/// The format of a file whose name tells nothing, if its first bytes do.
fn by_content(path: &Path) -> Option<InputFormat> {
    head(path, 4).is_ok_and(|head| head == MAGIC).then_some(InputFormat::Parquet)
}

fn metadata(path: &Path) -> Result<Metadata, ReadError> {
    fs::metadata(path).map_err(|error| ReadError::new(path, ReadProblem::Open(error)))
}
