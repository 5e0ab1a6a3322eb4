//! What all requests share, and what is known of each one.

use crate::serve::engine::{Engine, Load};
use crate::serve::metrics::{Metrics, Now};
use crate::serve::models::Models;
use crate::serve::options::ServeOptions;
use crate::serve::queue::Client;
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::results::Results;
use crate::serve::store::Store;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What all requests share.
pub(crate) struct App {
    pub(crate) options: ServeOptions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) results: Arc<Results>,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) engine: Engine,
    /// Bytes that bodies of requests may still take, in units of [`Self::BODY_UNIT`].
    pub(crate) bodies: Arc<Semaphore>,
    #[cfg(feature = "otel")]
    pub(crate) traces: Option<crate::serve::otel::Traces>,
    models: OnceLock<Models>,
    draining: AtomicBool,
}

impl App {
    pub(crate) const BODY_UNIT: u64 = 1024;

    pub(crate) fn new(options: ServeOptions) -> std::io::Result<Self> {
        let (metrics, results) = (Arc::new(Metrics::new()), Arc::new(Results::new(options.cache_size)));
        let store = options.cache_dir.as_deref().map(Store::open).transpose()?.map(Arc::new);
        let keep = store.clone();
        let keep = move |key, state: &_| {
            if let Some(store) = &keep {
                store.put(key, state);
            }
        };
        let engine = Engine::start(results.clone(), keep, metrics.clone())?;
        let units = (options.max_bodies.max(options.max_body) / Self::BODY_UNIT) as usize;
        let bodies = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        let (models, draining) = (OnceLock::new(), AtomicBool::new(false));
        Ok(Self {
            options,
            metrics,
            results,
            store,
            engine,
            bodies,
            #[cfg(feature = "otel")]
            traces: None,
            models,
            draining,
        })
    }

    /// The same, with a way to a collector.
    #[cfg(feature = "otel")]
    pub(crate) fn traced(self, traces: Option<crate::serve::otel::Traces>) -> Self {
        Self { traces, ..self }
    }

    /// From here on requests are answered.
    pub(crate) fn loaded(&self, models: Models) {
        let _ = self.models.set(models);
    }

    /// From here on no request is taken.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether requests are answered, and will be.
    ///
    /// # Errors
    /// Not yet, or no longer: what is in flight is finished, and what comes by connections that are open.
    pub(crate) fn health(&self) -> Result<(), Refusal> {
        if self.draining.load(Ordering::SeqCst) {
            let message = "the server is being stopped: what is in flight is finished";
            return Err(Refusal::new(Kind::Unavailable, message).retry_after(Duration::from_secs(1)));
        }
        self.ready().map(drop)
    }

    /// The models, if requests are answered.
    ///
    /// # Errors
    /// Not yet.
    pub(crate) fn ready(&self) -> Result<&Models, Refusal> {
        let not = || Refusal::new(Kind::Unavailable, "the model is being loaded").retry_after(Duration::from_secs(1));
        self.models.get().ok_or_else(not)
    }

    /// The models, whether or not requests are taken.
    pub(crate) fn models(&self) -> Option<&Models> {
        self.models.get()
    }

    pub(crate) fn metrics_text(&self) -> String {
        let Load { texts, tokens, rate } = self.engine.load();
        let cache_bytes = self.results.bytes();
        self.metrics.text(Now {
            queue_texts: texts,
            queue_tokens: tokens,
            cache_bytes,
            tokens_per_second: rate.unwrap_or(0.0),
        })
    }
}

/// What is known of a request before its body is read.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) id: String,
    pub(crate) client: Client,
    pub(crate) start: Instant,
    /// When its answer is of no use any more.
    pub(crate) deadline: Option<Instant>,
    /// `Cache-Control: no-store`.
    pub(crate) no_store: bool,
}
