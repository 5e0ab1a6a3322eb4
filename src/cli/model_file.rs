//! Model files as the command line names them: by a path, or by the name under which they were pulled. This is the one place
//! where a name becomes a path; nothing is downloaded for it.

use super::Failure;
use qembed_q::hub::{HubError, HubSettings, ModelName, find};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// A model file, as it was named.
#[derive(Clone, Debug)]
pub(super) struct ModelFile(PathBuf);

impl From<OsString> for ModelFile {
    fn from(named: OsString) -> Self {
        Self(named.into())
    }
}

impl fmt::Display for ModelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl ModelFile {
    /// Where it is.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        resolve(&self.0)
    }
}

/// Where a model file is. What exists is a path whatever else it may be; what looks like no name is one too.
pub(super) fn resolve(named: &Path) -> Result<PathBuf, Failure> {
    let name = if named.exists() { None } else { named.to_str().and_then(ModelName::guess) };
    let Some(name) = name else { return Ok(named.into()) };
    let name = name.map_err(|error| Failure::Usage(error.to_string()))?;
    HubSettings::from_env().and_then(|settings| find(&name, &settings)).map_err(|error| {
        Failure::Input(match error {
            HubError::NotStored { name } => {
                format!(
                    "{}: no such file, and no model of that name is on this machine: get it by `{}`",
                    named.display(),
                    pull(&name)
                )
            }
            error => error.to_string(),
        })
    })
}

/// The command that downloads a model.
pub(super) fn pull(name: &ModelName) -> String {
    format!("qembed-q pull {}", quoted(name))
}

/// A name as a shell takes it.
pub(super) fn quoted(name: &ModelName) -> String {
    let name = name.to_string();
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c));
    if plain { name } else { format!("\"{name}\"") }
}
