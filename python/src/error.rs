//! Errors of the library as exceptions of the package, in the library's words.

use pyo3::prelude::*;
use qembed_q::Error;
use qembed_q::gguf::GgufProblem;
use qembed_q::hub::HubError;

/// Why work ended: an error of the library, or what Python code that was called on the way has raised.
pub(crate) enum Failure {
    Library(Error),
    Python(PyErr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Library(error) => raised(&error),
            Failure::Python(error) => error,
        }
    }
}

/// The exception for an error of the library.
pub(crate) fn raised(error: &Error) -> PyErr {
    let class = match error {
        Error::Gguf(error) => match error.problem() {
            GgufProblem::NotFound => "ModelNotFound",
            GgufProblem::NoRoom(_) => "MemoryBudgetError",
            _ => "ModelError",
        },
        Error::Model(_) | Error::Tokenizer(_) => "ModelError",
        Error::DeviceTooSmall { .. }
        | Error::AddressSpace { .. }
        | Error::BudgetTooSmall { .. }
        | Error::OverBudget { .. } => "MemoryBudgetError",
        Error::Cancelled | Error::DeadlineExceeded => "Cancelled",
        _ if error.text().is_some() => "TextError",
        _ => "OptionError",
    };
    exception(class, error.to_string(), error.text())
}

/// The exception for a model that is not found by its name.
pub(crate) fn not_found(model: &str, error: &HubError) -> PyErr {
    match error {
        HubError::NotStored { name } => exception(
            "ModelNotFound",
            format!(
                "{model}: no such file, and no model of that name is on this machine: get it by `qembed-q pull {name}`"
            ),
            None,
        ),
        error => exception("ModelError", error.to_string(), None),
    }
}

/// An exception of the package, by the name of its class.
pub(crate) fn exception(class: &str, words: String, text: Option<usize>) -> PyErr {
    Python::attach(|py| {
        let made = py.import("qembed_q.errors").and_then(|module| module.getattr(class)?.call1((words, text)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}
