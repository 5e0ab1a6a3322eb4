//! The `qembed-q` command. Data goes to standard output, everything for people to standard error.
//!
//! Exit codes: 0 done, 1 the work failed, 2 the command line is wrong, 3 done, but not for all rows, 130 it was
//! stopped.
#![forbid(unsafe_code)]

/// A line for people, on standard error. Unlike `eprintln!` it does not panic where that is closed or full.
macro_rules! say {
    ($($arguments:tt)*) => {
        $crate::say::line(&format!($($arguments)*))
    };
}

mod cli;
mod say;

use qembed_q::Error;
use qembed_q::corpus::JobError;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(unix)]
    qembed_q::gguf::exit_on_faults("qembed-q: ", " (--no-mmap)");
    match cli::parse().and_then(|arguments| cli::run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(cli::Failure::Output(error)) if reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(failure) => {
            say!("qembed-q: {failure}");
            ExitCode::from(match failure {
                cli::Failure::Usage(_) => 2,
                cli::Failure::PassedOver { .. } => 3,
                cli::Failure::Corpus(JobError::Embed(Error::DeadlineExceeded)) => 130,
                _ => 1,
            })
        }
    }
}

fn reader_is_gone(error: &io::Error) -> bool {
    // What Windows says of some closed pipes, and the standard library has no kind for.
    const PIPE_NOT_CONNECTED: i32 = 233;
    error.kind() == io::ErrorKind::BrokenPipe || cfg!(windows) && error.raw_os_error() == Some(PIPE_NOT_CONNECTED)
}
