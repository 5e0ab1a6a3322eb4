//! `completions` and `man`: what shells and manuals want to know of the command line.

use super::{Arguments, Failure};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::{self, Write};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  qembed-q completions bash > ~/.local/share/bash-completion/completions/qembed-q")]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  qembed-q man | man -l -\n  qembed-q man --into ~/.local/share/man/man1")]
pub(super) struct ManArguments {
    /// Write the pages of all commands into this folder, instead of the first to standard output
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// Writes what completes the command line in a shell.
pub(super) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    // By way of memory: what writes it panics where it cannot.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "qembed-q", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

/// Writes the manual.
pub(super) fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let command = Arguments::command();
    match &arguments.into {
        Some(folder) => {
            let written = clap_mangen::generate_to(command, folder);
            written.map_err(|error| Failure::Input(format!("{}: {error}", folder.display())))
        }
        None => Ok(clap_mangen::Man::new(command).render(&mut io::stdout().lock())?),
    }
}
