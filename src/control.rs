//! How a caller watches a call, and how it calls it off.

use crate::options::setters;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What is done of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Texts that have their vector.
    pub texts: usize,
    /// Their tokens.
    pub tokens: usize,
}

/// Watches a call and may end it early; by default neither. What a call holds is released when it ends, however it ends.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct Control<'a> {
    /// Set it, from any thread, to end the call with [`Error::Cancelled`](crate::Error::Cancelled) before the next layer.
    pub cancel: Option<&'a AtomicBool>,
    /// When to end the call with [`Error::DeadlineExceeded`](crate::Error::DeadlineExceeded), before the next layer.
    pub deadline: Option<Instant>,
    /// Called after each forward pass.
    pub progress: Option<&'a dyn Fn(Progress)>,
}

impl<'a> Control<'a> {
    setters! {
        cancel: impl Into<Option<&'a AtomicBool>>,
        deadline: impl Into<Option<Instant>>,
        progress: impl Into<Option<&'a dyn Fn(Progress)>>,
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    pub(crate) fn late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
