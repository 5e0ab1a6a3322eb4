//! The thread pool in every order of its steps, within bounds: few threads, few tasks, few switches of a thread that could go on.
//!
//! The source is the pool's own; it finds loom's threads, locks and atomics where the kernels have the system's. Loom tells of
//! threads that sleep for ever, and of memory that one thread writes and another uses without anything that says which
//! came first: the latter also where this machine's processor would forgive it. What it cannot do is fork (`models/tests/fork.rs`).

#[path = "../../src/pool.rs"]
mod pool;

mod sync {
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard, atomic};
    pub(crate) use loom::{hint, thread};

    /// Once: whoever waits longer sees nothing that he could not see at first, or asleep.
    pub(crate) const SPINS: usize = 1;
    pub(crate) const YIELDS: usize = 0;
}

use loom::cell::UnsafeCell;
use pool::Pool;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use sync::Arc;

/// A number that has no protection: loom says whether it needed one.
struct Plain(UnsafeCell<usize>);

// SAFETY: it is not, unless the pool keeps its word; loom stops before an access that is none.
unsafe impl Sync for Plain {}

impl Plain {
    fn new(value: usize) -> Self {
        Self(UnsafeCell::new(value))
    }

    fn get(&self) -> usize {
        // SAFETY: loom has seen that nobody writes it meanwhile.
        self.0.with(|value| unsafe { *value })
    }

    fn set(&self, new: usize) {
        // SAFETY: loom has seen that nobody else uses it meanwhile.
        self.0.with_mut(|value| unsafe { *value = new })
    }
}

fn plain(n: usize) -> Vec<Plain> {
    (0..n).map(Plain::new).collect()
}

/// A loop in which each task reads what the caller wrote before, and writes what the caller reads afterwards.
fn check(pool: &Pool, tasks: usize, offset: usize) {
    let (input, output) = (plain(tasks), plain(tasks));
    input.iter().for_each(|x| x.set(x.get() + offset));
    pool.run(tasks, |task, worker| {
        assert!(worker < pool.threads());
        output[task].set(input[task].get() + 1);
    });
    // The input too is the caller's again.
    input.iter().zip(&output).enumerate().for_each(|(task, (x, y))| {
        x.set(0);
        assert_eq!(y.get(), task + offset + 1);
    });
}

/// Loops one after the other, then the end, with the workers asleep or not.
fn loops(threads: usize, tasks: usize, loops: usize) {
    let pool = Pool::new(threads);
    (0..loops).for_each(|i| check(&pool, tasks, 10 * i));
}

fn no_loop() {
    Pool::new(3).ready().unwrap();
}

/// A task panics, here or in the worker: the caller hears of it once nobody is in a task any more. (That the pool lives on is a
/// test of its own: loom's locks do not outlive a panic.)
fn panic() {
    let pool = Pool::new(2);
    let output = plain(3);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        pool.run(3, |task, _| {
            output[task].set(task + 10);
            if task == 1 {
                // Not by the macro, which would say so each time.
                resume_unwind(Box::new("planted"));
            }
        })
    }));
    let cause = outcome.unwrap_err();
    if cause.downcast_ref() != Some(&"planted") {
        resume_unwind(cause);
    }
    output.iter().for_each(|x| x.set(0));
}

/// Two threads call the same pool, and take turns.
fn two_callers() {
    let pool = Arc::new(Pool::new(2));
    let other = {
        let pool = pool.clone();
        loom::thread::spawn(move || check(&pool, 2, 0))
    };
    check(&pool, 2, 10);
    other.join().unwrap();
}

fn main() {
    let models: [(&str, usize, fn()); 6] = [
        ("2 threads, two loops of 2 tasks", 3, || loops(2, 2, 2)),
        ("2 threads, two loops of 3 tasks", 3, || loops(2, 3, 2)),
        ("3 threads, a loop of 2 tasks", 2, || loops(3, 2, 1)),
        ("3 threads, no loop", 3, no_loop),
        ("2 threads, a task that panics", 3, panic),
        ("2 threads, two callers", 2, two_callers),
    ];
    println!("{:34} {:>8} {:>12}", "model", "switches", "orders tried");
    for (name, switches, model) in models {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(switches);
        builder.max_branches = 10_000;
        let orders = std::sync::Arc::new(AtomicUsize::new(0));
        let count = orders.clone();
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model();
        });
        println!("{name:34} {switches:8} {:12}", orders.load(Ordering::Relaxed));
    }
}
