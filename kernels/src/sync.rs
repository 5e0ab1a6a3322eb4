//! What the pool needs of threads, and its patience. `kernels/loom` has loom's in this place, which tries every order of the
//! pool's steps.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, atomic};
pub(crate) use std::{hint, thread};

/// How many times a waiting thread looks for work before it yields its core.
pub(crate) const SPINS: usize = 2_000;
/// How many times it yields before it sleeps.
pub(crate) const YIELDS: usize = 50;
