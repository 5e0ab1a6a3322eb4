//! The thread that computes: it takes passes from the queue, runs them, and sends each text's state to who waits for it.

#[cfg(test)]
mod tests;

use crate::embedder::Embedder;
use crate::error::Error;
use crate::serve::metrics::Metrics;
use crate::serve::queue::{Client, Finished, Incoming, Pass, Queue};
use crate::serve::results::{Key, Results, State};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Why a text has no state.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// The library's reason.
    Library(Arc<Error>),
    /// A value of the state is not finite.
    NonFinite,
    /// The pass panicked.
    Panic,
}

/// A text that is done.
pub(crate) struct Done {
    /// The number that who waits has for it.
    pub(crate) index: usize,
    pub(crate) state: Result<State, Failed>,
    /// When its pass began.
    pub(crate) started: Instant,
    /// When its pass was done.
    pub(crate) ended: Instant,
}

/// Who waits for a text.
pub(crate) struct Waiter {
    pub(crate) index: usize,
    pub(crate) to: UnboundedSender<Done>,
}

impl Waiter {
    fn waits(&self) -> bool {
        !self.to.is_closed()
    }
}

/// A text for the engine.
pub(crate) type Job = Incoming<Waiter>;

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Texts that wait.
    pub(crate) texts: usize,
    /// Their tokens.
    pub(crate) tokens: usize,
    /// How many tokens a second were computed of late; `None` before the first pass.
    pub(crate) rate: Option<f64>,
}

impl Load {
    /// How long all that waits, and so many tokens more, will take.
    pub(crate) fn time_for(&self, tokens: usize) -> Option<Duration> {
        self.rate.and_then(|rate| Duration::try_from_secs_f64((self.tokens + tokens) as f64 / rate).ok())
    }
}

struct Inner {
    queue: Queue<Waiter>,
    rate: Option<f64>,
    /// When the last text came in.
    arrived: Instant,
    /// The last pass that had the device for itself: its end, its length, its texts and those that waited at its end.
    last: Option<(Instant, Duration, usize)>,
    stopping: bool,
}

/// Is told of each state that is computed.
type Keep = dyn Fn(Key, &State) + Send + Sync;

struct Shared {
    inner: Mutex<Inner>,
    /// A text has come in, or the end.
    changed: Condvar,
    results: Arc<Results>,
    keep: Box<Keep>,
    metrics: Arc<Metrics>,
}

