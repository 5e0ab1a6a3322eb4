//! `--task`: the instruction of a kind of work, by its name.

use super::table::{Style, grid};
use qembed_q::{Prompt, Task};
use std::io::{self, Write};

/// What `--task` names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    One(&'static Task),
    /// `list`: all of them are to be shown.
    List,
}

/// For clap: a task by any of its names.
pub(super) fn named(name: &str) -> Result<Named, String> {
    if name.eq_ignore_ascii_case("list") {
        return Ok(Named::List);
    }
    Task::named(name).map(Named::One).ok_or_else(|| {
        let names: Vec<_> = Task::ALL.iter().map(|task| task.name).collect();
        format!("no such task; there are {}, and `--task list` says which is for what", names.join(", "))
    })
}

impl Named {
    /// The prompt of a task; `list` has none.
    pub(super) fn prompt(self) -> Option<Prompt> {
        match self {
            Self::One(task) => Some(task.into()),
            Self::List => None,
        }
    }
}

/// Writes all tasks, each with its instruction, which texts it is for and how many dimensions are usual.
pub(super) fn list() -> io::Result<()> {
    let rows = Task::ALL.iter().map(|task| {
        let instruction = task.instruction.unwrap_or("(none)");
        [task.name, &task.dimensions.to_string(), task.when, instruction].map(str::to_owned)
    });
    let table = grid(Style::Plain, &["name", "dimensions", "for", "instruction"], rows, &[1]);
    writeln!(io::stdout().lock(), "{table}")
}
