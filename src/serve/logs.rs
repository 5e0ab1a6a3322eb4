//! Where log lines go: standard error, for people or as JSON.

use tracing_subscriber::filter::EnvFilter;

/// Sends log lines to standard error from here on. What is said is chosen by the environment variable `RUST_LOG`.
pub fn log_to_stderr(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Where somebody else listens already, theirs are the lines.
    let _ = if json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
}
