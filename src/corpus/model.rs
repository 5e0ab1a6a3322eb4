//! The model that embeds a corpus, and what it is known by.

use crate::digest::{level, sha256};
use crate::embedder::Embedder;
use crate::error::Error;
use crate::gguf::Gguf;
use crate::options::LoadOptions;
use std::path::Path;

/// A model that is open, and what tells it from others.
pub struct Model {
    embedder: Embedder,
    sha256: String,
    level: String,
    name: String,
}

impl Model {
    /// Opens a GGUF file and reads all of it once, for its digest.
    ///
    /// # Errors
    /// As [`Embedder::open_with`].
    pub fn open(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        Self::of(&Gguf::open_with(path, options.access)?, options)
    }

    /// The model that the program carries.
    ///
    /// # Errors
    /// As [`Embedder::builtin_with`].
    #[cfg(feature = "builtin")]
    pub fn builtin(options: &LoadOptions) -> Result<Self, Error> {
        Self::of(&qembed_models::builtin()?, options)
    }

    fn of(gguf: &Gguf, options: &LoadOptions) -> Result<Self, Error> {
        let name = gguf.str("general.name").ok().flatten().unwrap_or_default().to_owned();
        Ok(Self { embedder: Embedder::from_gguf(gguf, options)?, sha256: sha256(gguf), level: level(gguf), name })
    }

    /// What computes.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    /// The SHA-256 of its file, all parts, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What its file calls it; empty if that says nothing.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its level, such as `Q4_K_M`.
    pub fn level(&self) -> &str {
        &self.level
    }
}
