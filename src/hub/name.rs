//! Names of models: `0.6b`, `0.6b:q4_k_m`, `owner/repo:LEVEL`, `hf:owner/repo/file.gguf`.

use std::fmt;
use std::str::FromStr;

/// The official repositories: short name, owner, repository, and the level that is meant where none is said: Q4_K_M, as
/// elsewhere, save where it is not published.
const OFFICIAL: [(&str, &str, &str, &str); 3] = [
    ("0.6b", "Qwen", "Qwen3-Embedding-0.6B-GGUF", "Q8_0"),
    ("4b", "Qwen", "Qwen3-Embedding-4B-GGUF", "Q4_K_M"),
    ("8b", "Qwen", "Qwen3-Embedding-8B-GGUF", "Q4_K_M"),
];

/// A text that is no name of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no name of a model: {problem}; names are 0.6b, 4b, 8b, owner/repo or hf:owner/repo/file.gguf, all but the last with :LEVEL if wanted"
)]
pub struct NameError {
    text: String,
    problem: &'static str,
}

/// A repository of the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    pub(crate) owner: String,
    pub(crate) name: String,
}

impl Repository {
    /// `None` where one of them could not be part of a name there, or of a path here.
    pub(crate) fn new(owner: &str, name: &str) -> Option<Self> {
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= 96
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
                && !part.starts_with(['.', '-'])
                && !part.ends_with(['.', '-'])
                && !part.contains("--")
                && !part.contains("..")
        };
        (good(owner) && good(name)).then(|| Self { owner: owner.into(), name: name.into() })
    }

    fn official(&self) -> Option<(&'static str, &'static str)> {
        let same = |(_, owner, name, _): &&(&str, &str, &str, &str)| (*owner, *name) == (&self.owner, &self.name);
        OFFICIAL.iter().find(same).map(|(short, _, _, level)| (*short, *level))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Which model of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Which {
    /// The only one, or the usual level.
    Usual,
    /// In capital letters.
    Level(String),
    /// A path within the repository, with `/` between its parts.
    File(String),
}

/// The name of a model on the hub.
///
/// `Display` gives the shortest name, which can be parsed again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName {
    pub(crate) repository: Repository,
    pub(crate) which: Which,
}

impl ModelName {
    pub(crate) fn new(repository: Repository, which: Which) -> Self {
        let which = match (which, repository.official()) {
            (Which::Usual, Some((_, level))) => Which::Level(level.into()),
            (which, _) => which,
        };
        Self { repository, which }
    }

    /// The name that a text has to be that may be a path as well; `None` where it can only be a path. Whoever asks has seen
    /// that there is no such file.
    pub fn guess(text: &str) -> Option<Result<Self, NameError>> {
        let surely = text.starts_with("hf:");
        let parsed = text.parse::<Self>();
        let file = text.to_ascii_lowercase().ends_with(".gguf");
        (surely || parsed.is_ok() && !file).then_some(parsed)
    }

    /// The repository, as `owner/name`.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The level, in capital letters, if the name says one or implies it.
    pub fn level(&self) -> Option<&str> {
        match &self.which {
            Which::Level(level) => Some(level),
            _ => None,
        }
    }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let no = |problem| NameError { text: text.into(), problem };
        let name = text.strip_prefix("hf:").unwrap_or(text);
        let mut parts = name.splitn(3, '/');
        let first = parts.next().unwrap_or_default();
        let Some(second) = parts.next() else {
            let (short, level) = split_level(first).ok_or_else(|| no("a level has letters, digits and _ only"))?;
            let known = OFFICIAL.iter().find(|(known, ..)| known.eq_ignore_ascii_case(short));
            let (_, owner, name, _) = known.ok_or_else(|| no("there is no such short name"))?;
            let repository = Repository::new(owner, name).expect("a name of the hub");
            return Ok(Self::new(repository, level));
        };
        if let Some(file) = parts.next() {
            if !text.starts_with("hf:") {
                return Err(no("a file of a repository is named with hf: before it"));
            }
            let repository =
                Repository::new(first, second).ok_or_else(|| no("the repository cannot be called that"))?;
            if !is_file(file) {
                return Err(no("the file has to be a .gguf within the repository"));
            }
            return Ok(Self::new(repository, Which::File(file.into())));
        }
        let (second, level) = split_level(second).ok_or_else(|| no("a level has letters, digits and _ only"))?;
        let repository = Repository::new(first, second).ok_or_else(|| no("the repository cannot be called that"))?;
        Ok(Self::new(repository, level))
    }
}

