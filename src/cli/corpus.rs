//! `embed`: files of rows in, a file of vectors out.

use super::Failure;
use super::input::OnEmpty;
use super::model::ModelArguments;
use super::stop::let_finish;
use super::texts::TextArguments;
use crate::say;
use clap::{Args, ValueEnum};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use qembed_q::corpus::read::{InputFormat, Keep, Source, TextOf};
use qembed_q::corpus::write::OutputFormat;
use qembed_q::corpus::{
    Chunking, DimensionsError, Dtype, Job, JobControl, JobError, JobProgress, JournalError, Part, Pool, Stage, Summary,
};
use qembed_q::gguf::AtomicFile;
use qembed_q::{EmbedOptions, Error};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Where nobody watches a bar, a line every so often.
const SAY_EVERY: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CorpusArguments {
    /// File, folder, pattern such as 'data/*.csv', or `-` for standard input (may be given again)
    #[arg(short, long, value_name = "INPUT", required = true)]
    input: Vec<PathBuf>,

    /// File to write; its name tells the form, unless --format does
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// What the input is [default: what the names of files tell; lines for standard input]
    #[arg(long, value_name = "FORM", value_parser = clap::value_parser!(InputForm))]
    input_format: Option<InputForm>,

    /// Each file of text is one text, instead of a text a line
    #[arg(long)]
    whole_file: bool,

    /// Texts end with a NUL byte, as `find -print0` writes names
    #[arg(short = '0', long, conflicts_with_all = ["whole_file", "input_format"])]
    null: bool,

    /// What separates the fields of CSV files
    #[arg(long, value_name = "CHARACTER")]
    separator: Option<char>,

    /// The field to embed, or a template of fields such as '{title}\n{body}'
    #[arg(long, value_name = "FIELD", default_value = "text")]
    text: String,

    /// The field that names a row [default: the number of the row, from 0]
    #[arg(long, value_name = "FIELD")]
    id: Option<String>,

    /// Other fields that go along: `all`, or names with commas between them
    #[arg(long, value_name = "FIELDS")]
    keep: Option<String>,

    /// The field that holds the instruction of a row; where it is empty, the instruction of all is taken
    #[arg(long, value_name = "FIELD")]
    instruction_field: Option<String>,

    #[command(flatten)]
    texts: TextArguments,

    /// Cut texts up where they have borders: tokens=512,overlap=64
    #[arg(long, value_name = "HOW", value_parser = chunking)]
    chunk: Option<Chunking>,

    /// What becomes of the vectors of a text's chunks
    #[arg(long, value_enum, value_name = "HOW", default_value_t = PoolArgument::None, requires = "chunk")]
    chunk_pool: PoolArgument,

    /// Form of the output
    #[arg(long, value_name = "FORM", help = format_help())]
    format: Option<OutputFormat>,

    /// What a value of a vector is: f32, f16, int8 or ubinary (a bit, eight in a byte)
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Dtype,

    /// Write files of N rows each: FILE-00000, FILE-00001 and so on
    #[arg(long, value_name = "N")]
    shard_rows: Option<NonZero<u64>>,

    /// Do one share of the rows, so that several machines do all: 3/8. `qembed-q merge` puts the outputs together
    #[arg(long, value_name = "N/OF", value_parser = part)]
    part: Option<Part>,

    /// Go on where an interrupted run stopped; the output is what it would have been, byte for byte
    #[arg(long)]
    resume: bool,

    /// Take vectors over from this earlier output (parquet, sqlite) where the text is the same
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,

    /// Replace the output if it exists, and throw away what an interrupted run has left
    #[arg(long, conflicts_with = "resume")]
    force: bool,

    /// What becomes of a row that cannot be embedded
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnError::Stop)]
    on_error: OnError,

    /// Make sure that no two rows have the same id, as they never may in a database
    #[arg(long, requires = "id")]
    unique_ids: bool,

    /// Stop after so long, as Ctrl-C would; `--resume` goes on [such as 90s, 30m, 8h]
    #[arg(long, value_name = "TIME", value_parser = super::texts::duration)]
    timeout: Option<Duration>,

    #[command(flatten)]
    model: ModelArguments,
}

