//! `qembed-q convert`: a model file of a Hugging Face folder.

use super::Failure;
use super::quantize::byte_bar;
use super::stop::clean_up_when_stopped;
use super::table::size;
use clap::Args;
use qembed_q::{Convert, Level, Quantize, convert, default_threads};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct ConvertArguments {
    /// The folder with config.json, tokenizer.json and model.safetensors, or its parts
    folder: PathBuf,

    /// The file to write
    output: PathBuf,

    /// Level to write, as for `quantize`
    #[arg(long = "type", value_name = "TYPE", default_value = "F16")]
    level: Level,

    /// Leave a key, module or tensor out of account that is not understood; may be given again
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,

    /// Replace the output if it exists
    #[arg(long)]
    force: bool,

    /// Threads to work with [default: physical cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Converts, with a bar on a terminal.
pub(super) fn run(arguments: &ConvertArguments) -> Result<(), Failure> {
    clean_up_when_stopped(|| ());
    let bar = byte_bar();
    let options = Convert {
        quantize: Quantize {
            level: arguments.level,
            choose: &|_| None,
            threads: arguments.threads.map_or_else(default_threads, usize::from),
            force: arguments.force,
            progress: &|done, total| {
                bar.set_length(total);
                bar.set_position(done);
            },
        },
        allow: &arguments.allow,
        note: &|line| bar.suspend(|| say!("qembed-q: {line}")),
    };
    let done = convert(&arguments.folder, &arguments.output, &options);
    bar.finish_and_clear();
    done.map_err(|error| Failure::Input(error.to_string()))?;
    let bytes = std::fs::metadata(&arguments.output).map_or(0, |file| file.len());
    say!("qembed-q: {}: {}, {}", arguments.output.display(), arguments.level, size(bytes));
    Ok(())
}
