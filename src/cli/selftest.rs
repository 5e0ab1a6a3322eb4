//! `qembed-q selftest`: does this machine compute what it should?

use super::Failure;
use super::model::LoadArguments;
use super::table::{Style as TableStyle, grid};
use anstyle::{AnsiColor, Style};
use clap::Args;
use qembed_q::{Outcome, Selftest, SelftestCheck, selftest};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use sysinfo::System;

#[derive(Args, Debug)]
pub(super) struct SelftestArguments {
    #[command(flatten)]
    load: LoadArguments,

    /// Write all of it to a file too, to be attached to a report
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// One line a check, then how fast it is; fails when one of the checks does, or was left out.
pub(super) fn run(arguments: &SelftestArguments) -> Result<(), Failure> {
    // A report that cannot be written is found out before the work.
    let mut report = None;
    if let Some(path) = arguments.report.as_deref() {
        report = Some((path, File::create(path).map_err(|error| unwritable(path, &error))?));
    }
    let head = machine();
    let mut out = anstream::stdout().lock();
    // Whoever reads no further still has the device tested, and is told by the exit code.
    let mut shown = Ok(());
    let mut due = Some(&head);
    let mut show = |check: &SelftestCheck| {
        let SelftestCheck { name, detail, .. } = check;
        let (word, colour) = word(check);
        let style = Style::new().fg_color(Some(colour.into()));
        if shown.is_ok() {
            let head = due.take().map_or("", String::as_str);
            shown = writeln!(out, "{head}{style}{word}{style:#}  {name:<50} {detail}").and_then(|()| out.flush());
        }
    };
    let result = selftest(&arguments.load.options(), &mut show);
    let end = match &result {
        Ok(result) => format!("\n{}", paces(result)),
        Err(error) => format!("{error}\n"),
    };
    if let Some((path, mut file)) = report {
        let mut text = head;
        for check in result.iter().flat_map(|result| &result.checks) {
            let _ = writeln!(text, "{}  {:<50} {}", word(check).0, check.name, check.detail);
        }
        file.write_all((text + &end).as_bytes()).map_err(|error| unwritable(path, &error))?;
    }
    let result = result?;
    let shown = shown.and_then(|()| write!(out, "{end}"));
    let count = |outcome| result.checks.iter().filter(|check| check.outcome == outcome).count();
    match (count(Outcome::Failed), count(Outcome::Skipped)) {
        _ if result.passed() => Ok(shown?),
        (0, skipped) => Err(Failure::Input(format!("{skipped} of {} checks were left out", result.checks.len()))),
        (failed, _) => Err(Failure::Input(format!(
            "{failed} of {} checks failed: vectors of this device may be wrong. Please report it, with what \
             `qembed-q selftest --report FILE` writes",
            result.checks.len()
        ))),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::Input(format!("{}: {error}", path.display()))
}

fn word(check: &SelftestCheck) -> (&'static str, AnsiColor) {
    match check.outcome {
        Outcome::Passed => ("pass", AnsiColor::Green),
        Outcome::Failed => ("FAIL", AnsiColor::Red),
        Outcome::Skipped => ("skip", AnsiColor::Yellow),
    }
}

/// The program and the machine.
fn machine() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let system = System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into());
    let kernel = System::kernel_version().unwrap_or_default();
    format!("qembed-q {version} on {system} ({kernel}), {}\n\n", std::env::consts::ARCH)
}

fn paces(result: &Selftest) -> String {
    let rows = result.paces.iter().map(|pace| {
        let speed = format!("{:.0}", pace.tokens_per_second);
        [pace.device.clone(), pace.texts.to_string(), pace.tokens.to_string(), speed]
    });
    match result.paces.is_empty() {
        true => String::new(),
        false => {
            grid(TableStyle::Plain, &["built-in model on", "texts", "tokens", "tokens/s"], rows, &[1, 2, 3]) + "\n"
        }
    }
}