const EXAMPLES: &str = "\
Examples:
  qembed-q embed --input passages.txt --output passages.npy
  qembed-q embed --input books.csv --text '{title}\\n{summary}' --id isbn --keep all --output books.parquet
  qembed-q embed --input docs --whole-file --chunk tokens=512,overlap=64 --output docs.db
  qembed-q embed --input books.csv --output books.parquet --resume

Exit codes: 0 done, 1 the work failed, 2 the command line is wrong, 3 done, but rows were passed over (--on-error skip),
130 stopped; then --resume goes on.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnError {
    /// It ends the work before anything is computed
    Stop,
    /// It is named in OUTPUT.errors.jsonl, and the exit code is 3
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PoolArgument {
    /// Each chunk is a record of its own
    None,
    /// A text has one vector: their mean
    Mean,
    /// A text has one vector: of each value the greatest
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum InputForm {
    /// A text a line
    Lines,
    /// A JSON object, or a string, a line
    Jsonl,
    /// An array of such
    Json,
    /// Comma-separated values; the first line names the fields
    Csv,
    /// The same separated by tabs
    Tsv,
    Parquet,
    /// Requests as OpenAI's batches take them
    OpenaiBatch,
}

fn format_help() -> String {
    format!("Form of the output: {} [default: what its name tells]", OutputFormat::names())
}

/// For clap: `tokens=512,overlap=64`, or `512`.
fn chunking(text: &str) -> Result<Chunking, String> {
    let (mut tokens, mut overlap) = (None, 0);
    for part in text.split(',') {
        let (name, value) = part.split_once('=').unwrap_or(("tokens", part));
        let value = value.trim().parse().map_err(|_| format!("{value:?} is no number of tokens"))?;
        match name.trim() {
            "tokens" => tokens = Some(value),
            "overlap" => overlap = value,
            name => return Err(format!("there is no {name:?} here: write tokens=512,overlap=64")),
        }
    }
    let tokens = tokens.ok_or("how many tokens may a chunk have? Write tokens=512,overlap=64")?;
    Ok(Chunking::new(tokens).overlap(overlap))
}

/// For clap: `3/8`.
fn part(text: &str) -> Result<Part, String> {
    let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    let part = numbers.and_then(|(number, of)| Part::new(number, of));
    part.ok_or_else(|| "write which part of how many, from 1: 3/8".into())
}

impl CorpusArguments {
    fn source(&self) -> Result<Source, Failure> {
        let text: TextOf = self.text.parse().map_err(|error| Failure::Usage(format!("--text: {error}")))?;
        let mut source = Source::new(&self.input).text(text).whole_file(self.whole_file);
        source.keep = match self.keep.as_deref() {
            None => Keep::Nothing,
            Some("all") => Keep::All,
            Some(names) => Keep::Columns(names.split(',').map(|name| name.trim().to_owned()).collect()),
        };
        source.id.clone_from(&self.id);
        source.instruction.clone_from(&self.instruction_field);
        source.separator = match self.separator {
            None => None,
            Some(character) if character.is_ascii() => Some(character as u8),
            Some(_) => return Err(Failure::Usage("--separator is one character of ASCII".into())),
        };
        source.format = match self.input_format {
            _ if self.null => Some(InputFormat::Nul),
            // Answers are of requests.
            None if self.format == Some(OutputFormat::OpenaiBatch) => Some(InputFormat::OpenAiBatch),
            None => None,
            Some(InputForm::Lines) => Some(InputFormat::Lines),
            Some(InputForm::Jsonl) => Some(InputFormat::JsonLines),
            Some(InputForm::Json) => Some(InputFormat::Json),
            Some(InputForm::Csv) => Some(InputFormat::Csv),
            Some(InputForm::Tsv) => Some(InputFormat::Tsv),
            Some(InputForm::Parquet) => Some(InputFormat::Parquet),
            Some(InputForm::OpenaiBatch) => Some(InputFormat::OpenAiBatch),
        };
        Ok(source)
    }

    fn options(&self) -> Result<EmbedOptions, Failure> {
        if self.texts.empty == OnEmpty::Skip {
            return Err(Failure::Usage(
                "--empty skip is for single texts; here --on-error skip passes rows over".into(),
            ));
        }
        Ok(self.texts.options())
    }

    fn format(&self) -> Result<OutputFormat, Failure> {
        self.format.or_else(|| OutputFormat::of_path(&self.output)).ok_or_else(|| {
            let name = self.output.display();
            let names = OutputFormat::names();
            Failure::Usage(format!("{name} does not tell its form: say with --format which of {names}"))
        })
    }
}

/// Embeds the rows of files and writes their vectors to a file.
pub(super) fn run(arguments: &CorpusArguments) -> Result<(), Failure> {
    if arguments.texts.shows_tasks()? {
        return Ok(());
    }
    let format = arguments.format()?;
    let mut source = arguments.source()?;
    let started = Instant::now();
    let input = StandardInput::keep(arguments, &mut source)?;
    let files = source.files().map_err(JobError::from)?;
    if files.passed_over() > 0 {
        say!(
            "qembed-q: {} files are passed over, since their names tell no form (--input-format)",
            files.passed_over()
        );
    }
    let model = arguments.model.open_for_corpus()?;
    let pool = match arguments.chunk_pool {
        PoolArgument::None => Pool::None,
        PoolArgument::Mean => Pool::Mean,
        PoolArgument::Max => Pool::Max,
    };
    let job = Job::new(files, &arguments.output, format)
        .dtype(arguments.dtype)
        .embed(arguments.options()?)
        .chunking(arguments.chunk.map(|how| how.pool(pool)))
        .skip_errors(arguments.on_error == OnError::Skip)
        .unique_ids(arguments.unique_ids)
        .shard_rows(arguments.shard_rows)
        .part(arguments.part)
        .update(arguments.update.clone())
        .resume(arguments.resume)
        .overwrite(arguments.force);
    let summary = let_finish(|cancel| {
        let result = embed(&job, &model, cancel, arguments.timeout);
        let journal = job.journal();
        if let Err(JobError::Embed(Error::Cancelled | Error::DeadlineExceeded)) = &result
            && journal.exists()
        {
            say!(
                "qembed-q: stopped; what is done is kept in {}: the same command with --resume goes on",
                journal.display()
            );
        }
        result
    })?;
    input.forget();
    tell(&summary, started.elapsed());
    match summary.errors {
        Some(path) => Err(Failure::PassedOver { rows: summary.failed, path }),
        None => Ok(()),
    }
}

fn embed(
    job: &Job,
    model: &qembed_q::corpus::Model,
    cancel: &AtomicBool,
    timeout: Option<Duration>,
) -> Result<Summary, JobError> {
    let shown = Shown::new();
    let show = |progress: JobProgress| shown.show(progress);
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let control = JobControl::default().cancel(cancel).deadline(deadline).progress(&show as &dyn Fn(_));
    let result = job.run(model, &control);
    shown.end();
    result
}

/// What was done, for people.
fn tell(summary: &Summary, took: Duration) {
    let Summary { rows, vectors, resumed, reused, tokens, .. } = summary;
    let mut words = format!("qembed-q: {rows} rows, {vectors} vectors, {tokens} tokens in {:.1} s", took.as_secs_f64());
    if *resumed > 0 {
        words += &format!("; {resumed} rows were done before");
    }
    if *reused > 0 {
        words += &format!("; {reused} vectors were taken over");
    }
    say!("{words}");
    if let Some(stale) = summary.stale.first() {
        let count = summary.stale.len();
        say!("qembed-q: warning: {} and {} more are of an earlier run: remove them", stale.display(), count - 1);
    }
}

/// Standard input, kept in a file beside the output, since it is read more than once.
struct StandardInput(Option<PathBuf>);

impl StandardInput {
    fn keep(arguments: &CorpusArguments, source: &mut Source) -> Result<Self, Failure> {
        if !arguments.input.iter().any(|input| input == Path::new("-")) {
            return Ok(Self(None));
        }
        let mut path = arguments.output.clone().into_os_string();
        path.push(".input");
        let path = PathBuf::from(path);
        let shown = path.display();
        if arguments.resume && path.is_file() {
            say!("qembed-q: standard input is not read: {shown} has what it was");
        } else {
            let kept = AtomicFile::create(&path).and_then(|mut file| {
                io::copy(&mut io::stdin().lock(), &mut file)?;
                file.commit()
            });
            kept.map_err(|error| Failure::Input(format!("cannot keep standard input in {shown}: {error}")))?;
        }
        source.standard_input = Some(path.clone());
        Ok(Self(Some(path)))
    }

    fn forget(self) {
        if let Some(path) = self.0
            && let Err(error) = std::fs::remove_file(&path)
        {
            say!("qembed-q: warning: {} is of no more use and cannot be removed: {error}", path.display());
        }
    }
}

/// A bar on a terminal; elsewhere a line now and then.
struct Shown {
    terminal: bool,
    bar: RefCell<Option<(Stage, ProgressBar)>>,
    began: Cell<(Option<Stage>, Instant, u64)>,
    said: Cell<Instant>,
}

impl Shown {
    fn new() -> Self {
        let now = Instant::now();
        let terminal = io::stderr().is_terminal();
        Self { terminal, bar: RefCell::default(), began: Cell::new((None, now, 0)), said: Cell::new(now) }
    }

    fn show(&self, progress: JobProgress) {
        let JobProgress { stage, rows, of, tokens, .. } = progress;
        if self.began.get().0 != Some(stage) {
            self.began.set((Some(stage), Instant::now(), rows));
        }
        let (_, since, first) = self.began.get();
        let seconds = since.elapsed().as_secs_f64();
        let what = match stage {
            Stage::Looking => "looked at",
            Stage::Embedding => "embedded",
            _ => "written",
        };
        let rate =
            (stage == Stage::Embedding && seconds > 0.0).then(|| format!(", {:.0} tokens/s", tokens as f64 / seconds));
        let rate = rate.unwrap_or_default();
        if say::is_json() {
            if self.said.get().elapsed() >= SAY_EVERY {
                self.said.set(Instant::now());
                let per_second = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
                let stage = format!("{stage:?}").to_lowercase();
                say::object(json!({
                    "stage": stage, "rows": rows, "of": of, "tokens": tokens, "tokens_per_second": per_second.round(),
                }));
            }
        } else if self.terminal {
            let mut bar = self.bar.borrow_mut();
            if bar.as_ref().is_none_or(|(of, _)| *of != stage) {
                if let Some((_, bar)) = bar.take() {
                    bar.finish_and_clear();
                }
                *bar = Some((stage, new_bar(of)));
            }
            if let Some((_, bar)) = &*bar {
                bar.set_position(rows);
                bar.set_message(format!("{what}{rate}"));
            }
        } else if self.said.get().elapsed() >= SAY_EVERY {
            self.said.set(Instant::now());
            let left = of.filter(|_| rows > first).map(|of| {
                let left = Duration::from_secs_f64(seconds / (rows - first) as f64 * of.saturating_sub(rows) as f64);
                format!(" of {of}{rate}, {} left", HumanDuration(left))
            });
            say!("qembed-q: {rows} rows{} {what}", left.unwrap_or_default());
        }
    }

    fn end(&self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let (bar, style) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:40} {pos}/{len} rows {msg}, {eta} left"),
        None => (ProgressBar::no_length(), "{spinner} {pos} rows {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(style).expect("a template without a fault"))
}

/// The options that help with an error of the library, which does not know of options.
pub(super) fn way_out(error: &JobError) -> String {
    match error {
        JobError::Exists(_) | JobError::Whole(_) => " (--force)".into(),
        JobError::Journal(JournalError::Interrupted { .. }) => " (--resume, or --force)".into(),
        JobError::Journal(JournalError::Changed { .. } | JournalError::Foreign { .. }) => " (--force)".into(),
        JobError::Text { source, .. } => match **source {
            Error::TooLong { .. } | Error::OverBudget { .. } => {
                " (--chunk tokens=512,overlap=64, --truncate right, or --on-error skip)".into()
            }
            Error::EmptyText { .. } => " (--empty end-token, or --on-error skip)".into(),
            _ => " (--on-error skip passes it over)".into(),
        },
        JobError::Dimensions { source: DimensionsError::Output { asked, .. }, .. } => {
            format!(" (--dim {asked}, --format openai-batch, or --on-error skip)")
        }
        JobError::Row(_) | JobError::Dimensions { .. } => " (--on-error skip passes it over)".into(),
        JobError::Embed(error) => super::way_out(error),
        _ => String::new(),
    }
}
