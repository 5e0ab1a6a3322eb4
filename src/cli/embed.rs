//! The command without a subcommand: texts in, vectors out.

use super::Failure;
use super::input::{EndWords, Input, OnEmpty};
use super::model::ModelArguments;
use super::output::{Format, Writer};
use super::show::show;
use super::stop::let_finish;
use super::texts::TextArguments;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qembed_q::{Control, Embedder, Error, Progress};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
pub(super) struct EmbedArguments {
    /// Texts to embed; `-` stands for the lines of standard input
    #[arg(value_name = "TEXT")]
    pub(super) texts: Vec<String>,

    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    how: TextArguments,

    /// Form of the output [default: json; on a terminal, a table of how vectors begin]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Say on standard error what was used and how long it took
    #[arg(short, long)]
    verbose: bool,
}

/// Embeds the texts and writes their vectors.
pub(super) fn run(arguments: &EmbedArguments) -> Result<(), Failure> {
    if arguments.how.shows_tasks()? {
        return Ok(());
    }
    let shows = arguments.format.is_none() && io::stdout().is_terminal();
    let format = arguments.format.unwrap_or(Format::Json);
    if format.is_binary() && io::stdout().is_terminal() {
        return Err(Failure::Usage("binary output would garble the terminal: redirect it to a file or a pipe".into()));
    }
    if arguments.how.empty == OnEmpty::Skip && !format.has_index() {
        return Err(Failure::Usage(
            "--empty skip would shift the vectors of all texts that follow; it is for --format jsonl, whose lines say to \
             which text they belong"
                .into(),
        ));
    }
    let started = Instant::now();
    let embedder = arguments.model.open()?;
    let loaded = started.elapsed();
    let started = Instant::now();
    let done = let_finish(|cancel| match shows {
        true => show_all(arguments, &embedder, cancel),
        false => embed(arguments, format, &embedder, cancel),
    })?;
    let embedded = started.elapsed();

    if arguments.verbose {
        let Progress { texts, tokens, .. } = done;
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

/// Shows the vectors of all texts, for people.
fn show_all(arguments: &EmbedArguments, embedder: &Embedder, cancel: &'static AtomicBool) -> Result<Progress, Failure> {
    let texts: Vec<String> =
        Input::new(&arguments.texts, arguments.how.empty, cancel)?.texts().collect::<Result<_, _>>()?;
    let mut end_words = EndWords::default();
    texts.iter().for_each(|text| end_words.look_at(text));
    end_words.warn();
    show(embedder, &texts, &arguments.how.options(), &Control::default().cancel(cancel))
}

/// Writes the vectors of all texts, or of those before the first that cannot be had: then they are written whole, before
/// anything is said. Ends early when `cancel` is set.
fn embed(
    arguments: &EmbedArguments,
    format: Format,
    embedder: &Embedder,
    cancel: &'static AtomicBool,
) -> Result<Progress, Failure> {
    let input = Input::new(&arguments.texts, arguments.how.empty, cancel)?;
    let options = arguments.how.options();
    let mut end_words = EndWords::default();
    if input.can_be_read_twice() {
        // What is wrong is found before hours of work.
        let texts = input.texts().inspect(|text| text.iter().for_each(|text| end_words.look_at(text)));
        before_failure(texts, |texts| embedder.check(texts, &options))?;
        end_words.warn();
    }

    let started = Instant::now();
    let writer = RefCell::new(Writer::new(format, arguments.how.dim.unwrap_or(embedder.dimensions()))?);
    // A vector that cannot be written ends the call.
    let unwritten = RefCell::new(None);
    let write = |write: &mut dyn FnMut(&mut Writer) -> io::Result<()>| {
        if unwritten.borrow().is_none()
            && let Err(error) = write(&mut writer.borrow_mut())
        {
            cancel.store(true, Relaxed);
            *unwritten.borrow_mut() = Some(error);
        }
    };
    let done = Cell::new(Progress::default());
    let bar = OnceCell::new();
    let show = |progress: Progress| {
        write(&mut |writer| writer.flush());
        done.set(progress);
        if started.elapsed() >= Duration::from_secs(1) {
            let rate = progress.tokens as f64 / started.elapsed().as_secs_f64();
            let bar: &ProgressBar = bar.get_or_init(|| new_bar(input.total()));
            bar.set_position(progress.texts as u64);
            bar.set_message(format!("{} tokens, {rate:.0} tokens/s", progress.tokens));
        }
    };
    let control = Control::default().cancel(cancel).progress(&show as &dyn Fn(_));
    let skipped = RefCell::new(VecDeque::new());
    let texts = input.texts().enumerate().map(|(i, text)| {
        text.iter().for_each(|text| end_words.look_at(text));
        if arguments.how.empty == OnEmpty::Skip && text.as_ref().is_ok_and(String::is_empty) {
            skipped.borrow_mut().push_back(i);
        }
        text
    });
    let each = |i: usize, vector: &[f32], _: usize| {
        let next = skipped.borrow().front().copied();
        if next == Some(i) {
            skipped.borrow_mut().pop_front();
        } else {
            write(&mut |writer| writer.push(i, vector));
        }
    };
    let mut result = before_failure(texts, |texts| embedder.embed_each(texts, &options, &control, each));
    if cancel.load(Relaxed) {
        // Reading has ended early, and so with success.
        result = Err(Error::Cancelled.into());
    }
    if let Some(bar) = bar.get() {
        bar.finish_and_clear();
    }
    if !input.can_be_read_twice() {
        end_words.warn();
    }
    let (writer, written) = (writer.into_inner(), unwritten.into_inner().map_or(Ok(()), Err));
    let count = writer.count();
    // Where nothing was computed, nothing is written, which nobody takes for a result.
    let finished = if result.is_ok() || count > 0 { writer.finish() } else { Ok(()) };
    match (result, written.and(finished)) {
        (Ok(()), Ok(())) => Ok(done.get()),
        (Err(failure), Ok(())) if count == 0 => Err(failure),
        (Err(failure), Ok(())) => {
            if matches!(failure, Failure::Embed(Error::Cancelled)) {
                say!("qembed-q: stopped; {count} vectors are written");
            }
            Err(Failure::Midway { count, failure: Box::new(failure) })
        }
        (Err(failure), Err(error)) if !matches!(failure, Failure::Embed(Error::Cancelled)) => {
            say!("qembed-q: {failure}");
            Err(error.into())
        }
        (_, Err(error)) => Err(error.into()),
    }
}

/// Gives the texts up to the first that cannot be had, whose failure ends the work, if that does not fail before.
fn before_failure<'a>(
    texts: impl Iterator<Item = Result<String, Failure>> + 'a,
    work: impl FnOnce(Box<dyn Iterator<Item = String> + '_>) -> Result<(), Error>,
) -> Result<(), Failure> {
    let mut failure = None;
    let texts = texts.map_while(|text| text.map_err(|error| failure = Some(error)).ok());
    work(Box::new(texts))?;
    failure.map_or(Ok(()), Err)
}

/// A bar where the number of texts is known; shown on a terminal only.
fn new_bar(total: Option<usize>) -> ProgressBar {
    let (bar, style) = match total {
        Some(total) => (ProgressBar::new(total as u64), "{bar:40} {pos}/{len} texts, {msg}, {eta} left"),
        None => (ProgressBar::no_length(), "{spinner} {pos} texts, {msg}, {elapsed}"),
    };
    bar.with_style(ProgressStyle::with_template(style).expect("a template without a fault"))
}
