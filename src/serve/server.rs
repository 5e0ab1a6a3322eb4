//! A server's life: it listens, loads, answers, loads again, and ends.

use crate::serve::app::App;
use crate::serve::error::ServeError;
use crate::serve::listen::{Listener, Serving, accept, acceptor, bind};
use crate::serve::models::Models;
use crate::serve::options::ServeOptions;
#[cfg(feature = "otel")]
use crate::serve::otel::Traces;
use crate::serve::routes::routes;
use hyper_util::server::graceful::GracefulShutdown;
use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "otel")]
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Threads for work that would hold up other requests.
const BLOCKING: usize = 4;
/// How often it is looked whether a model's file is another one.
const LOOK: Duration = Duration::from_secs(2);

/// Ends a server, or has it open its models again; from any thread.
#[derive(Clone, Debug)]
pub struct Stop {
    stop: watch::Sender<bool>,
    /// How often it was asked for.
    reload: watch::Sender<u64>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { stop: watch::Sender::new(false), reload: watch::Sender::new(0) }
    }
}

impl Stop {
    /// Lets the server finish what is in flight, and end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Has the server open all models again.
    pub fn reload(&self) {
        self.reload.send_modify(|count| *count += 1);
    }
}

/// A server that is ready to start.
pub struct Server {
    options: ServeOptions,
}

impl Server {
    /// A server with these choices.
    pub fn new(options: ServeOptions) -> Self {
        Self { options }
    }

    /// Answers requests until `stop`; `listening` is told each address once requests are answered there.
    ///
    /// # Errors
    /// An address that cannot be listened at, a model that cannot be opened, and requests that were still in flight when the
    /// time for them was over.
    pub fn run(self, stop: &Stop, listening: impl Fn(&str)) -> Result<(), ServeError> {
        // Two are enough to read and write; what takes time has threads of its own, no more than there may be cores: the allocator
        // keeps some memory for each thread that had much.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(BLOCKING)
            .enable_all()
            .build()?;
        let result = runtime.block_on(self.answer(stop, listening));
        // What could not be finished must not hold the end up.
        runtime.shutdown_background();
        result
    }

    async fn answer(self, stop: &Stop, listening: impl Fn(&str)) -> Result<(), ServeError> {
        let options = self.options;
        let tls = options.tls.as_ref().map(acceptor).transpose()?;
        let listeners: Vec<Arc<Listener>> = bind(&options.address).await?.into_iter().map(Arc::new).collect();
        let public = listeners.iter().any(|listener| listener.is_public());
        if public && options.api_keys.is_empty() {
            tracing::warn!("other machines can reach this server, and anybody may ask: set a key");
        }
        let drain = options.drain;
        let app = App::new(options)?;
        #[cfg(feature = "otel")]
        let app = app.traced(Traces::from_env(Handle::current())?);
        let app = Arc::new(app);
        let serving = Serving { app: app.clone(), router: routes(&app), tls };
        let graceful = Arc::new(GracefulShutdown::new());
        let accepting: Vec<_> = (listeners.iter())
            .map(|listener| {
                let graceful = graceful.clone();
                tokio::spawn(accept(listener.clone(), serving.clone(), move || graceful.watcher()))
            })
            .collect();
        let mut stopped = stop.stop.subscribe();
        let load = {
            let app = app.clone();
            tokio::task::spawn_blocking(move || Models::open(&app.options))
        };
        tokio::select! {
            models = load => {
                let models = models.map_err(std::io::Error::other)??;
                for named in models.names() {
                    let loaded = named.loaded();
                    for warning in loaded.embedder.warnings() {
                        tracing::warn!(model = named.name, "{warning}");
                    }
                    let (level, isa, dims) = (&loaded.level, loaded.embedder.isa(), loaded.embedder.dimensions());
                    tracing::info!(model = named.name, level, isa, dims, "loaded");
                }
                app.loaded(models);
            }
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        }
        listeners.iter().for_each(|listener| listening(&listener.name(serving.tls.is_some())));
        let watching = tokio::spawn(watch_files(app.clone(), stop.reload.subscribe()));
        // An error would mean that `stop` is gone, which it is not.
        let _ = stopped.wait_for(|stopped| *stopped).await;

        app.drain();
        watching.abort();
        accepting.iter().for_each(tokio::task::JoinHandle::abort);
        for task in accepting {
            let _ = task.await;
        }
        drop((serving, listeners));
        tracing::info!("stopping: what is in flight is finished");
        let graceful = Arc::into_inner(graceful).ok_or_else(|| std::io::Error::other("connections are still taken"))?;
        let done = tokio::time::timeout(drain, graceful.shutdown()).await;
        #[cfg(feature = "otel")]
        app.traces.iter().for_each(Traces::end);
        match done {
            Ok(()) => Ok(()),
            Err(_) => Err(ServeError::Unfinished {
                seconds: drain.as_secs_f64(),
                connections: app.metrics.open_connections(),
            }),
        }
    }
}

/// Opens models again when their files are others, or when it is asked for.
async fn watch_files(app: Arc<App>, mut asked: watch::Receiver<u64>) {
    loop {
        let all = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            changed = asked.changed() => changed.is_ok(),
        };
        let app = app.clone();
        let reload = move || {
            let told = |name: &str, result: Result<(), &crate::Error>| match result {
                Ok(()) => tracing::info!(model = name, "loaded anew"),
                Err(error) => tracing::error!(
                    model = name,
                    "the file is another, and cannot be opened: the old one is kept: {error}"
                ),
            };
            if let Some(models) = app.models() {
                models.reload(all, &told);
            }
        };
        let _ = tokio::task::spawn_blocking(reload).await;
    }
}
