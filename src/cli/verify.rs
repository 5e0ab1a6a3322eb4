//! `qembed-q verify`: is a file what it claims?

use super::Failure;
use super::model::ModelArguments;
use super::quantize::{byte_bar, show_bytes};
use anstyle::{AnsiColor, Style};
use clap::Args;
use qembed_q::{LoadOptions, Verdict, verify};
use std::io::Write;
use std::path::Path;

#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    model: ModelArguments,
}

/// One line a check; fails when one of them does.
pub(super) fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let Some(path) = arguments.model.path()? else {
        return Err(Failure::Usage("which file? Say it with --gguf FILE".into()));
    };
    show_checks(&path, &arguments.model.options(), &mut anstream::stdout().lock())
}

/// Checks a file and writes a line for each check.
pub(super) fn show_checks(path: &Path, options: &LoadOptions, out: &mut impl Write) -> Result<(), Failure> {
    let bar = byte_bar();
    let checks = verify(path, options, Some(&show_bytes(&bar)));
    bar.finish_and_clear();
    for check in &checks {
        let (word, colour) = match check.verdict {
            Verdict::Pass => ("pass", AnsiColor::Green),
            Verdict::Fail => ("FAIL", AnsiColor::Red),
            Verdict::Skip => ("skip", AnsiColor::Yellow),
        };
        let style = Style::new().fg_color(Some(colour.into()));
        writeln!(out, "{style}{word}{style:#}  {:<13} {}", check.name, check.detail)?;
    }
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Input(format!(
            "{}: {failed} of {} checks failed; get the file again, or another one",
            path.display(),
            checks.len()
        ))),
    }
}
