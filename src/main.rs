//! The `qembed-q` command. Data goes to standard output, everything for people to standard error.
//!
//! Exit codes: 0 done, 1 the work failed, 2 the command line is wrong.
#![forbid(unsafe_code)]

mod cli;
mod output;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(&cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(cli::Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("qembed-q: {failure}");
            ExitCode::from(match failure {
                cli::Failure::Usage(_) => 2,
                _ => 1,
            })
        }
    }
}
