//! What is counted, for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
    status: u16,
}

/// All counters; each may be counted up from any thread.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Route, Counter>,
    request_duration: Histogram,
    queue_duration: Histogram,
    inference_duration: Histogram,
    request_tokens: Histogram,
    pass_tokens: Histogram,
    pass_texts: Histogram,
    passes_cancelled: Counter,
    tokens: Counter,
    texts: Counter,
    truncated_texts: Counter,
    cache_hits: Counter,
    cache_misses: Counter,
    queue_texts: Gauge,
    queue_tokens: Gauge,
    cache_bytes: Gauge,
    connections: Gauge,
    tokens_per_second: Gauge<f64, AtomicU64>,
}

/// What is known only when somebody looks.
pub(crate) struct Now {
    pub(crate) queue_texts: usize,
    pub(crate) queue_tokens: usize,
    pub(crate) cache_bytes: u64,
    pub(crate) tokens_per_second: f64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        let counts = || Histogram::new(exponential_buckets(1.0, 2.0, 16));
        let mut registry = Registry::with_prefix("qembed");
        let r = &mut registry;
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_duration: seconds(),
            queue_duration: seconds(),
            inference_duration: seconds(),
            request_tokens: counts(),
            pass_tokens: counts(),
            pass_texts: counts(),
            passes_cancelled: Counter::default(),
            tokens: Counter::default(),
            texts: Counter::default(),
            truncated_texts: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            queue_texts: Gauge::default(),
            queue_tokens: Gauge::default(),
            cache_bytes: Gauge::default(),
            connections: Gauge::default(),
            tokens_per_second: Gauge::default(),
        };
        r.register("requests", "Requests that were answered", metrics.requests.clone());
        let mut seconds =
            |name, help, histogram: &Histogram| r.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        seconds("request_duration", "From the request to its answer", &metrics.request_duration);
        seconds("queue_duration", "From a request to the pass of its last text", &metrics.queue_duration);
        seconds("inference_duration", "The passes of a request's texts", &metrics.inference_duration);
        r.register("request_tokens", "Tokens of a request", metrics.request_tokens.clone());
        r.register("pass_tokens", "Tokens of a forward pass, before sharing", metrics.pass_tokens.clone());
        r.register("pass_texts", "Texts of a forward pass", metrics.pass_texts.clone());
        let help = "Forward passes that were given up before their end, as nobody waited any more";
        r.register("passes_cancelled", help, metrics.passes_cancelled.clone());
        r.register("tokens", "Tokens of all texts, instructions and end tokens included", metrics.tokens.clone());
        r.register("texts", "Texts that got their vector", metrics.texts.clone());
        r.register("truncated_texts", "Texts that were cut, as asked for", metrics.truncated_texts.clone());
        r.register("cache_hits", "Texts whose result was kept, or computed for another", metrics.cache_hits.clone());
        r.register("cache_misses", "Texts that were computed", metrics.cache_misses.clone());
        r.register("queue_texts", "Texts that wait", metrics.queue_texts.clone());
        r.register("queue_tokens", "Their tokens", metrics.queue_tokens.clone());
        r.register("cache_bytes", "Memory of results that are kept", metrics.cache_bytes.clone());
        r.register("connections", "Connections that are open", metrics.connections.clone());
        r.register("tokens_per_second", "What recent passes computed", metrics.tokens_per_second.clone());
        Self { registry, ..metrics }
    }

    /// A pass was run.
    pub(crate) fn pass(&self, texts: usize, tokens: usize) {
        self.pass_texts.observe(texts as f64);
        self.pass_tokens.observe(tokens as f64);
    }

    /// A request was answered. `route` is a pattern of the router, so that there are no more than that.
    pub(crate) fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&Route { route: route.to_owned(), status }).inc();
        self.request_duration.observe(took.as_secs_f64());
    }

    /// Texts got their vectors.
    pub(crate) fn embedded(
        &self,
        texts: usize,
        tokens: usize,
        truncated: usize,
        hits: usize,
        queued: Duration,
        computed: Duration,
    ) {
        self.texts.inc_by(texts as u64);
        self.tokens.inc_by(tokens as u64);
        self.truncated_texts.inc_by(truncated as u64);
        self.cache_hits.inc_by(hits as u64);
        self.cache_misses.inc_by((texts.saturating_sub(hits)) as u64);
        self.request_tokens.observe(tokens as f64);
        self.queue_duration.observe(queued.as_secs_f64());
        self.inference_duration.observe(computed.as_secs_f64());
    }

    /// A connection was opened; the guard is dropped when it closes.
    pub(crate) fn connection(&self) -> impl Drop + Send + use<> {
        struct Open(Gauge);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        self.connections.inc();
        Open(self.connections.clone())
    }

    /// Connections that are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.get().max(0) as usize
    }

    /// A pass was given up before its end: nobody waited for its texts any more.
    pub(crate) fn cancelled(&self) {
        self.passes_cancelled.inc();
    }

    /// Everything in OpenMetrics' text format, which Prometheus reads.
    pub(crate) fn text(&self, now: Now) -> String {
        self.queue_texts.set(now.queue_texts as i64);
        self.queue_tokens.set(now.queue_tokens as i64);
        self.cache_bytes.set(now.cache_bytes as i64);
        self.tokens_per_second.set(now.tokens_per_second);
        let mut text = String::new();
        // A String takes everything.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
