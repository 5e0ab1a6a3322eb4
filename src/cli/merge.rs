//! `merge`: parts of a corpus, made by several machines, put together.

use super::Failure;
use super::stop::clean_up_when_stopped;
use clap::Args;
use qembed_q::corpus::merge;
use qembed_q::corpus::write::OutputFormat;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  qembed-q merge part-1.parquet part-2.parquet part-3.parquet --output whole.parquet"
)]
pub(super) struct MergeArguments {
    /// Outputs of `embed --part`, of several files as they were named there; others than parquet and sqlite in their order
    #[arg(value_name = "FILE", required = true)]
    parts: Vec<PathBuf>,

    /// File to write, of the same form
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Form of the files [default: what the name of the output tells]
    #[arg(long, value_name = "FORM")]
    format: Option<OutputFormat>,

    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

/// Writes one output of several.
pub(super) fn run(arguments: &MergeArguments) -> Result<(), Failure> {
    let output = &arguments.output;
    let shown = output.display();
    let format = arguments.format.or_else(|| OutputFormat::of_path(output));
    let format =
        format.ok_or_else(|| Failure::Usage(format!("{shown} does not tell its form: say it with --format")))?;
    if output.exists() && !arguments.force {
        return Err(Failure::Input(format!("{shown}: it exists: name another output, or overwrite it (--force)")));
    }
    clean_up_when_stopped(|| {});
    merge(format, &arguments.parts, output).map_err(|error| Failure::Input(error.to_string()))?;
    say!("qembed-q: {} parts are one in {shown}", arguments.parts.len());
    Ok(())
}
