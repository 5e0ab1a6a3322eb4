//! How Python watches a call, and how it calls it off.

use crate::error::Failure;
use pyo3::prelude::*;
use qembed_q::{Control, Error, Progress};
use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often Python is asked whether somebody pressed Ctrl-C: each time the interpreter has to be waited for.
const SIGNALS: Duration = Duration::from_millis(50);

/// Calls off the calls that it was given to, from any thread.
#[pyclass(frozen)]
#[derive(Default)]
pub(crate) struct Cancel(AtomicBool);

#[pymethods]
impl Cancel {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The calls end before their next layer.
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a call is watched by.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Watch {
    /// Whether this is the thread to which signals come.
    signals: bool,
    /// Called with the number of texts that are done.
    progress: Option<Py<PyAny>>,
    cancel: Option<Py<Cancel>>,
}

impl Watch {
    /// Runs `work`, which the interpreter does not wait for, under a control that this watches by.
    pub(crate) fn run<R>(&self, work: impl FnOnce(&Control) -> Result<R, Error>) -> Result<R, Failure> {
        // The first that Python has raised.
        let raised = OnceCell::new();
        let keep = |result: PyResult<()>| result.map_err(|error| drop(raised.set(error))).is_ok();
        let asked = Cell::new(Instant::now());
        let wanted = || {
            if raised.get().is_some() {
                return false;
            }
            if !self.signals || asked.get().elapsed() < SIGNALS {
                return true;
            }
            asked.set(Instant::now());
            Python::attach(|py| keep(py.check_signals()))
        };
        let progress = |done: Progress| {
            if let Some(progress) = &self.progress {
                Python::attach(|py| keep(progress.call1(py, (done.texts,)).map(drop)));
            }
        };
        let control = Control::default()
            .wanted(&wanted as &dyn Fn() -> bool)
            .progress(&progress as &dyn Fn(_))
            .cancel(self.cancel.as_ref().map(|cancel| &cancel.get().0));
        let done = work(&control);
        match raised.into_inner() {
            Some(error) => Err(Failure::Python(error)),
            None => Ok(done?),
        }
    }
}
