//! The command without a subcommand: texts in, vectors out.

use super::Failure;
use super::model::ModelArguments;
use super::output::{self, Format};
use clap::{Args, ValueEnum};
use qembed_q::{EmbedOptions, Prompt, Truncate};
use std::io::{self, IsTerminal, Read};
use std::time::Instant;

#[derive(Args, Debug)]
pub(super) struct EmbedArguments {
    /// Texts to embed; `-` stands for the lines of standard input
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,

    #[command(flatten)]
    model: ModelArguments,

    /// The texts are search queries: put the default instruction before each
    #[arg(long, conflicts_with = "instruct")]
    query: bool,

    /// The texts are queries of this task: put it before each as the instruction
    #[arg(long, value_name = "TASK")]
    instruct: Option<String>,

    /// Cut vectors to N dimensions, then normalize them [default: the model's own]
    #[arg(long, value_name = "N")]
    dim: Option<usize>,

    /// Cut texts that are longer than the model's context, at this end, instead of refusing them
    #[arg(long, value_name = "END")]
    truncate: Option<TruncateEnd>,

    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,

    /// Say on standard error what was used and how long it took
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TruncateEnd {
    Left,
    Right,
}

/// Embeds the texts and writes their vectors.
pub(super) fn run(arguments: &EmbedArguments) -> Result<(), Failure> {
    let gguf = arguments.model.path()?;
    if arguments.format.is_binary() && io::stdout().is_terminal() {
        return Err(Failure::Usage("binary output would garble the terminal: redirect it to a file or a pipe".into()));
    }
    let started = Instant::now();
    let embedder = arguments.model.open()?;
    let loaded = started.elapsed();

    let texts = texts(&arguments.texts)?;
    let options = EmbedOptions {
        prompt: match (&arguments.instruct, arguments.query) {
            (Some(task), _) => Prompt::Instruct(task.clone()),
            (None, true) => Prompt::Query,
            (None, false) => Prompt::Document,
        },
        dimensions: arguments.dim,
        truncate: arguments.truncate.map(|end| match end {
            TruncateEnd::Left => Truncate::Left,
            TruncateEnd::Right => Truncate::Right,
        }),
    };
    let started = Instant::now();
    let embeddings = embedder.embed(&texts, &options)?;
    let embedded = started.elapsed();
    output::write(&embeddings, arguments.format, io::stdout().lock())?;

    if arguments.verbose {
        let tokens: usize = embeddings.tokens().iter().sum();
        let per_second = tokens as f64 / embedded.as_secs_f64();
        let resident = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem);
        say!(
            "model {} ({} MB), {} on {} threads, opened in {:.3} s",
            gguf.display(),
            embedder.file_size() / 1_000_000,
            embedder.isa(),
            embedder.threads(),
            loaded.as_secs_f64(),
        );
        say!(
            "{} texts, {tokens} tokens, {:.3} s, {per_second:.1} tokens/s, {} MB resident (model file included)",
            embeddings.len(),
            embedded.as_secs_f64(),
            resident / 1_000_000,
        );
    }
    Ok(())
}

/// The texts of the command line, with the lines of standard input in place of `-`, or as all of them.
fn texts(arguments: &[String]) -> Result<Vec<String>, Failure> {
    if arguments.is_empty() {
        return lines();
    }
    if arguments.iter().filter(|text| *text == "-").count() > 1 {
        return Err(Failure::Usage("standard input can be read once: give `-` only once".into()));
    }
    let mut texts = Vec::new();
    for text in arguments {
        if text == "-" {
            texts.extend(lines()?);
        } else {
            texts.push(text.clone());
        }
    }
    Ok(texts)
}

/// The lines of standard input, without their line ends (LF or CRLF).
fn lines() -> Result<Vec<String>, Failure> {
    let mut stdin = io::stdin().lock();
    if stdin.is_terminal() {
        say!("qembed-q: reading texts from the terminal, one a line; end with Ctrl-D (Windows: Ctrl-Z, Enter)");
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).map_err(|error| Failure::Input(format!("cannot read standard input: {error}")))?;
    if bytes.is_empty() {
        return Err(Failure::Input("standard input is empty: there is nothing to embed".into()));
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(i, line)| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match std::str::from_utf8(line) {
                Ok("") => Err(Failure::Input(format!("line {} of standard input is empty: remove it", i + 1))),
                Ok(line) => Ok(line.to_owned()),
                Err(error) => {
                    let at = error.valid_up_to() + 1;
                    Err(Failure::Input(format!(
                        "line {} of standard input is not valid UTF-8 (byte {at} of it)",
                        i + 1
                    )))
                }
            }
        })
        .collect()
}
