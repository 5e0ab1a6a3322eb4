//! Where the hub is, what it is told, and where its files are kept: as `huggingface_hub` in Python has it.

use crate::hub::error::HubError;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What makes requests for more than is public. Shown nowhere.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How to get at models.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubSettings {
    /// URL of the hub, without a slash at its end (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Sent to the endpoint's host and to no other.
    pub(crate) token: Option<Token>,
    /// The folder of the hub's cache, shared with Python (`HF_HUB_CACHE`, or `hub` in `HF_HOME`).
    pub cache: PathBuf,
    /// The folder of models that are made here (`QEMBED_MODELS`, or one among the user's data).
    pub made: PathBuf,
    /// Whether the network is not to be used (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// How long an answer about a file may take (`HF_HUB_ETAG_TIMEOUT`).
    pub etag_timeout: Duration,
    /// How long nothing may come of a file (`HF_HUB_DOWNLOAD_TIMEOUT`).
    pub download_timeout: Duration,
    /// How long to wait before what failed is tried for the second time; each further time twice as long.
    pub pause: Duration,
}

impl HubSettings {
    /// Those of the environment.
    ///
    /// # Errors
    /// [`HubError::NoFolder`], where nothing says where files are kept.
    pub fn from_env() -> Result<Self, HubError> {
        Self::read(&|name| std::env::var_os(name), dirs::home_dir(), dirs::data_dir())
    }

    /// Takes this token in place of what the environment says.
    pub fn set_token(&mut self, token: Option<String>) {
        self.token = token.map(Token);
    }

    pub(crate) fn read(
        get: &dyn Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
        data: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name)?.into_string().ok();
        let folder = |name: &str| {
            let path = PathBuf::from(set(name)?);
            Some(match (path.strip_prefix("~"), &home) {
                (Ok(rest), Some(home)) => home.join(rest),
                _ => path,
            })
        };
        let switch =
            |name: &str| text(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&&*v.to_ascii_uppercase()));
        let seconds = |name: &str| {
            let seconds = text(name).and_then(|value| value.trim().parse().ok()).filter(|n| *n > 0).unwrap_or(10);
            Duration::from_secs(seconds)
        };
        let hf_home = folder("HF_HOME").or_else(|| {
            let caches = folder("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let in_home = |name: &str| hf_home.as_ref().map(|home| home.join(name));
        let cache = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE")).or_else(|| in_home("hub"));
        let cache = cache.ok_or(HubError::NoFolder)?;
        let saved = || read_token(&folder("HF_TOKEN_PATH").or_else(|| in_home("token"))?);
        let token = match switch("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).or_else(saved),
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            token: token.map(Token),
            made: folder("QEMBED_MODELS")
                .or_else(|| Some(data?.join("qembed-q").join("models")))
                .unwrap_or_else(|| cache.join("qembed-q")),
            cache,
            offline: switch("HF_HUB_OFFLINE") || switch("TRANSFORMERS_OFFLINE"),
            etag_timeout: seconds("HF_HUB_ETAG_TIMEOUT"),
            download_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT"),
            pause: Duration::from_secs(1),
        })
    }
}

fn read_token(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn read(variables: &[(&str, &str)]) -> HubSettings {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        HubSettings::read(&get, Some("/home/me".into()), Some("/data".into())).unwrap()
    }

    #[test]
    fn folders_are_those_of_python() {
        for (variables, cache) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/x")], "/home/me/hf/hub"),
            (&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HF_HOME", ""), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
        ] {
            assert_eq!(read(variables).cache, Path::new(cache), "{variables:?}");
        }
        assert_eq!(read(&[]).made, Path::new("/data/qembed-q/models"));
        assert!(matches!(HubSettings::read(&|_| None, None, None), Err(HubError::NoFolder)));
    }

    #[test]
    fn the_token_is_read_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_saved\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| read(variables).token.map(|token| token.0);
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("hf_saved"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " hf_said ")]).as_deref(), Some("hf_said"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_TOKEN_PATH", &format!("{home}/token"))]).as_deref(), Some("hf_saved"));
        let shown = format!("{:?}", read(&[("HF_TOKEN", "hf_secret")]));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn switches_and_seconds() {
        for (value, offline) in [("1", true), ("true", true), ("Yes", true), ("0", false), ("", false)] {
            assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert_eq!(read(&[("HF_HUB_DOWNLOAD_TIMEOUT", "3")]).download_timeout, Duration::from_secs(3));
        assert_eq!(read(&[("HF_HUB_ETAG_TIMEOUT", "0")]).etag_timeout, Duration::from_secs(10));
        assert_eq!(read(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
    }
}
