//! The models that are served, by name.

use crate::digest::{digest, level};
use crate::embedder::Embedder;
use crate::error::Error;
use crate::gguf::Gguf;
use crate::options::{LoadOptions, Prompt};
use crate::serve::error::ServeError;
use crate::serve::options::{Defaults, ModelSpec, ServeOptions};
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::results::{Identity, Key};
use crate::tokens::Tokens;
use sha2::{Digest, Sha256};
use std::fs::Metadata;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

/// A model that is open.
pub(crate) struct Loaded {
    pub(crate) embedder: Arc<Embedder>,
    /// No other model has had it since the program was started.
    number: u64,
    pub(crate) path: Option<PathBuf>,
    /// Its files, all parts, right before they were opened; none of the built-in model, and where one could not be looked at.
    stamps: Option<Stamps>,
    digest: OnceLock<[u8; 32]>,
    /// Somebody finds the digest out.
    searching: AtomicBool,
    pub(crate) opened: SystemTime,
    /// The level, as far as the file says it, such as `Q4_K_M`.
    pub(crate) level: String,
    /// Values of all tensors.
    pub(crate) parameters: u64,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stamp {
    size: u64,
    time: Option<SystemTime>,
    inode: u64,
}

/// Files, and what changes when they do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamps(Vec<(PathBuf, Stamp)>);

impl Stamps {
    fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Option<Self> {
        let stamp = |path: P| {
            let data = std::fs::metadata(path.as_ref()).ok()?;
            let stamp = Stamp { size: data.len(), time: data.modified().ok(), inode: inode(&data) };
            Some((path.as_ref().to_owned(), stamp))
        };
        paths.into_iter().map(stamp).collect::<Option<_>>().map(Self)
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }

    /// The SHA-256 of all bytes, if the files are still these when they have been read.
    fn digest(&self) -> Option<[u8; 32]> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        for path in self.paths() {
            let mut file = std::fs::File::open(path).ok()?;
            loop {
                match file.read(&mut buffer).ok()? {
                    0 => break,
                    n => hash.update(&buffer[..n]),
                }
            }
        }
        (Self::of(self.paths()).as_ref() == Some(self)).then(|| hash.finalize().into())
    }
}

#[cfg(unix)]
fn inode(data: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(data)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

impl Loaded {
    fn open(path: Option<&Path>, load: &LoadOptions) -> Result<Self, Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (gguf, stamps) = match path {
            Some(path) => open_stamped(path, load)?,
            None => (builtin()?, None),
        };
        let embedder = Arc::new(Embedder::from_gguf(&gguf, load)?);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (path, opened, digest) = (path.map(Path::to_owned), SystemTime::now(), OnceLock::new());
        let searching = AtomicBool::new(false);
        let level = level(&gguf);
        let parameters = gguf.tensors().map(|tensor| tensor.shape.values() as u64).sum();
        Ok(Self { embedder, number, path, stamps, digest, searching, opened, level, parameters })
    }

    /// When the file was changed last, as far as that is known.
    pub(crate) fn modified(&self) -> SystemTime {
        self.stamps.as_ref().and_then(|stamps| stamps.0[0].1.time).unwrap_or(self.opened)
    }

    /// What a text's result is found by.
    pub(crate) fn key(&self, tokens: &Tokens) -> Key {
        let identity = self.digest.get().map_or(Identity::Number(self.number), |digest| Identity::Digest(*digest));
        Key::of(identity, &self.embedder, tokens)
    }

    /// The SHA-256 of the model's file, if it is known.
    pub(crate) fn digest(&self) -> Option<&[u8; 32]> {
        self.digest.get()
    }

    /// Whether nobody has begun to look for the digest; whoever asks first should.
    pub(crate) fn wants_digest(&self) -> bool {
        !self.searching.swap(true, Ordering::Relaxed)
    }

    /// Makes sure that the digest is known: reads the whole file once, unless it is remembered from an earlier time.
    pub(crate) fn find_digest(&self, remembered: &dyn Remember) {
        if self.digest.get().is_some() {
            return;
        }
        let digest = match (&self.path, &self.stamps) {
            // Its bytes are part of the program, which may have changed under the same version.
            (None, _) => builtin().ok().map(|gguf| digest(&gguf)),
            (Some(_), None) => None,
            (Some(_), Some(stamps)) => {
                let about = format!("{stamps:?}");
                remembered.recall(&about).or_else(|| {
                    let digest = stamps.digest()?;
                    remembered.remember(&about, &digest);
                    Some(digest)
                })
            }
        };
        if let Some(digest) = digest {
            let _ = self.digest.set(digest);
        }
    }
}

