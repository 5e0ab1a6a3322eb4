//! The thread that computes: it takes passes from the queue, runs them, and sends each text's state to who waits for it.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Access;
    use crate::options::{EmbedOptions, LoadOptions};
    use crate::serve::results::Identity;
    use qembed_models::synth::Spec;
    use qembed_models::{ModelError, PassMemory, Text};
    use std::sync::Barrier;
    use std::sync::mpsc::channel;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    /// The token of a byte in the model's vocabulary.
    fn token(c: char) -> u32 {
        static TOKENS: std::sync::OnceLock<Vec<u32>> = std::sync::OnceLock::new();
        let tokens = TOKENS.get_or_init(|| {
            let (embedder, ..) = embedder();
            (0..128u8).map(|byte| tokens_of(&embedder, &char::from(byte).to_string()).ids()[0]).collect()
        });
        tokens[c as usize]
    }

    fn tokens_of(embedder: &Embedder, text: &str) -> crate::Tokens {
        embedder.tokenize(&[text], &EmbedOptions::default()).unwrap().remove(0)
    }

    type Watched = (std::sync::mpsc::Receiver<usize>, &'static Barrier, std::sync::mpsc::Receiver<Vec<u32>>);

    /// What a model says in the place of a layer when it is called off.
    const CALLED_OFF: usize = 99;

    /// A model that does as the first byte of a text says: `!` panics, `n` is not finite, `l` is slow: it has two layers, before
    /// each of which it says so and waits until it may go on. `u` is as slow, and says and waits too when it is called off.
    fn embedder() -> (Arc<Embedder>, Watched) {
        let (layers, at_layer) = channel();
        let (passes, passed) = channel();
        let go_on: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
        let memory = |_| PassMemory { per_token: 1, per_text: 1, limit: None };
        let embedder = crate::tests::embedder(4000, memory, move |texts, hidden, wanted| {
            let first = |text: &Text| text.tokens[0];
            passes.send(texts.iter().map(first).collect()).unwrap();
            let is = |c: char| texts.iter().any(|text| first(text) == token(c));
            if is('l') || is('u') {
                for layer in 0..2 {
                    layers.send(layer).unwrap();
                    go_on.wait();
                    if !wanted() {
                        if is('u') {
                            layers.send(CALLED_OFF).unwrap();
                            go_on.wait();
                        }
                        return Err(ModelError::Unwanted);
                    }
                }
            }
            assert!(texts.iter().all(|text| first(text) != token('!')), "as it was told");
            let value = |text: &Text| if first(text) == token('n') { f32::NAN } else { text.tokens.len() as f32 };
            Ok(texts.iter().flat_map(|text| vec![value(text); hidden]).collect())
        });
        (Arc::new(embedder.unwrap()), (at_layer, go_on, passed))
    }

    fn engine() -> (Engine, Arc<Results>) {
        let results = Arc::new(Results::new(1 << 20));
        (Engine::start(results.clone(), |_, _| (), Arc::new(Metrics::new())).unwrap(), results)
    }

    fn submit(engine: &Engine, model: &Arc<Embedder>, client: Client, text: &str) -> UnboundedReceiver<Done> {
        let (to, from) = unbounded_channel();
        let tokens = tokens_of(model, text);
        let key = Key::of(Identity::Number(0), model, &tokens);
        let job = Job { key, tokens, waiter: Waiter { index: 7, to } };
        engine.submit(model, client, 0, vec![job], 100).unwrap();
        from
    }

    fn state(mut from: UnboundedReceiver<Done>) -> Result<State, Failed> {
        let done = from.blocking_recv().expect("an end");
        assert_eq!(done.index, 7);
        done.state
    }

    #[test]
    fn a_panic_or_a_broken_value_is_that_of_its_texts_alone() {
        let (model, _watched) = embedder();
        let (engine, _) = engine();
        assert!(matches!(state(submit(&engine, &model, 1, "! panics")), Err(Failed::Panic)));
        let (broken, good) = (submit(&engine, &model, 1, "not finite"), submit(&engine, &model, 2, "good"));
        assert!(matches!(state(broken), Err(Failed::NonFinite)));
        assert_eq!(state(good).unwrap()[0], 5.0, "four bytes and the end");
    }

    #[test]
    fn those_who_may_ask_again_are_waited_for_unless_the_pass_is_full() {
        let (model, _watched) = embedder();
        let now = Instant::now();
        // As long after the last text and after the last pass as may be.
        let (arrived, long) = (now + Duration::from_secs(1000), Duration::from_secs(16_000));
        let mut inner = Inner { queue: Queue::default(), rate: None, arrived, last: None, stopping: false };
        let push = |inner: &mut Inner, text: &str| {
            let (to, _) = unbounded_channel();
            let tokens = tokens_of(&model, text);
            let key = Key::of(Identity::Number(0), &model, &tokens);
            inner.queue.push(&model, 1, 0, Job { key, tokens, waiter: Waiter { index: 0, to } });
        };
        push(&mut inner, "a");
        for (texts, waits) in [(0, false), (1, false), (2, true)] {
            inner.last = Some((now, long, texts));
            assert_eq!(inner.patience().is_some(), waits, "after {texts}");
        }
        push(&mut inner, "b");
        assert!(inner.patience().is_none(), "both have come");
        inner.last = Some((now, long, 100));
        assert!(inner.patience().is_some());
        push(&mut inner, &"c".repeat(2 * model.pass_tokens()));
        assert!(inner.patience().is_none(), "more than a pass");
    }

    #[test]
    fn short_texts_are_done_between_the_layers_of_a_long_one() {
        let (model, (at_layer, go_on, passed)) = embedder();
        let (engine, _) = engine();
        let long = submit(&engine, &model, 1, &format!("l{}", "x".repeat(3000)));
        assert_eq!(at_layer.recv().unwrap(), 0);
        let short = submit(&engine, &model, 2, "short");
        go_on.wait();
        assert_eq!(state(short).unwrap()[0], 6.0, "while the long one is at its second layer");
        assert_eq!(at_layer.recv().unwrap(), 1);
        go_on.wait();
        assert_eq!(state(long).unwrap()[0], 3002.0);
        assert_eq!(passed.try_iter().collect::<Vec<_>>(), [[token('l')], [token('s')]]);
    }

    #[test]
    fn who_is_gone_ends_a_pass_and_who_comes_then_begins_another() {
        let (model, (at_layer, go_on, passed)) = embedder();
        let (engine, results) = engine();
        let gone = submit(&engine, &model, 1, "long");
        assert_eq!(at_layer.recv().unwrap(), 0);
        drop(gone);
        go_on.wait();
        // It is given up before its second layer; the next one is of another pass.
        while !engine.shared.lock().queue.is_idle() {
            std::thread::yield_now();
        }
        let again = submit(&engine, &model, 2, "long");
        for layer in 0..2 {
            assert_eq!(at_layer.recv().unwrap(), layer);
            go_on.wait();
        }
        let state = state(again).unwrap();
        assert_eq!(passed.try_iter().count(), 2);
        let key = Key::of(Identity::Number(0), &model, &tokens_of(&model, "long"));
        assert_eq!(results.get(&key), Some(state), "what is computed is kept");
        assert_eq!(engine.load().texts, 0);
    }

    #[test]
    fn who_comes_while_a_pass_is_being_called_off_is_served_by_the_next() {
        let (model, (at_layer, go_on, passed)) = embedder();
        let (engine, _) = engine();
        let gone = submit(&engine, &model, 1, "unwanted");
        assert_eq!(at_layer.recv().unwrap(), 0);
        drop(gone);
        go_on.wait();
        assert_eq!(at_layer.recv().unwrap(), CALLED_OFF);
        // Nobody wanted it any more; its text is still known as one that is computed.
        let late = [2, 3].map(|client| submit(&engine, &model, client, "unwanted"));
        assert_eq!(engine.load().texts, 0);
        go_on.wait();
        // If no other pass comes, none is waited for.
        std::thread::spawn(move || at_layer.iter().for_each(|_| _ = go_on.wait()));
        for late in late {
            assert_eq!(state(late).unwrap()[0], 9.0);
        }
        assert_eq!((passed.try_iter().count(), engine.load().texts), (2, 0));
    }

    #[test]
    fn two_models_at_once_give_the_states_of_each_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = [1, 2].map(|seed| {
            let path = folder.path().join(format!("{seed}.gguf"));
            let dims = "tiny,layers=2,hidden=64,ffn=64,heads=2,kv_heads=1,head_dim=32,vocab=300,context=2000";
            let (dims, level) = (dims.parse().unwrap(), "Q8_0".parse().unwrap());
            qembed_models::synth::write(&Spec { dims, level, seed, vocabulary: None }, &path).unwrap();
            let load = LoadOptions::default().access(Access::Read).threads(2);
            Arc::new(Embedder::open_with(&path, &load).unwrap())
        });
        // A pass of the first model that begins before all and ends last, and two of the other, each of which is short enough
        // to go between layers, but not both: one before the first layer, one before the second.
        let [long, one, two] =
            [("long", 900), ("one", 20), ("two", 20)].map(|(name, more)| name.to_owned() + &"x".repeat(more));
        let texts = [(&first, 1, "a"), (&first, 1, &*long), (&second, 2, &*one), (&second, 2, &*two)];
        let (engine, _) = engine();
        let mut waiting = Vec::new();
        let mut inner = engine.shared.lock();
        for (model, client, text) in texts {
            let (to, from) = unbounded_channel();
            let tokens = tokens_of(model, text);
            let key = Key::of(Identity::Number(client), model, &tokens);
            inner.queue.push(model, client, 0, Job { key, tokens, waiter: Waiter { index: 7, to } });
            waiting.push(from);
        }
        drop(inner);
        engine.shared.changed.notify_one();
        let done: Vec<Done> = waiting.iter_mut().map(|from| from.blocking_recv().expect("an end")).collect();
        for (done, (model, _, text)) in done.iter().zip(texts) {
            let alone = model.states(&[(0, tokens_of(model, text))], &|| true).unwrap();
            let bits = |state: &[f32]| state.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(done.state.as_ref().unwrap()), bits(&alone), "{text}");
        }
        let [a, long, one, two] = &done[..] else { panic!("four") };
        assert_eq!((a.started, a.ended), (long.started, long.ended), "one pass");
        assert!(long.started <= one.started && one.ended <= two.started && two.ended <= long.ended, "within it");
    }

    #[test]
    fn the_end_does_not_wait_for_what_nobody_can_have() {
        let (model, (at_layer, go_on, _passed)) = embedder();
        let (engine, _) = engine();
        let mut first = submit(&engine, &model, 1, "long");
        let mut second = submit(&engine, &model, 1, "not begun");
        assert_eq!(at_layer.recv().unwrap(), 0);
        let shared = engine.shared.clone();
        let end = std::thread::spawn(move || drop(engine));
        while !shared.lock().stopping {
            std::thread::yield_now();
        }
        go_on.wait();
        end.join().unwrap();
        // The second may still wait in the queue, which is dropped with the last that shares it.
        drop(shared);
        assert!(first.blocking_recv().is_none() && second.blocking_recv().is_none());
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let (model, (at_layer, go_on, _passed)) = embedder();
        let (engine, _) = engine();
        let busy = submit(&engine, &model, 1, "long");
        assert_eq!(at_layer.recv().unwrap(), 0);
        let (to, _from) = unbounded_channel();
        let jobs = || -> Vec<Job> {
            let job = |text: &str| {
                let tokens = tokens_of(&model, text);
                let key = Key::of(Identity::Number(0), &model, &tokens);
                Job { key, tokens, waiter: Waiter { index: 0, to: to.clone() } }
            };
            vec![job("a"), job("b")]
        };
        assert!(engine.submit(&model, 1, 0, jobs(), 2).is_ok());
        assert_eq!(engine.submit(&model, 1, 0, jobs(), 3).unwrap_err().texts, 2);
        go_on.wait();
        assert_eq!(at_layer.recv().unwrap(), 1);
        go_on.wait();
        assert_eq!(state(busy).unwrap()[0], 5.0);
    }
}
