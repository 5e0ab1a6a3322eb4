//! Why a server cannot be started.

use crate::error::Error;
use std::io;
use std::path::PathBuf;

/// Why a server could not be started, or not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A model that cannot be opened, or not with its defaults.
    #[error("model {name:?}: {source}")]
    Model {
        /// The name by which it was to be served.
        name: String,
        /// Why.
        source: Box<Error>,
    },
    /// Two models of one name.
    #[error("two models are called {0:?}: give one another name, as NAME=FILE")]
    SameName(String),
    /// An address that cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Whoever started the program has opened no socket for it.
    #[error("no socket was handed over: start it by its systemd socket unit, or name a host and port")]
    NotInherited,
    /// A file that cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key that cannot be used.
    #[error("{}: {problem}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Requests were still in flight when the time for them was over.
    #[error("connections with work left after {seconds} s, which is lost: {connections}; allow more time to finish it")]
    Unfinished {
        /// How long it was waited for them.
        seconds: f64,
        /// Connections that were open at the end.
        connections: usize,
    },
    /// A server that was asked how it is.
    #[error("{address}: {problem}")]
    Unwell {
        /// Where it should listen.
        address: String,
        /// What it said, or why it said nothing.
        problem: String,
    },
    /// A collector that traces cannot be sent to.
    #[cfg(feature = "otel")]
    #[error("traces to {endpoint}: {problem}")]
    Traces {
        /// Its address.
        endpoint: String,
        /// Why.
        problem: String,
    },
    /// The operating system does not give what a server needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}