/// Where digests of files are remembered.
pub(crate) trait Remember {
    fn recall(&self, about: &str) -> Option<[u8; 32]>;
    fn remember(&self, about: &str, digest: &[u8; 32]);
}

/// Opens a model's file, and tells its files as they were right before that.
fn open_stamped(path: &Path, load: &LoadOptions) -> Result<(Gguf, Option<Stamps>), Error> {
    let stamps = Stamps::of([path]);
    let gguf = Gguf::open_with(path, load.access)?;
    if gguf.part_count() == 1 {
        return Ok((gguf, stamps));
    }
    // Which other parts there are is known only now.
    let stamps = Stamps::of(gguf.paths());
    Ok((Gguf::open_with(path, load.access)?, stamps))
}

#[cfg(feature = "builtin")]
fn builtin() -> Result<Gguf, Error> {
    Ok(qembed_models::builtin()?)
}

/// Files that the server has to be told of, where the program carries none.
#[cfg(not(feature = "builtin"))]
fn builtin() -> Result<Gguf, Error> {
    Ok(Gguf::open("builtin")?)
}

/// A name, and what it stands for.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) defaults: Defaults,
    /// Shared by all names of one file.
    slot: Arc<Slot>,
}

/// A place for a model, which may be replaced by a newer one.
struct Slot {
    path: Option<PathBuf>,
    loaded: RwLock<Arc<Loaded>>,
    /// The file of which the last attempt to load it was made.
    tried: Mutex<Option<Stamps>>,
}

/// A model under the name that was asked for.
pub(crate) struct Chosen {
    /// The name by which it is served.
    pub(crate) name: String,
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) defaults: Defaults,
}

/// All models, by name; the first one first.
pub(crate) struct Models {
    names: Vec<Named>,
    load: LoadOptions,
}

impl Models {
    /// Opens all models.
    ///
    /// # Errors
    /// The first that cannot be opened, by its name; two of one name.
    pub(crate) fn open(options: &ServeOptions) -> Result<Self, ServeError> {
        let builtin = [ModelSpec { name: Some("builtin".into()), ..ModelSpec::default() }];
        let specs = if options.models.is_empty() { &builtin[..] } else { &options.models };
        let mut names: Vec<Named> = Vec::new();
        for spec in specs {
            let name = spec.name.clone().unwrap_or_else(|| {
                let stem = spec.path.as_ref().and_then(|path| path.file_stem());
                stem.map_or("builtin".into(), |stem| stem.to_string_lossy().into_owned())
            });
            if names.iter().any(|other| other.name == name) {
                return Err(ServeError::SameName(name));
            }
            let same = names.iter().find(|other| other.slot.path == spec.path).map(|other| other.slot.clone());
            let slot = match same {
                Some(slot) => slot,
                None => {
                    let loaded = Loaded::open(spec.path.as_deref(), &options.load)
                        .map_err(|source| ServeError::Model { name: name.clone(), source: Box::new(source) })?;
                    let tried = Mutex::new(loaded.stamps.clone());
                    Arc::new(Slot { path: spec.path.clone(), loaded: RwLock::new(Arc::new(loaded)), tried })
                }
            };
            let named = Named { name, defaults: spec.defaults.clone(), slot };
            let embedder = named.loaded().embedder.clone();
            embedder
                .check_dimensions(named.defaults.dimensions)
                .map_err(|source| ServeError::Model { name: named.name.clone(), source: Box::new(source) })?;
            names.push(named);
        }
        Ok(Self { names, load: options.load.clone() })
    }

    /// All names.
    pub(crate) fn names(&self) -> &[Named] {
        &self.names
    }

