//! A small thread pool for loops whose iterations are handed out one at a time.
//!
//! A forward pass makes a few hundred short parallel loops. Each loop here costs one atomic store to start and one
//! counter to finish; workers spin briefly before they sleep, so that back-to-back loops find them awake. Tasks are
//! claimed one by one, so a slow core simply takes fewer of them. Which thread ran a task never shows in a result.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// How many times a waiting thread looks for work before it yields its core, and before it sleeps.
const SPINS: usize = 2_000;
const YIELDS: usize = 50;

/// `f(task, worker)`, borrowed from the frame of [`Pool::run`] with its lifetime erased.
#[derive(Clone, Copy)]
struct Job {
    f: *const (dyn Fn(usize, usize) + Sync),
    tasks: usize,
}

// SAFETY: the closure behind `f` is Sync, and `Pool::run` keeps it alive until every worker has left the job.
unsafe impl Send for Job {}

#[derive(Default)]
struct Shared {
    /// The current job and its number; numbers grow by one, so a worker knows whether it has seen this one.
    job: Mutex<(usize, Option<Job>)>,
    wake: Condvar,
    /// Mirrors the job number, for spinning without the lock.
    epoch: AtomicUsize,
    next: AtomicUsize,
    /// Workers that have not yet left the current job.
    busy: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    /// Claims tasks until none is left. The first panic is kept for the caller, and ends the job early.
    fn work(&self, job: Job, worker: usize) {
        // SAFETY: `run` waits until `busy` is zero, so the closure outlives this call.
        let f = unsafe { &*job.f };
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= job.tasks {
                    break;
                }
                f(task, worker);
            }
        }));
        if let Err(panic) = result {
            self.next.store(job.tasks, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(panic);
        }
    }

    fn worker(&self, worker: usize) {
        let mut seen = 0;
        loop {
            wait(|| self.epoch.load(Ordering::Acquire) != seen);
            let job = {
                let mut guard = self.job.lock().expect("no panic while this lock is held");
                while guard.0 == seen {
                    guard = self.wake.wait(guard).expect("no panic while this lock is held");
                }
                seen = guard.0;
                guard.1
            };
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if let Some(job) = job {
                self.work(job, worker);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Spins, then yields, until `ready` or until patience ends; returns whether it became ready.
fn wait(ready: impl Fn() -> bool) -> bool {
    for i in 0..SPINS + YIELDS {
        if ready() {
            return true;
        }
        if i < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    false
}

/// A fixed set of worker threads. The calling thread works too, as worker 0.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// One loop at a time: callers on several threads take turns.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool in which `threads` threads work, the caller of [`Pool::run`] included; 0 counts as 1.
    ///
    /// # Errors
    /// When the operating system does not give them all; those that it gave have ended then.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        Self::with(threads, |worker, work| std::thread::Builder::new().name(format!("qembed-{worker}")).spawn(work))
    }

    /// [`Self::new`] of threads that `spawn(worker, work)` makes.
    fn with(
        threads: usize,
        spawn: impl Fn(usize, Box<dyn FnOnce() + Send>) -> std::io::Result<JoinHandle<()>>,
    ) -> std::io::Result<Self> {
        // Dropped on an error, it ends the threads that it has.
        let mut pool = Self { shared: Arc::default(), threads: Vec::new(), turn: Mutex::new(()) };
        for worker in 1..threads.max(1) {
            let shared = pool.shared.clone();
            pool.threads.push(spawn(worker, Box::new(move || shared.worker(worker)))?);
        }
        Ok(pool)
    }

    /// Threads that work on a loop.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `f(task, worker)` once for every task in `0..tasks`; returns when all are done. `worker` is in
    /// `0..self.threads()`, and no two calls that run at the same time have the same one.
    ///
    /// # Panics
    /// With the first panic of a task. Must not be called from inside a task.
    pub(crate) fn run(&self, tasks: usize, f: impl Fn(usize, usize) + Sync) {
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        if self.threads.is_empty() || tasks <= 1 {
            (0..tasks).for_each(|task| f(task, 0));
            return;
        }
        let f: &(dyn Fn(usize, usize) + Sync) = &f;
        // SAFETY: only the lifetime changes; this function returns after the last worker has left the job (below).
        let f =
            unsafe { std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), &'static (dyn Fn(usize, usize) + Sync)>(f) };
        let job = Job { f, tasks };
        let shared = &*self.shared;
        shared.next.store(0, Ordering::Relaxed);
        shared.busy.store(self.threads.len(), Ordering::Relaxed);
        self.publish(Some(job));
        shared.work(job, 0);
        while !wait(|| shared.busy.load(Ordering::Acquire) == 0) {}
        if let Some(panic) = shared.panic.lock().unwrap_or_else(|e| e.into_inner()).take() {
            resume_unwind(panic);
        }
    }

    fn publish(&self, job: Option<Job>) {
        let mut guard = self.shared.job.lock().expect("no panic while this lock is held");
        guard.0 += 1;
        guard.1 = job;
        self.shared.epoch.store(guard.0, Ordering::Release);
        self.shared.wake.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.publish(None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Threads to use when the user names no number: the physical cores that this process may use.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, |n| n.get());
    num_cpus::get_physical().clamp(1, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).unwrap();
            for tasks in [0, 1, 2, 7, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |task, worker| {
                    assert!(worker < threads);
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| pool.run(100, |task, _| assert_ne!(task, 50, "planted"))));
        assert!(panicked.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(100, |task, _| {
            sum.fetch_add(task, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4950);
    }

    /// Threads that nobody has are told to end, not left asleep.
    #[test]
    fn a_thread_that_is_not_given_ends_the_others() {
        for given in 0..4 {
            let running = Arc::new(AtomicUsize::new(0));
            let result = Pool::with(8, |worker, work| {
                if worker > given {
                    return Err(std::io::Error::other("no more threads"));
                }
                let running = running.clone();
                running.fetch_add(1, Ordering::Relaxed);
                std::thread::Builder::new().spawn(move || {
                    work();
                    running.fetch_sub(1, Ordering::Relaxed);
                })
            });
            assert!(result.is_err());
            assert_eq!(running.load(Ordering::Relaxed), 0, "of {given} threads");
        }
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2).unwrap();
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(10, |task, _| {
                            sum.fetch_add(task, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 100 * 45);
    }
}
