//! The engine as Python sees it: `qembed_q._qembed_q`, which the package's own code wraps.
//!
//! Here is what needs the engine: opening, tokens, vectors. What can be said in Python is said there (`qembed_q/`).

mod arrow;
mod engine;
mod error;
mod watch;

use pyo3::prelude::*;

/// The engine.
#[pymodule]
mod _qembed_q {
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::watch::Cancel;
    use pyo3::prelude::*;
    use qembed_q::Task;

    /// The package's version.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// The task of a query for which none is named.
    #[pymodule_export]
    const DEFAULT_TASK: &str = qembed_q::DEFAULT_TASK;

    type TaskFields = (&'static str, &'static [&'static str], Option<&'static str>, &'static str, usize);

    /// All tasks: name, other names, instruction, when, dimensions.
    #[pyfunction]
    fn tasks() -> Vec<TaskFields> {
        let fields = |task: &'static Task| (task.name, task.aliases, task.instruction, task.when, task.dimensions);
        Task::ALL.iter().map(fields).collect()
    }
}
