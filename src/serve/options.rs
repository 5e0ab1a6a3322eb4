//! Choices of who runs a server.

use crate::options::{Empty, LoadOptions, Prompt, setters};
use crate::serve::words::{TokenIds, TooLong, task_names};
use crate::tasks::Task;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What holds for the requests to a model's name, unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defaults {
    /// What stands before each text.
    pub prompt: Option<Prompt>,
    /// Dimensions of the vectors.
    pub dimensions: Option<usize>,
    /// What becomes of texts that are too long.
    pub too_long: Option<TooLong>,
    /// What becomes of empty ones.
    pub empty: Option<Empty>,
}

/// A model to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelSpec {
    /// The name that requests have for it; the file's, without its ending, by default.
    pub name: Option<String>,
    /// The model file; the built-in model where there is none.
    pub path: Option<PathBuf>,
    /// What holds for requests to this name.
    pub defaults: Defaults,
}

/// What stands after the file's name, each as `key=value`.
const KEYS: [&str; 6] = ["input_type", "task", "instruction", "dimensions", "truncate", "empty"];

impl ModelSpec {
    /// Reads `[NAME=]FILE[,key=value…]`; keys are `input_type` (query, document), `task`, `instruction` (to the end),
    /// `dimensions`, `truncate` (error, left, right, mean) and `empty` (error, end-token).
    ///
    /// # Errors
    /// A sentence for the user where it is none of that form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key_at = |text: &str| {
            let at = |key: &&str| text.find(&format!(",{key}="));
            KEYS.iter().filter_map(at).min()
        };
        let file_end = key_at(text).unwrap_or(text.len());
        let (file, mut rest) = text.split_at(file_end);
        let (name, file) = match file.split_once('=') {
            // A file may have such a name.
            Some((name, after)) if !name.contains(['/', '\\']) && !Path::new(file).exists() => (Some(name), after),
            _ => (None, file),
        };
        if file.is_empty() || name == Some("") {
            return Err(format!("{text:?} names no model: it has the form [NAME=]FILE[,key=value]"));
        }
        let mut spec = Self {
            name: name.map(str::to_owned),
            path: Some(file.into()).filter(|p| p != Path::new("builtin")),
            ..Self::default()
        };
        if spec.path.is_none() && spec.name.is_none() {
            spec.name = Some("builtin".into());
        }
        while let Some(pair) = rest.strip_prefix(',') {
            let end = if pair.starts_with("instruction=") { pair.len() } else { pair.find(',').unwrap_or(pair.len()) };
            let (pair, after) = pair.split_at(end);
            rest = after;
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not of the form key=value"))?;
            spec.defaults.set(key, value)?;
        }
        Ok(spec)
    }
}

impl Defaults {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let wrong = |allowed: &str| format!("{key}={value}: the value is one of {allowed}");
        match key {
            "input_type" | "task" => {
                let task = Task::named(value).ok_or_else(|| wrong(&task_names()))?;
                self.prompt = Some(task.into());
            }
            "instruction" => self.prompt = Some(Prompt::Instruct(value.to_owned())),
            "dimensions" => self.dimensions = Some(value.parse().map_err(|_| wrong("32 … the model's own number"))?),
            "truncate" => self.too_long = Some(TooLong::named(value).ok_or_else(|| wrong(TooLong::NAMES))?),
            "empty" => {
                self.empty = Some(match value {
                    "error" => Empty::Refuse,
                    "end-token" => Empty::EndToken,
                    _ => return Err(wrong("error, end-token")),
                });
            }
            _ => return Err(format!("{key:?} is none of {}", KEYS.join(", "))),
        }
        Ok(())
    }

    /// What holds for a name that is another's, with what it says itself.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self {
            prompt: self.prompt.clone().or_else(|| other.prompt.clone()),
            dimensions: self.dimensions.or(other.dimensions),
            too_long: self.too_long.or(other.too_long),
            empty: self.empty.or(other.empty),
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A host and a port; port 0 is any free one.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
    /// The sockets that systemd, or whoever started the program, has opened.
    Inherited,
}