/// The thread, and the way to it.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the thread. What it computes goes to `results`, and to `keep`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(
        results: Arc<Results>,
        keep: impl Fn(Key, &State) + Send + Sync + 'static,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let now = Instant::now();
        let inner = Inner { queue: Queue::default(), rate: None, arrived: now, last: None, stopping: false };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            results,
            keep: Box::new(keep),
            metrics,
        });
        let worker = shared.clone();
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || worker.work())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Puts texts into the queue, if it has room for them: no more than `limit` wait.
    pub(crate) fn submit(
        &self,
        model: &Arc<Embedder>,
        client: Client,
        priority: i64,
        jobs: Vec<Job>,
        limit: usize,
    ) -> Result<(), Load> {
        let mut inner = self.shared.lock();
        if inner.queue.len() + jobs.len() > limit {
            // Some may have gone meanwhile.
            inner.queue.forget(Waiter::waits);
            if inner.queue.len() + jobs.len() > limit {
                return Err(inner.load());
            }
        }
        jobs.into_iter().for_each(|job| inner.queue.push(model, client, priority, job));
        inner.arrived = Instant::now();
        drop(inner);
        self.shared.changed.notify_one();
        Ok(())
    }

    pub(crate) fn load(&self) -> Load {
        self.shared.lock().load()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has no panic of its own to tell of.
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn load(&self) -> Load {
        Load { texts: self.queue.len(), tokens: self.queue.tokens(), rate: self.rate }
    }

    /// How much longer the next pass should wait for texts: those who got an answer from the last one are about to ask again, and
    /// together with those who wait already they cost less. Without the last of them the pass would be that one's wait, and the
    /// next one another's. Whoever asks alone is never waited with.
    fn patience(&mut self) -> Option<Duration> {
        /// Of the last pass's time, lost at most.
        const SHARE: u32 = 16;
        /// Between two texts of those who ask again.
        const GAP: Duration = Duration::from_millis(4);
        let (end, took, texts) = self.last?;
        if texts < 2 || self.queue.len() >= texts || self.queue.fills_a_pass() {
            return None;
        }
        let until = (end + took / SHARE).min(self.arrived.max(end) + GAP);
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic within leaves a queue in which at worst a text is missing; passes run without the lock.
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn work(&self) {
        while let Some(pass) = self.next() {
            let (start, texts) = (Instant::now(), pass.texts.len());
            self.run(pass, true);
            let mut inner = self.lock();
            let texts = texts + inner.queue.len();
            inner.last = Some((Instant::now(), start.elapsed(), texts));
        }
    }

    /// Waits for texts; `None` at the end.
    fn next(&self) -> Option<Pass> {
        let mut inner = self.lock();
        loop {
            if inner.stopping {
                return None;
            }
            inner = match (inner.queue.len(), inner.patience()) {
                (0, _) => self.changed.wait(inner).unwrap_or_else(|e| e.into_inner()),
                (_, Some(left)) => self.changed.wait_timeout(inner, left).unwrap_or_else(|e| e.into_inner()).0,
                (_, None) => {
                    inner.queue.forget(Waiter::waits);
                    match inner.queue.next() {
                        Some(pass) => return Some(pass),
                        None => inner,
                    }
                }
            };
        }
    }

    /// Runs a pass, and between its layers others if it is not one of these itself.
    fn run(&self, pass: Pass, outermost: bool) {
        let start = Instant::now();
        let others = std::cell::Cell::new(Duration::ZERO);
        let wanted = || {
            let mut inner = self.lock();
            if inner.stopping || !inner.queue.is_wanted(&pass, Waiter::waits) {
                return false;
            }
            if outermost && inner.queue.len() > 0 {
                inner.queue.forget(Waiter::waits);
                if let Some(small) = inner.queue.between(&pass) {
                    drop(inner);
                    let start = Instant::now();
                    self.run(small, false);
                    others.set(others.get() + start.elapsed());
                }
            }
            true
        };
        // A panic leaves nothing behind: buffers of a pass are its own.
        let states = catch_unwind(AssertUnwindSafe(|| pass.model.states(&pass.texts, &wanted)));
        let ended = Instant::now();
        let took = (ended - start).saturating_sub(others.get());
        self.metrics.pass(pass.texts.len(), pass.tokens());
        let mut inner = self.lock();
        if matches!(states, Ok(Ok(_))) {
            // Recent passes count more.
            let rate = pass.tokens() as f64 / took.as_secs_f64().max(1e-6);
            inner.rate = Some(inner.rate.map_or(rate, |before| before + (rate - before) / 8.0));
        }
        let finished = inner.queue.finish(&pass);
        let states = match states {
            Ok(Ok(states)) => Ok(states),
            Ok(Err(Error::Cancelled)) => {
                self.metrics.cancelled();
                self.again(&mut inner, pass, finished);
                return;
            }
            Ok(Err(error)) => Err(Failed::Library(Arc::new(error))),
            Err(_) => Err(Failed::Panic),
        };
        drop(inner);
        let hidden = pass.model.dimensions();
        let state_of = |i: usize| -> Result<State, Failed> {
            let state = &states.as_ref().map_err(Clone::clone)?[i * hidden..][..hidden];
            if state.iter().all(|x| x.is_finite()) { Ok(state.into()) } else { Err(Failed::NonFinite) }
        };
        for (i, Finished { key, waiters }) in finished.into_iter().enumerate() {
            let state = state_of(i);
            if let Ok(state) = &state {
                self.results.put(key, state);
                (self.keep)(key, state);
            }
            for Waiter { index, to } in waiters {
                // Who is gone does not mind.
                let _ = to.send(Done { index, state: state.clone(), started: start, ended });
            }
        }
    }

    /// Puts the texts of a pass that was called off into the queue again for those who came when it had been given up already.
    fn again(&self, inner: &mut Inner, pass: Pass, finished: Vec<Finished<Waiter>>) {
        if inner.stopping {
            return;
        }
        for ((_, tokens), Finished { key, waiters }) in pass.texts.into_iter().zip(finished) {
            for waiter in waiters.into_iter().filter(Waiter::waits) {
                let job = Job { key, tokens: tokens.clone(), waiter };
                inner.queue.push(&pass.model, Client::MAX, pass.turn.priority, job);
            }
        }
    }
}
