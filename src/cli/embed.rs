//! The command without a subcommand: texts in, vectors out.

use super::Failure;
use super::model::ModelArguments;
use super::output::{Format, Writer};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use qembed_q::{Control, EmbedOptions, Progress, Prompt, Truncate};
use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, BufRead, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

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
    if arguments.format.is_binary() && io::stdout().is_terminal() {
        return Err(Failure::Usage("binary output would garble the terminal: redirect it to a file or a pipe".into()));
    }
    let started = Instant::now();
    let embedder = arguments.model.open()?;
    let loaded = started.elapsed();

    if arguments.texts.iter().filter(|text| *text == "-").count() > 1 {
        return Err(Failure::Usage("standard input can be read once: give `-` only once".into()));
    }
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

    // What goes wrong while texts are read or vectors are written ends the call.
    let (cancel, failure) = (AtomicBool::new(false), RefCell::new(None));
    let fail = |error: Failure| {
        cancel.store(true, Relaxed);
        failure.borrow_mut().get_or_insert(error);
    };
    let total = if arguments.texts.is_empty() || arguments.texts.iter().any(|text| text == "-") {
        None
    } else {
        Some(arguments.texts.len())
    };
    let started = Instant::now();
    let done = Cell::new(Progress::default());
    let bar = OnceCell::new();
    let show = |progress: Progress| {
        done.set(progress);
        if started.elapsed() >= Duration::from_secs(1) {
            let rate = progress.tokens as f64 / started.elapsed().as_secs_f64();
            let bar: &ProgressBar = bar.get_or_init(|| new_bar(total));
            bar.set_position(progress.texts as u64);
            bar.set_message(format!("{} tokens, {rate:.0} tokens/s", progress.tokens));
        }
    };
    let control = Control { cancel: Some(&cancel), progress: Some(&show), ..Control::default() };
    let texts = texts(&arguments.texts).map_while(|text| text.map_err(&fail).ok());
    let dimensions = arguments.dim.unwrap_or(embedder.dimensions());
    let mut writer = Writer::new(io::stdout().lock(), arguments.format, dimensions);
    let result = embedder.embed_each(texts, &options, &control, |_, vector, _| {
        if let Err(error) = writer.push(vector) {
            fail(error.into());
        }
    });
    if let Some(bar) = bar.get() {
        bar.finish_and_clear();
    }
    if let Some(failure) = failure.take() {
        return Err(failure);
    }
    result?;
    let embedded = started.elapsed();
    writer.finish()?;

    if arguments.verbose {
        let Progress { texts, tokens } = done.get();
        let per_second = tokens as f64 / embedded.as_secs_f64();
        let resident = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem);
        say!(
            "model {} ({} MB), {} on {} threads, opened in {:.3} s",
            arguments.model.name(),
            embedder.file_size() / 1_000_000,
            embedder.isa(),
            embedder.threads(),
            loaded.as_secs_f64(),
        );
        say!(
            "{texts} texts, {tokens} tokens, {:.3} s, {per_second:.1} tokens/s, {} MB resident (model file included)",
            embedded.as_secs_f64(),
            resident / 1_000_000,
        );
    }
    Ok(())
}

/// A bar where the number of texts is known; shown on a terminal only.
fn new_bar(total: Option<usize>) -> ProgressBar {
    let (bar, style) = match total {
        Some(total) => (ProgressBar::new(total as u64), "{bar:40} {pos}/{len} texts, {msg}, {eta} left"),
        None => (ProgressBar::no_length(), "{spinner} {pos} texts, {msg}, {elapsed}"),
    };
    bar.with_style(ProgressStyle::with_template(style).expect("a template without a fault"))
}

/// The texts of the command line, with the lines of standard input in place of `-`, or as all of them.
fn texts(arguments: &[String]) -> impl Iterator<Item = Result<String, Failure>> {
    let all: &[String] = if arguments.is_empty() { &[String::new()] } else { arguments };
    let of = |text: &String| -> Box<dyn Iterator<Item = Result<String, Failure>>> {
        if arguments.is_empty() || text == "-" {
            Box::new(lines())
        } else {
            Box::new(std::iter::once(Ok(text.clone())))
        }
    };
    all.iter().map(of).collect::<Vec<_>>().into_iter().flatten()
}

/// The lines of standard input as they come, without their line ends (LF or CRLF).
fn lines() -> impl Iterator<Item = Result<String, Failure>> {
    let mut stdin = io::stdin().lock();
    if stdin.is_terminal() {
        say!("qembed-q: reading texts from the terminal, one a line; end with Ctrl-D (Windows: Ctrl-Z, Enter)");
    }
    let mut number = 0;
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match stdin.read_until(b'\n', &mut line) {
            Ok(0) if number > 0 => return None,
            Ok(0) => {
                number += 1;
                return Some(Err(Failure::Input("standard input is empty: there is nothing to embed".into())));
            }
            Ok(_) => number += 1,
            Err(error) => return Some(Err(Failure::Input(format!("cannot read standard input: {error}")))),
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Some(match std::str::from_utf8(line) {
            Ok("") => Err(Failure::Input(format!("line {number} of standard input is empty: remove it"))),
            Ok(line) => Ok(line.to_owned()),
            Err(error) => {
                let at = error.valid_up_to() + 1;
                Err(Failure::Input(format!("line {number} of standard input is not valid UTF-8 (byte {at} of it)")))
            }
        })
    })
}