    /// The model of a name, with what holds for it: `NAME`, `NAME:latest`, `NAME:query`, `NAME:document`. Where there is but
    /// one model, any name will do.
    ///
    /// # Errors
    /// A name that none of several has.
    pub(crate) fn choose(&self, asked: Option<&str>) -> Result<Chosen, Refusal> {
        let chosen = |named: &Named, kind: Option<Prompt>| {
            let said = Defaults { prompt: kind, ..Defaults::default() };
            Chosen { name: named.name.clone(), loaded: named.loaded(), defaults: said.over(&named.defaults) }
        };
        let first = &self.names[0];
        let Some(asked) = asked.filter(|name| !name.is_empty()) else { return Ok(chosen(first, None)) };
        let named = |name: &str| self.names.iter().find(|named| named.name.eq_ignore_ascii_case(name));
        if let Some(named) = named(asked) {
            return Ok(chosen(named, None));
        }
        let (name, kind) = match asked.rsplit_once(':') {
            Some((name, "query")) => (name, Some(Prompt::Query)),
            Some((name, "document")) => (name, Some(Prompt::Document)),
            Some((name, "latest")) => (name, None),
            _ => (asked, None),
        };
        match named(name).or((self.names.len() == 1).then_some(first)) {
            Some(named) => Ok(chosen(named, kind)),
            None => {
                let names = self.names.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ");
                let message = format!("the model {asked:?} is not served here; there are: {names}");
                Err(Refusal { param: Some("model".into()), ..Refusal::new(Kind::NotFound, message) }
                    .code("model_not_found"))
            }
        }
    }

    /// Opens models again whose files are not those that were opened, and puts them in the place of the old ones once they
    /// are ready; with `all`, every one. What could not be opened leaves the old one in its place; `say` is told.
    pub(crate) fn reload(&self, all: bool, say: &dyn Fn(&str, Result<(), &Error>)) {
        let mut seen: Vec<*const Slot> = Vec::new();
        for named in &self.names {
            let Some(path) = named.slot.path.as_deref().filter(|_| !seen.contains(&Arc::as_ptr(&named.slot))) else {
                continue;
            };
            seen.push(Arc::as_ptr(&named.slot));
            let known = named.loaded();
            let now = match &known.stamps {
                Some(stamps) => Stamps::of(stamps.paths()),
                None => Stamps::of([path]),
            };
            let mut tried = named.slot.tried.lock().unwrap_or_else(PoisonError::into_inner);
            // A file that is gone, or about to be put there, is no news.
            if !all && (now.is_none() || *tried == now) {
                continue;
            }
            *tried = now;
            match Loaded::open(Some(path), &self.load) {
                Ok(loaded) => {
                    *named.slot.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                    say(&named.name, Ok(()));
                }
                Err(error) => say(&named.name, Err(&error)),
            }
        }
    }
}

impl Named {
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.slot.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Memory(RefCell<HashMap<String, [u8; 32]>>);

    impl Remember for Memory {
        fn recall(&self, about: &str) -> Option<[u8; 32]> {
            self.0.borrow().get(about).copied()
        }
        fn remember(&self, about: &str, digest: &[u8; 32]) {
            self.0.borrow_mut().insert(about.to_owned(), *digest);
        }
    }

    #[test]
    fn a_digest_is_of_all_files_and_only_of_those_that_were_opened() {
        let folder = tempfile::tempdir().unwrap();
        let parts = ["a", "b"].map(|name| folder.path().join(name));
        let write = |i: usize, text: &str| std::fs::write(&parts[i], text).unwrap();
        write(0, "first");
        write(1, "second");
        let stamps = || Stamps::of(&parts).unwrap();
        let before = stamps();
        let digest = before.digest().unwrap();
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest("firstsecond")));
        write(1, "another");
        assert_eq!((before.digest(), before == stamps()), (None, false), "the second file is another");
        assert_ne!(stamps().digest(), Some(digest));
        std::fs::remove_file(&parts[1]).unwrap();
        assert!(before.digest().is_none() && Stamps::of(&parts).is_none());
    }

    #[test]
    fn a_digest_is_found_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        crate::tests::write_model(&path, 100);
        let load = LoadOptions::default().access(qembed_models::gguf::Access::Read);
        let memory = Memory::default();
        let digest = |memory: &Memory| {
            let loaded = Loaded::open(Some(&path), &load).unwrap();
            assert!(loaded.wants_digest() && !loaded.wants_digest());
            loaded.find_digest(memory);
            *loaded.digest().unwrap()
        };
        assert_eq!(digest(&memory), <[u8; 32]>::from(Sha256::digest(std::fs::read(&path).unwrap())));
        // What is remembered is not found out again.
        memory.0.borrow_mut().values_mut().for_each(|digest| *digest = [7; 32]);
        assert_eq!(digest(&memory), [7; 32]);
    }
}
