//! Where log lines go: standard error, for people or as JSON.

use std::io::{IsTerminal, stderr};
use tracing_subscriber::filter::EnvFilter;

/// Sends log lines to standard error from here on. What is said is chosen by the environment variable `RUST_LOG`.
pub fn log_to_stderr(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
    // Colours are for terminals, not for files of logs.
    let lines =
        lines.with_ansi(stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    // Where somebody else listens already, theirs are the lines.
    let _ = if json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
}
