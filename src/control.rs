//! How a caller watches a call, and how it calls it off.

use crate::error::Error;
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
    /// Set it, from any thread, to end the call with [`Error::Cancelled`](crate::Error::Cancelled) before the next layer, or the
    /// next few texts that become tokens.
    pub cancel: Option<&'a AtomicBool>,
    /// When to end the call with [`Error::DeadlineExceeded`](crate::Error::DeadlineExceeded), before the next layer.
    pub deadline: Option<Instant>,
    /// Asked at the same places, on the thread that called: the call ends with [`Error::Cancelled`](crate::Error::Cancelled) when
    /// its result is no longer wanted.
    pub wanted: Option<&'a dyn Fn() -> bool>,
    /// Called after each forward pass.
    pub progress: Option<&'a dyn Fn(Progress)>,
}

impl<'a> Control<'a> {
    setters! {
        cancel: impl Into<Option<&'a AtomicBool>>,
        deadline: impl Into<Option<Instant>>,
        wanted: impl Into<Option<&'a dyn Fn() -> bool>>,
        progress: impl Into<Option<&'a dyn Fn(Progress)>>,
    }

    /// Why the call is to end, if it is.
    pub(crate) fn ended(&self) -> Option<Error> {
        let cancelled = self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed));
        if cancelled || self.wanted.is_some_and(|wanted| !wanted()) {
            return Some(Error::Cancelled);
        }
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline).then_some(Error::DeadlineExceeded)
    }
}
