//! A small thread pool for loops whose iterations are handed out one at a time.
//!
//! A forward pass makes a few hundred short parallel loops. Each loop here costs one atomic store to start and one
//! counter to finish; workers spin briefly before they sleep, so that back-to-back loops find them awake. Tasks are
//! claimed one by one, so a slow core simply takes fewer of them. Which thread ran a task never shows in a result.

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, SPINS, YIELDS, hint};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// `f(task, worker)`, borrowed from the frame of [`Workers::run`] with its lifetime erased.
#[derive(Clone, Copy)]
struct Job {
    f: *const (dyn Fn(usize, usize) + Sync),
    tasks: usize,
}

// SAFETY: the closure behind `f` is Sync, and `Workers::run` keeps it alive until every worker has left the job.
unsafe impl Send for Job {}

#[derive(Default)]
struct Shared {
    /// The current job and its number; numbers grow by one, so a worker knows whether it has seen this one. The job is there as
    /// long as workers may join it: one that comes when all tasks are claimed is not waited for.
    job: Mutex<(usize, Option<Job>)>,
    wake: Condvar,
    /// Mirrors the job number, for spinning without the lock.
    epoch: AtomicUsize,
    next: AtomicUsize,
    /// Workers that have joined the current job and not left it yet; grows with the lock of `job` only.
    busy: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    /// Claims tasks until none is left. The first panic is kept for the caller, and ends the job early.
    fn work(&self, job: Job, worker: usize) {
        // SAFETY: a worker is counted in `busy` before it comes here, and `run` waits until that is zero: the closure outlives
        // this call.
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
                if guard.1.is_some() {
                    self.busy.fetch_add(1, Ordering::Relaxed);
                }
                guard.1
            };
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if let Some(job) = job {
                self.work(job, worker);
                self.busy.fetch_sub(1, Ordering::Release);
            }
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
            hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
    false
}

/// A number of threads that work on loops together. The calling thread works too, as worker 0; the others are made for the
/// first loop, and again in a process that was forked off, which has none of its parent's threads. (Not while a loop of
/// another thread runs: the fork keeps its lock for ever.)
pub(crate) struct Pool {
    threads: usize,
    /// Locked while a loop runs: callers on several threads take turns.
    workers: Mutex<Option<Workers>>,
}

impl Pool {
    /// A pool in which `threads` threads work, the caller of [`Pool::run`] included; 0 counts as 1.
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), workers: Mutex::new(None) }
    }

    /// Threads that work on a loop.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Makes the threads unless they are there.
    ///
    /// # Errors
    /// When the operating system does not give them all; those that it gave have ended then.
    pub(crate) fn ready(&self) -> std::io::Result<()> {
        self.workers().map(drop)
    }

    fn workers(&self) -> std::io::Result<MutexGuard<'_, Option<Workers>>> {
        let mut workers = self.workers.lock().unwrap_or_else(|e| e.into_inner());
        if workers.as_ref().is_none_or(|workers| workers.process != std::process::id()) {
            *workers = None;
            *workers = Some(Workers::new(self.threads - 1)?);
        }
        Ok(workers)
    }

    /// Calls `f(task, worker)` once for every task in `0..tasks`; returns when all are done. `worker` is in
    /// `0..self.threads()`, and no two calls that run at the same time have the same one. Where the operating system gives no
    /// threads, which [`Self::ready`] tells, the caller does the work alone.
    ///
    /// # Panics
    /// With the first panic of a task. Must not be called from inside a task.
    pub(crate) fn run(&self, tasks: usize, f: impl Fn(usize, usize) + Sync) {
        match self.workers().as_deref() {
            Ok(Some(workers)) if self.threads > 1 && tasks > 1 => workers.run(tasks, &f),
            // With the lock: worker 0 is one at a time.
            _ => (0..tasks).for_each(|task| f(task, 0)),
        }
    }
}

/// The threads of a pool but its caller.
struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// The process whose threads they are.
    process: u32,
}

impl Workers {
    fn new(threads: usize) -> std::io::Result<Self> {
        Self::with(threads, |worker, work| thread::Builder::new().name(format!("qembed-{worker}")).spawn(work))
    }

    /// [`Self::new`] of threads that `spawn(worker, work)` makes.
    fn with(
        threads: usize,
        spawn: impl Fn(usize, Box<dyn FnOnce() + Send>) -> std::io::Result<JoinHandle<()>>,
    ) -> std::io::Result<Self> {
        // Dropped on an error, it ends the threads that it has.
        let mut workers = Self { shared: Arc::default(), threads: Vec::new(), process: std::process::id() };
        for worker in 1..=threads {
            let shared = workers.shared.clone();
            workers.threads.push(spawn(worker, Box::new(move || shared.worker(worker)))?);
        }
        Ok(workers)
    }

    /// [`Pool::run`]. One call at a time.
    fn run(&self, tasks: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        // SAFETY: only the lifetime changes; this function returns when no worker can join the job any more and the last
        // has left it (below).
        let f =
            unsafe { std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), &'static (dyn Fn(usize, usize) + Sync)>(f) };
        let job = Job { f, tasks };
        let shared = &*self.shared;
        shared.next.store(0, Ordering::Relaxed);
        self.publish(Some(job));
        shared.work(job, 0);
        shared.job.lock().expect("no panic while this lock is held").1 = None;
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

impl Drop for Workers {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // There is nothing here to end, or to wait for.
            return self.threads.drain(..).for_each(std::mem::forget);
        }
        self.shared.stop.store(true, Ordering::Release);
        self.publish(None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
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
        let pool = Pool::new(3);
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
            let result = Workers::with(7, |worker, work| {
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

    /// Threads are made for the first loop, and again by a process that has none of them.
    #[test]
    fn threads_are_made_when_they_are_needed() {
        let pool = Pool::new(3);
        assert!(pool.workers.lock().unwrap().is_none());
        let seen = || {
            let ids = Mutex::new(std::collections::HashSet::new());
            // Each waits until all three have come.
            let met = std::sync::Barrier::new(3);
            pool.run(3, |_, _| {
                ids.lock().unwrap().insert(std::thread::current().id());
                met.wait();
            });
            ids.into_inner().unwrap()
        };
        let before = seen();
        assert_eq!((before.len(), seen() == before), (3, true));
        // As a fork finds them: they belong to another process.
        let mut workers = pool.workers.lock().unwrap();
        workers.as_mut().unwrap().process ^= 1;
        drop(workers);
        let after = seen();
        assert_eq!((after.len(), after.intersection(&before).count()), (3, 1), "only the caller is the same");
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2);
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
