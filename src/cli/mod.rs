//! The command line. Each subcommand is a file here, with its arguments and what it does.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use qembed_q::gguf::GgufProblem;
use qembed_q::{Error, ModelError};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

mod bench;
mod completions;
mod convert;
mod corpus;
mod embed;
mod info;
mod input;
mod inspect;
mod merge;
mod misplaced;
mod model;
mod model_file;
mod models;
mod output;
mod pull;
mod quantize;
mod search;
mod selftest;
#[cfg(feature = "serve")]
mod serve;
mod settings;
mod show;
mod similarity;
mod stop;
mod table;
mod task;
mod texts;
mod tokenize;
mod understood;
mod verify;

/// Embed texts with a Qwen3-Embedding GGUF file, or the small built-in model, on the CPU.
///
/// Each TEXT becomes one vector; without any, or with `-`, each line of standard input does. A text that equals a
/// command's name is embedded after `--`; a command stands before its options.
#[derive(Parser, Debug)]
#[command(name = "qembed-q", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    embed: embed::EmbedArguments,

    /// Say what is for people on standard error as JSON, an object a line
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Compare quantization levels: what each costs and saves, and which to take
    Bench(bench::BenchArguments),
    /// Write what completes this command line in a shell
    Completions(completions::CompletionsArguments),
    /// Make a model file of a Hugging Face folder: config.json, tokenizer.json, safetensors
    Convert(convert::ConvertArguments),
    /// Write the text of tokens
    Detokenize(tokenize::DetokenizeArguments),
    /// Embed the rows of files: JSONL, CSV, Parquet, folders of texts; interrupted runs go on where they were
    Embed(corpus::CorpusArguments),
    /// Say what a model takes of memory, before it is used
    Info(info::InfoArguments),
    /// Show what stands in a model file: metadata, types, tensors
    Inspect(inspect::InspectArguments),
    /// Write the manual
    Man(completions::ManArguments),
    /// Put the parts of a corpus together that `embed --part` has written
    Merge(merge::MergeArguments),
    /// List the models on this machine that names find, or remove some
    Models(models::ModelsArguments),
    /// Download a model by its name, and verify it
    Pull(pull::PullArguments),
    /// Write a model file at another quantization level
    Quantize(quantize::QuantizeArguments),
    /// Find the passages of files that answer a query
    Search(search::SearchArguments),
    /// Check whether this machine computes what it should, and how fast
    Selftest(selftest::SelftestArguments),
    /// Answer embedding requests over HTTP: the APIs of OpenAI, Ollama, TEI, Cohere and llama-server
    #[cfg(feature = "serve")]
    Serve(serve::ServeArguments),
    /// Compare texts with each other: the cosines of their vectors
    Similarity(similarity::SimilarityArguments),
    /// Write the tokens of texts
    Tokenize(tokenize::TokenizeArguments),
    /// Check whether a model file is what it claims: metadata, tensors, weights, tokenizer, vectors
    Verify(verify::VerifyArguments),
}

const EXAMPLES: &str = "\
Examples:
  qembed-q \"The capital of China is Beijing.\"
  qembed-q search \"how do I list open files\" --in docs
  qembed-q --gguf model.gguf \"The capital of China is Beijing.\"
  qembed-q --gguf model.gguf --query \"What is the capital of China?\"
  qembed-q --task list
  qembed-q --gguf model.gguf --format npy < passages.txt > passages.npy
  qembed-q embed --gguf model.gguf --input passages.jsonl --output passages.parquet

Options can be set by the environment as well (--dim by QEMBED_DIM) and in qembed-q.toml, here or in the user's folder of settings.
Exit codes: 0 done, 1 the work failed, 2 the command line is wrong, 3 done, but rows were passed over, 130 stopped.";

/// Why the command ends without having done its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{}{}", .0, way_out(.0))]
    Embed(#[from] qembed_q::Error),
    #[cfg(feature = "serve")]
    #[error("{}{}", .0, serve::way_out(.0))]
    Serve(#[from] qembed_q::serve::ServeError),
    #[error("{0}")]
    Input(String),
    #[error("{}{}", .0, corpus::way_out(.0))]
    Corpus(#[from] qembed_q::corpus::JobError),
    /// The work is done, but not all of it could be.
    #[error("{rows} rows could not be embedded and are named in {}", path.display())]
    PassedOver { rows: u64, path: PathBuf },
    /// What was computed before is written.
    #[error("{failure}; the vectors of the {count} texts before are written")]
    Midway { count: usize, failure: Box<Failure> },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Reads the command line. Where that asks for help, or makes no sense to clap, the program ends here.
pub(crate) fn parse() -> Result<Arguments, Failure> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let settled = settings::settle(Arguments::command())?;
    let mut clap = settled.clone();
    clap.build();
    let first = misplaced::first_word(&clap, &words);
    if let Some(problem) = first.as_ref().and_then(|first| misplaced::option_before_command(&clap, first)) {
        return Err(Failure::Usage(problem));
    }
    let hint = first.and_then(|first| misplaced::misspelt_command(&clap, &first));
    let arguments = settled.try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    if let Some(hint) = hint {
        say!("qembed-q: hint: {hint}");
    }
    let arguments = arguments.unwrap_or_else(|error| error.exit());
    crate::say::as_json(arguments.log_json);
    Ok(arguments)
}

/// The option that helps with an error of the library, which does not know of options.
fn way_out(error: &Error) -> String {
    match error {
        Error::Model(ModelError::NotUnderstood(items)) => {
            const SHOWN: usize = 8;
            let names = items.iter().take(SHOWN).map(|item| format!(" --allow {}", item.name.escape_debug()));
            let more = if items.len() > SHOWN { " …" } else { "" };
            format!(". To load it all the same:{}{more}", names.collect::<String>())
        }
        Error::Metal(_) => " (--device cpu)".into(),
        Error::Gguf(error) if matches!(error.problem(), GgufProblem::Changed) => " (--no-mmap)".into(),
        _ => String::new(),
    }
}

/// Does what the command line says.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let done = match &arguments.command {
        None => embed::run(&arguments.embed),
        Some(Command::Bench(arguments)) => bench::run(arguments),
        Some(Command::Completions(arguments)) => completions::completions(arguments),
        Some(Command::Convert(arguments)) => convert::run(arguments),
        Some(Command::Detokenize(arguments)) => tokenize::detokenize(arguments),
        Some(Command::Embed(arguments)) => corpus::run(arguments),
        Some(Command::Info(arguments)) => info::run(arguments),
        Some(Command::Inspect(arguments)) => inspect::run(arguments),
        Some(Command::Man(arguments)) => completions::man(arguments),
        Some(Command::Merge(arguments)) => merge::run(arguments),
        Some(Command::Models(arguments)) => models::run(arguments),
        Some(Command::Pull(arguments)) => pull::run(arguments),
        Some(Command::Quantize(arguments)) => quantize::run(arguments),
        Some(Command::Search(arguments)) => search::run(arguments),
        Some(Command::Selftest(arguments)) => selftest::run(arguments),
        #[cfg(feature = "serve")]
        Some(Command::Serve(arguments)) => serve::run(arguments),
        Some(Command::Similarity(arguments)) => similarity::run(arguments),
        Some(Command::Tokenize(arguments)) => tokenize::tokenize(arguments),
        Some(Command::Verify(arguments)) => verify::run(arguments),
    };
    stop::wait_if_stopping();
    done
}
