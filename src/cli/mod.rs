//! The command line. Each subcommand is a file here, with its arguments and what it does.

use clap::{Parser, Subcommand};
use qembed_q::gguf::GgufProblem;
use qembed_q::{Error, ModelError};
use std::io;

mod bench;
mod convert;
mod embed;
mod info;
mod inspect;
mod model;
mod output;
mod passages;
mod quantize;
mod search;
mod similarity;
mod stop;
mod table;
mod understood;
mod vector_cache;
mod verify;

/// Embed texts with a Qwen3-Embedding GGUF file, or the small built-in model, on the CPU.
///
/// Each TEXT becomes one vector; without any, or with `-`, each line of standard input does. A text that equals a
/// command's name is embedded after `--`.
#[derive(Parser, Debug)]
#[command(name = "qembed-q", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    embed: embed::EmbedArguments,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Compare quantization levels: what each costs and saves, and which to take
    Bench(bench::BenchArguments),
    /// Make a model file of a Hugging Face folder: config.json, tokenizer.json, safetensors
    Convert(convert::ConvertArguments),
    /// Say what a model takes of memory, before it is used
    Info(info::InfoArguments),
    /// Show what stands in a model file: metadata, types, tensors
    Inspect(inspect::InspectArguments),
    /// Write a model file at another quantization level
    Quantize(quantize::QuantizeArguments),
    /// Find the passages of files that answer a query
    Search(search::SearchArguments),
    /// Compare texts with each other: the cosines of their vectors
    Similarity(similarity::SimilarityArguments),
    /// Check whether a model file is what it claims: metadata, tensors, weights, tokenizer, vectors
    Verify(verify::VerifyArguments),
}

const EXAMPLES: &str = "\
Examples:
  qembed-q \"The capital of China is Beijing.\"
  qembed-q search \"how do I list open files\" --in docs
  qembed-q --gguf model.gguf \"The capital of China is Beijing.\"
  qembed-q --gguf model.gguf --query \"What is the capital of China?\"
  qembed-q --gguf model.gguf --format npy < passages.txt > passages.npy";

/// Why the command ends without having done its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{}{}", .0, way_out(.0))]
    Embed(#[from] qembed_q::Error),
    #[error("{0}")]
    Input(String),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// The option that helps with an error of the library, which does not know of options.
fn way_out(error: &Error) -> String {
    match error {
        Error::Model(ModelError::NotUnderstood(items)) => {
            let names: Vec<_> = items.iter().map(|item| format!("--allow {}", item.name.escape_debug())).collect();
            format!(". To load it all the same: {}", names.join(" "))
        }
        Error::Gguf(error) if matches!(error.problem(), GgufProblem::Changed) => " (--no-mmap)".into(),
        _ => String::new(),
    }
}

/// Does what the command line says.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let done = match &arguments.command {
        None => embed::run(&arguments.embed),
        Some(Command::Bench(arguments)) => bench::run(arguments),
        Some(Command::Convert(arguments)) => convert::run(arguments),
        Some(Command::Info(arguments)) => info::run(arguments),
        Some(Command::Inspect(arguments)) => inspect::run(arguments),
        Some(Command::Quantize(arguments)) => quantize::run(arguments),
        Some(Command::Search(arguments)) => search::run(arguments),
        Some(Command::Similarity(arguments)) => similarity::run(arguments),
        Some(Command::Verify(arguments)) => verify::run(arguments),
    };
    stop::wait_if_stopping();
    done
}
