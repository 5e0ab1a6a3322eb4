//! The models that are on this machine: in the hub's cache, and those that were made here of what was in it.
//!
//! What is made lies in a folder of its own, since the cache is the hub's alone: `owner/name/<source>/<file>`, where the source
//! is the beginning of the etag of the file it was made of; so it is made anew once that has changed.

use crate::hub::cache::{Cached, names};
use crate::hub::choose::{ModelFiles, listed, matching, models, name};
use crate::hub::error::HubError;
use crate::hub::name::{ModelName, Repository, Which};
use crate::hub::settings::HubSettings;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where a model comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Fetched from the hub: what its name means.
    Hub,
    /// Of a commit that is not the hub's latest known here. Names do not find it.
    OtherCommit,
    /// Made here of another level.
    Made,
    /// Files of the repository that are not whole. Names do not find them.
    Unfinished,
}

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct StoredModel {
    name: ModelName,
    origin: Origin,
    bytes: u64,
    folder: PathBuf,
    model: ModelFiles,
}

impl AsRef<ModelFiles> for StoredModel {
    fn as_ref(&self) -> &ModelFiles {
        &self.model
    }
}

impl StoredModel {
    fn new(name: ModelName, origin: Origin, folder: PathBuf, model: ModelFiles) -> Self {
        let size = |file: &String| folder.join(file).metadata().map_or(0, |what| what.len());
        let bytes = model.files.iter().map(size).sum();
        Self { name, origin, bytes, folder, model }
    }

    /// The name by which it is found.
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Its level, if names of files say one.
    pub fn level(&self) -> Option<&str> {
        self.model.level.as_deref()
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its files; the first is the one to open.
    pub fn files(&self) -> Vec<PathBuf> {
        self.model.files.iter().map(|file| self.folder.join(file)).collect()
    }
}

/// All models on this machine, by name.
pub fn stored(settings: &HubSettings) -> Vec<StoredModel> {
    let mut repositories: BTreeSet<_> = Cached::all(&settings.cache).into_iter().map(|one| one.repository).collect();
    for owner in names(&settings.made) {
        let all = names(&settings.made.join(&owner));
        repositories.extend(all.iter().filter_map(|name| Repository::new(&owner, name)));
    }
    repositories.iter().flat_map(|repository| of_repository(settings, repository)).collect()
}

/// What there is of a repository.
fn of_repository(settings: &HubSettings, repository: &Repository) -> Vec<StoredModel> {
    let cached = Cached::new(&settings.cache, repository);
    let main = cached.main();
    let mut all = Vec::new();
    let mut add = |origin, folder: &Path, found: Vec<ModelFiles>| {
        for model in &found {
            let name = name(repository, model, found.iter());
            all.push(StoredModel::new(name, origin, folder.into(), model.clone()));
        }
    };
    for commit in cached.commits() {
        let files = cached.files(&commit);
        let origin = if main.as_ref() == Some(&commit) { Origin::Hub } else { Origin::OtherCommit };
        add(origin, &cached.snapshot(&commit), models(files.iter().map(String::as_str)));
    }
    let folder = made_folder(settings, repository);
    let mut sources: Vec<_> = names(&folder).into_iter().map(|source| folder.join(source)).collect();
    // The latest first.
    sources.sort_by_key(|source| source.metadata().and_then(|what| what.modified()).unwrap_or(SystemTime::UNIX_EPOCH));
    for source in sources.iter().rev() {
        add(Origin::Made, source, models(names(source).iter().map(String::as_str)));
    }
    let unfinished: Vec<_> = names(&cached.blobs()).into_iter().filter(|name| name.ends_with(".incomplete")).collect();
    if !unfinished.is_empty() {
        let name = ModelName { repository: repository.clone(), which: Which::Usual };
        let files = ModelFiles { level: None, files: unfinished };
        all.push(StoredModel::new(name, Origin::Unfinished, cached.blobs(), files));
    }
    all
}

/// The folder of what was made of a repository's files.
fn made_folder(settings: &HubSettings, repository: &Repository) -> PathBuf {
    settings.made.join(&repository.owner).join(&repository.name)
}

/// Where a level is written that is made of a file with this etag.
pub(crate) fn made_path(settings: &HubSettings, repository: &Repository, etag: &str, level: &str) -> PathBuf {
    let name = &repository.name;
    let stem = match name.len().checked_sub("-GGUF".len()) {
        Some(at) if name[at..].eq_ignore_ascii_case("-GGUF") => &name[..at],
        _ => name,
    };
    made_folder(settings, repository).join(&etag[..etag.len().min(12)]).join(format!("{stem}-{level}.gguf"))
}

/// The file of a model on this machine; nothing is asked of the network.
///
/// # Errors
/// [`HubError::NotStored`] where it is not there, or not whole; [`HubError::Several`] where the name may mean more than one.
pub fn find(name: &ModelName, settings: &HubSettings) -> Result<PathBuf, HubError> {
    let mut there: Vec<StoredModel> = Vec::new();
    for model in of_repository(settings, &name.repository) {
        let made_before = model.origin == Origin::Made && there.iter().any(|other| other.name == model.name);
        if matches!(model.origin, Origin::Hub | Origin::Made) && !made_before {
            there.push(model);
        }
    }
    match matching(&there, &name.which)[..] {
        [] => Err(HubError::NotStored { name: name.clone() }),
        [one] => Ok(one.files().swap_remove(0)),
        ref several => Err(HubError::Several { name: name.clone(), there: listed(&name.repository, several) }),
    }
}

/// The models that a name finds, of every commit: what [`remove`] is given to be rid of it.
///
/// # Errors
/// As [`find`].
pub fn removable(name: &ModelName, settings: &HubSettings) -> Result<Vec<StoredModel>, HubError> {
    let mut whole = of_repository(settings, &name.repository);
    whole.retain(|model| model.origin != Origin::Unfinished);
    let found: Vec<StoredModel> = matching(&whole, &name.which).into_iter().cloned().collect();
    let mut names: Vec<_> = found.iter().map(|model| model.name.to_string()).collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 => Err(HubError::NotStored { name: name.clone() }),
        1 => Ok(found),
        _ => Err(HubError::Several { name: name.clone(), there: names }),
    }
}