/// A certificate and its key, files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those up to its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How to run a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Where to listen.
    pub address: Address,
    /// Speak TLS.
    pub tls: Option<Tls>,
    /// The models; the first one answers where a request names none. The built-in one where none is given.
    pub models: Vec<ModelSpec>,
    /// How to open them.
    pub load: LoadOptions,
    /// The most texts of a request.
    pub max_items: usize,
    /// The most bytes of a request, inflated.
    pub max_body: u64,
    /// The most bytes of all requests in flight.
    pub max_bodies: u64,
    /// The most texts that wait.
    pub max_queue: usize,
    /// The most memory for results, in bytes; 0 keeps none.
    pub cache_size: u64,
    /// A folder in which results are kept from run to run.
    pub cache_dir: Option<PathBuf>,
    /// Who may ask; anybody where there is none.
    pub api_keys: Vec<String>,
    /// Names of hosts under which it may be asked, besides its own on the loopback interface.
    pub allow_hosts: Vec<String>,
    /// Origins of pages that may ask; `*` is all.
    pub allow_origins: Vec<String>,
    /// How long a request may take.
    pub timeout: Option<Duration>,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long the head of a request may take, from its first byte.
    pub head_timeout: Duration,
    /// How long a body may be waited for while nothing of it comes.
    pub body_timeout: Duration,
    /// How long what is in flight may take when the server is stopped.
    pub drain: Duration,
    /// Whose numbers token arrays are.
    pub token_ids: TokenIds,
    /// Texts that are too long are an error in every dialect.
    pub strict_length: bool,
    /// What becomes of empty texts; by default it is the dialect's.
    pub empty: Option<Empty>,
    /// Log the texts, which may be nobody's business.
    pub log_texts: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            address: Address::Tcp("127.0.0.1".into(), 30000),
            tls: None,
            models: Vec::new(),
            load: LoadOptions::default(),
            max_items: 2048,
            max_body: 64 << 20,
            max_bodies: 256 << 20,
            max_queue: 65_536,
            cache_size: 256 << 20,
            cache_dir: None,
            api_keys: Vec::new(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            timeout: None,
            idle_timeout: Duration::from_secs(120),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            token_ids: TokenIds::default(),
            strict_length: false,
            empty: None,
            log_texts: false,
        }
    }
}

impl ServeOptions {
    setters! {
        address: Address,
        tls: impl Into<Option<Tls>>,
        models: Vec<ModelSpec>,
        load: LoadOptions,
        max_items: usize,
        max_body: u64,
        max_bodies: u64,
        max_queue: usize,
        cache_size: u64,
        cache_dir: impl Into<Option<PathBuf>>,
        api_keys: Vec<String>,
        allow_hosts: Vec<String>,
        allow_origins: Vec<String>,
        timeout: impl Into<Option<Duration>>,
        idle_timeout: Duration,
        head_timeout: Duration,
        body_timeout: Duration,
        drain: Duration,
        token_ids: TokenIds,
        strict_length: bool,
        empty: impl Into<Option<Empty>>,
        log_texts: bool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_by_name_file_and_defaults() {
        let spec = |text: &str| ModelSpec::parse(text).unwrap();
        assert_eq!(spec("a/b.gguf"), ModelSpec { path: Some("a/b.gguf".into()), ..ModelSpec::default() });
        let named = spec("small=a,b=c.gguf,dimensions=256,truncate=mean,instruction=Find, in = all, the right one");
        assert_eq!((named.name.as_deref(), named.path.as_deref()), (Some("small"), Some(Path::new("a,b=c.gguf"))));
        assert_eq!(named.defaults.dimensions, Some(256));
        assert_eq!(named.defaults.too_long, Some(TooLong::Mean));
        assert_eq!(named.defaults.prompt, Some(Prompt::Instruct("Find, in = all, the right one".into())));
        assert_eq!(spec("/m=1/x.gguf").path.as_deref(), Some(Path::new("/m=1/x.gguf")), "a path, and no name");
        assert_eq!(
            spec("q=m.gguf,input_type=query").defaults.prompt.map(|prompt| prompt.prefix()),
            Some(Prompt::Query.prefix())
        );
        assert_eq!(spec("builtin,dimensions=64").path, None);
        for wrong in ["", "=x", "x=", "m.gguf,dimensions=many", "m.gguf,input_type=song", "m.gguf,empty=1"] {
            assert!(ModelSpec::parse(wrong).is_err(), "{wrong}");
        }
    }
}