/// `name:level`.
fn split_level(text: &str) -> Option<(&str, Which)> {
    let Some((name, level)) = text.split_once(':') else { return Some((text, Which::Usual)) };
    let good = !level.is_empty() && level.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    good.then(|| (name, Which::Level(level.to_ascii_uppercase())))
}

/// Whether this is the path of a model file in a repository, safe to be one below a folder here on every system.
pub(crate) fn is_file(path: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', ':', '"', '*', '?', '<', '>', '|'])
            && !part.contains(char::is_control)
    };
    path.to_ascii_lowercase().ends_with(".gguf") && path.len() <= 1024 && path.split('/').all(good)
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.which, self.repository.official()) {
            (Which::File(file), _) => write!(f, "hf:{}/{file}", self.repository),
            (Which::Level(level), Some((short, _))) => write!(f, "{short}:{level}"),
            (Which::Level(level), None) => write!(f, "{}:{level}", self.repository),
            (Which::Usual, _) => write!(f, "{}", self.repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_shown_again() {
        for (text, shown) in [
            ("0.6b", "0.6b:Q8_0"),
            ("0.6B:q4_k_m", "0.6b:Q4_K_M"),
            ("hf:4b", "4b:Q4_K_M"),
            ("Qwen/Qwen3-Embedding-8B-GGUF", "8b:Q4_K_M"),
            ("Qwen/Qwen3-Embedding-8B-GGUF:f16", "8b:F16"),
            ("some.one/a_model-v1.5", "some.one/a_model-v1.5"),
            ("hf:some/model:iq4_xs", "some/model:IQ4_XS"),
            ("hf:some/model/sub/a b-Q8_0.gguf", "hf:some/model/sub/a b-Q8_0.gguf"),
            ("hf:Qwen/Qwen3-Embedding-8B-GGUF/x.gguf", "hf:Qwen/Qwen3-Embedding-8B-GGUF/x.gguf"),
        ] {
            let name: ModelName = text.parse().unwrap();
            assert_eq!(name.to_string(), shown);
            assert_eq!(shown.parse(), Ok(name), "{shown}");
        }
    }

    #[test]
    fn what_could_leave_its_folder_is_no_name() {
        for text in [
            "",
            "7b",
            "0.6b:",
            "0.6b:q4 k",
            "a/",
            "/a",
            "../a",
            "a/..",
            "a--b/c",
            "a/b--c",
            "~/a",
            "a b/c",
            "a/b:../c",
            "hf:a/b/../c.gguf",
            "hf:a/b//c.gguf",
            "hf:a/b/c:d.gguf",
            "hf:a/b/c\\d.gguf",
            "hf:a/b/c.bin",
            "a/b/c.gguf",
        ] {
            assert!(text.parse::<ModelName>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_can_only_be_a_path_is_no_name() {
        for text in ["model.gguf", "models/q8.gguf", "./models/q8", "a/b/c", "/abs/x", "../x", "C:\\x", "model", "a\\b"]
        {
            assert_eq!(ModelName::guess(text), None, "{text}");
        }
        for text in ["0.6b", "8B:Q8_0", "owner/repo", "hf:owner/repo/x.gguf"] {
            assert!(ModelName::guess(text).unwrap().is_ok(), "{text}");
        }
        assert!(ModelName::guess("hf:7b").unwrap().is_err());
    }
}
