//! What the hub has of a model, and how it comes here.

use crate::hub::cache::{Cached, is_key};
use crate::hub::choose::{ModelFiles, listed, matching, models};
use crate::hub::download::{Remote, fetch};
use crate::hub::error::HubError;
use crate::hub::http::{Http, header, in_url, not_the_hub};
use crate::hub::name::{ModelName, Repository, Which, is_file};
use crate::hub::note::{Note, PullProgress};
use crate::hub::settings::HubSettings;
use crate::hub::store::made_path;
use qembed_models::Level;
use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

/// Levels of which others are made, best first.
const SOURCES: [&str; 3] = ["F16", "BF16", "F32"];

/// The hub, over the network.
pub struct Hub<'a>(Http<'a>);

/// What the hub has for a name.
#[derive(Clone, Debug)]
pub struct Offer {
    cached: Cached,
    remotes: Vec<Remote>,
    make: Option<Make>,
}

/// A level that is not published and can be made of one that is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Make {
    /// The level that was asked for.
    pub level: Level,
    /// The published level to make it of.
    pub source: String,
    /// Names of what is published.
    pub there: Vec<String>,
    /// Where it belongs. If there is a file, it has been made of this very source.
    pub path: PathBuf,
}

impl Offer {
    /// If the level is not published: how to make it of the one that [`Hub::fetch`] fetches.
    pub fn make(&self) -> Option<&Make> {
        self.make.as_ref()
    }

    /// Bytes of the files.
    pub fn bytes(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.size).sum()
    }

    /// Bytes of them that are not on this machine.
    pub fn missing(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.size - remote.there(&self.cached)).sum()
    }
}

impl<'a> Hub<'a> {
    /// The hub that the settings say; nothing is asked yet. `notes` is told what whoever waits may want to know.
    ///
    /// # Errors
    /// [`HubError::Offline`] where the network is not to be used.
    pub fn new(settings: &'a HubSettings, notes: Option<&'a dyn Fn(&Note<'_>)>) -> Result<Self, HubError> {
        if settings.offline {
            return Err(HubError::Offline);
        }
        Ok(Self(Http::new(settings, notes)))
    }

    /// Asks what the hub has for a name.
    ///
    /// # Errors
    /// Where it cannot be reached, gives no access, or has no such model; [`HubError::Several`] where the name may mean more
    /// than one.
    pub fn look(&self, name: &ModelName) -> Result<Offer, HubError> {
        let (repository, settings) = (&name.repository, self.0.settings);
        let url = format!("{}/api/models/{repository}/revision/main", settings.endpoint);
        let answer = self.0.json(repository, &url)?;
        let commit = answer["sha"].as_str().filter(|commit| is_key(commit));
        let commit = commit.ok_or_else(|| not_the_hub(&url, "it names no commit"))?;
        let files = answer["siblings"].as_array().ok_or_else(|| not_the_hub(&url, "it lists no files"))?;
        let models = models(files.iter().filter_map(|file| file["rfilename"].as_str()).filter(|file| is_file(file)));
        let (model, level) = match matching(&models, &name.which)[..] {
            [one] => (one, None),
            [] => source(name, &models)?,
            ref several => {
                return Err(HubError::Several { name: name.clone(), there: listed(repository, several) });
            }
        };
        let remotes = model.files.iter().map(|file| self.head(repository, commit, file));
        let remotes: Vec<Remote> = remotes.collect::<Result<_, _>>()?;
        let make = level.map(|level| Make {
            level,
            source: model.level.clone().unwrap_or_default(),
            there: listed(repository, &models),
            path: made_path(settings, repository, &remotes[0].etag, level.name()),
        });
        Ok(Offer { cached: Cached::new(&settings.cache, repository), remotes, make })
    }

    /// What the hub says of a file.
    fn head(&self, repository: &Repository, commit: &str, file: &str) -> Result<Remote, HubError> {
        let url = format!("{}/{repository}/resolve/{commit}/{}", self.0.settings.endpoint, in_url(file));
        let answer = self.0.head(repository, &url)?;
        let said = |name: &str| header(answer.headers(), name);
        let etag = said("x-linked-etag").or_else(|| said("etag")).map(|etag| etag.trim_start_matches("W/"));
        let etag = etag.map(|etag| etag.trim_matches('"')).filter(|etag| is_key(etag));
        let length = || said("content-length").filter(|_| answer.status().is_success());
        let size = said("x-linked-size").or_else(length).and_then(|size| size.parse().ok());
        let (Some(etag), Some(size)) = (etag, size) else {
            return Err(not_the_hub(&url, "it gives no ETag or no size"));
        };
        Ok(Remote { file: file.into(), commit: commit.into(), etag: etag.into(), size, url })
    }

    /// Fetches all files of an offer that are not here, from where they were left, and gives the path of the first.
    /// `progress` is told how far it is.
    ///
    /// # Errors
    /// Where the disk has no room for all of it, before anything is fetched; where the connection fails again and again, or
    /// what comes is not what was announced. What has come by then stays, unless it is wrong.
    pub fn fetch(&self, offer: &Offer, progress: Option<&dyn Fn(PullProgress)>) -> Result<PathBuf, HubError> {
        let folder = &self.0.settings.cache;
        fs::create_dir_all(folder).map_err(HubError::at(folder))?;
        let needed = offer.missing();
        // A system that does not say how much is free may have enough.
        if let Some(free) = fs4::available_space(folder).ok().filter(|free| *free < needed) {
            return Err(HubError::NoSpace { folder: folder.clone(), needed, free });
        }
        let (total, before) = (offer.bytes(), Cell::new(0));
        let mut path = None;
        for remote in &offer.remotes {
            let tell = |done: u64| {
                if let Some(progress) = progress {
                    progress(PullProgress { done: before.get() + done, total });
                }
            };
            let file = fetch(&self.0, &offer.cached, remote, &tell)?;
            path.get_or_insert(file);
            before.set(before.get() + remote.size);
        }
        // Now that it is whole: until then names mean what they meant.
        offer.cached.set_main(&offer.remotes[0].commit)?;
        Ok(path.expect("a model has files"))
    }
}

/// The model of which a level that is not published can be made.
fn source<'m>(name: &ModelName, models: &'m [ModelFiles]) -> Result<(&'m ModelFiles, Option<Level>), HubError> {
    let wanted = match &name.which {
        Which::Usual => "model files".into(),
        Which::Level(level) => level.clone(),
        Which::File(file) => file.clone(),
    };
    let level = name.level().filter(|level| !SOURCES.contains(level)).and_then(|level| level.parse::<Level>().ok());
    let sources = SOURCES.iter().map(|source| matching(models, &Which::Level((*source).into())));
    match (level, sources.into_iter().find(|found| found.len() == 1)) {
        (Some(level), Some(found)) => Ok((found[0], Some(level))),
        _ => {
            let there = listed(&name.repository, models);
            Err(HubError::NoSuch { repository: name.repository.clone(), wanted, there })
        }
    }
}