/// Removes models, and of the cache what nothing else in it needs. Gives the bytes that are free now.
///
/// # Errors
/// [`HubError::InUse`] where one is being fetched, [`HubError::Io`] where a file cannot be removed; what was removed before
/// stays so.
pub fn remove(models: &[StoredModel], settings: &HubSettings) -> Result<u64, HubError> {
    let mut freed = 0;
    for model in models {
        let cached = Cached::new(&settings.cache, &model.name.repository);
        let mut blobs = BTreeSet::new();
        // Held until the end: nobody may link to what is about to go.
        let mut locks = Vec::new();
        for file in model.files() {
            let etag = match model.origin {
                Origin::Unfinished => file.file_name().and_then(|name| name.to_str()?.split('.').next()),
                _ => None,
            };
            let blob = cached.blob_of(&file);
            for etag in etag.map(str::to_owned).iter().chain(&blob) {
                locks.push(cached.not_in_use(etag)?);
            }
            freed += match &blob {
                Some(_) => delete(&file).map(|_| 0)?,
                None => delete(&file)?,
            };
            blobs.extend(blob);
        }
        let pointers = || {
            cached.commits().into_iter().flat_map(|commit| {
                let folder = cached.snapshot(&commit);
                cached.files(&commit).into_iter().map(move |file| folder.join(file))
            })
        };
        let used: BTreeSet<_> = pointers().filter_map(|pointer| cached.blob_of(&pointer)).collect();
        for etag in blobs.difference(&used) {
            freed += delete(&cached.blob(etag))?;
        }
        drop(locks);
        // The folders that are empty now.
        let top = if model.origin == Origin::Made { &settings.made } else { &cached.folder };
        for file in model.files() {
            let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(top) && folder != top);
            let _ = folders.map(fs::remove_dir).take_while(Result::is_ok).count();
        }
        if cached.folder.is_dir() && pointers().next().is_none() && names(&cached.blobs()).is_empty() {
            fs::remove_dir_all(&cached.folder).map_err(HubError::at(&cached.folder))?;
        }
    }
    Ok(freed)
}

/// Removes a file and gives its bytes.
fn delete(path: &Path) -> Result<u64, HubError> {
    let bytes = fs::symlink_metadata(path).map_or(0, |what| what.len());
    fs::remove_file(path).map_err(HubError::at(path))?;
    Ok(bytes)
}
