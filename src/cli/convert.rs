//! `qembed-q convert`: a model file of a Hugging Face folder.

use super::Failure;
use super::quantize::{byte_bar, failure, show_bytes};
use super::stop::clean_up_when_stopped;
use super::table::size;
use clap::Args;
use qembed_q::{Convert, ConvertError, ConvertNote, Level, Quantize, convert};
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
    let progress = show_bytes(&bar);
    let mut quantize = Quantize::new(arguments.level);
    quantize.threads = arguments.threads.map_or(quantize.threads, usize::from);
    quantize.force = arguments.force;
    quantize.progress = Some(&progress);
    let note = |note: &ConvertNote| bar.suspend(|| say!("qembed-q: {note}{}", way_out(note)));
    let mut options = Convert::new(quantize);
    options.allow = &arguments.allow;
    options.note = Some(&note);
    let done = convert(&arguments.folder, &arguments.output, &options);
    bar.finish_and_clear();
    done.map_err(|error| match error {
        ConvertError::NotUnderstood { .. } => Failure::Input(format!("{error} (--allow NAME)")),
        ConvertError::Write(error) => failure(error),
        error => Failure::Input(error.to_string()),
    })?;
    let bytes = std::fs::metadata(&arguments.output).map_or(0, |file| file.len());
    say!("qembed-q: {}: {}, {}", arguments.output.display(), arguments.level, size(bytes));
    Ok(())
}

/// The option that helps with what the library notes.
fn way_out(note: &ConvertNote) -> String {
    match note {
        ConvertNote::Shorter { name, context, .. } => format!("; --allow {name} leaves it at {context}"),
        ConvertNote::Prompt { .. } => ", or as --instruct".into(),
        _ => String::new(),
    }
}
