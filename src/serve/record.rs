//! What is told of a request when it is done: to its log line, its headers, the metrics and a trace.

use axum::http::Method;
use std::time::Duration;

/// What was done for a request: for its log line, its headers and the metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) model: String,
    pub(crate) items: usize,
    pub(crate) tokens: usize,
    pub(crate) characters: usize,
    pub(crate) dimensions: usize,
    pub(crate) truncated: usize,
    pub(crate) hits: usize,
    pub(crate) tokenized: Duration,
    pub(crate) queued: Duration,
    pub(crate) computed: Duration,
    /// Whose numbers token arrays were taken for.
    pub(crate) token_ids: Option<&'static str>,
    /// The names of the types that its vectors are in.
    #[cfg(feature = "otel")]
    pub(crate) outputs: Vec<&'static str>,
    /// With `log_texts` only.
    pub(crate) texts: Vec<String>,
}

/// What is told of a request that was answered.
pub(crate) struct Line<'a> {
    pub(crate) id: &'a str,
    pub(crate) peer: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) took: Duration,
    pub(crate) record: Option<&'a Record>,
    pub(crate) message: Option<&'a str>,
    pub(crate) parent: Option<&'a str>,
}

impl Line<'_> {
    /// Whoever asks for the health every second is no news.
    pub(crate) fn is_routine(&self) -> bool {
        matches!(self.path, "/health" | "/ready" | "/ping" | "/metrics") && self.status < 400
    }
}
