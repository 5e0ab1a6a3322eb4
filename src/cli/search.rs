//! `search`: the passages of files whose vectors lie nearest to that of a query.

use super::Failure;
use super::input::EndWords;
use super::model::ModelArguments;
use super::similarity::cosine;
use super::stop::let_finish;
use super::task::{Named, list, named};
use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qembed_q::search::{Key, ObjectError, Passage, Passages, SourceError, VectorCache};
use qembed_q::{Control, EmbedOptions, Embedder, Error, Progress, Prompt};
use serde_json::json;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A text whose vector tells models apart.
const PROBE: &str = "The quick brown fox jumps over the lazy dog: 0123456789, {[(\"Zwölf Boxkämpfer\")]}.";

/// Files and folders that cannot be read and are named.
const NAMED: usize = 3;
/// How often vectors are saved while more are computed: so much work may be lost when the program is killed.
const SAVED_EVERY: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub(super) struct SearchArguments {
    /// What to look for
    query: String,

    /// Where: a folder of text files, a text file, or a .jsonl or .ndjson file with one object a line
    #[arg(long = "in", value_name = "PATH")]
    source: PathBuf,

    /// Number of passages to show
    #[arg(long, value_name = "N", default_value = "5")]
    top: NonZeroUsize,

    /// The field that holds the text of an object
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,

    #[command(flatten)]
    model: ModelArguments,

    /// The task, put before the query as its instruction [default: that of a web search]
    #[arg(long, value_name = "TASK")]
    instruct: Option<String>,

    /// The same by the name of a kind of work: `qembed-q --task list` shows all there are
    #[arg(long, value_name = "NAME", value_parser = named, conflicts_with = "instruct")]
    task: Option<Named>,

    /// Write JSON: an array of {"score", "path", "line", "text"}
    #[arg(long)]
    json: bool,

    /// Where the vectors of passages are kept for the next search [default: the user's cache folder]
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,

    /// Stop after so long; what is computed by then is kept for the next search [such as 90s, 30m, 8h]
    #[arg(long, value_name = "TIME", value_parser = super::texts::duration)]
    timeout: Option<Duration>,

    /// Neither use vectors of earlier searches nor keep any
    #[arg(long)]
    no_cache: bool,
}

/// A passage and its cosine to the query.
struct Hit<'a> {
    score: f32,
    path: &'a Path,
    passage: &'a Passage,
}

/// Embeds what is not in the cache, ranks, and writes the best.
pub(super) fn run(arguments: &SearchArguments) -> Result<(), Failure> {
    if let Some(Named::List) = arguments.task {
        return list().map_err(Failure::Output);
    }
    let embedder = arguments.model.open()?;
    let by_name = arguments.task.and_then(Named::prompt);
    let prompt = arguments.instruct.clone().map(Prompt::Instruct).or(by_name).unwrap_or(Prompt::Query);
    let mut end_words = EndWords::default();
    end_words.look_at(&arguments.query);
    end_words.warn();
    let query = embedder.embed(&[&arguments.query], &EmbedOptions::default().prompt(prompt))?;
    // A token has at least one byte: a passage of fewer bytes than that fits the model's context, end token included.
    let found = Passages::read(&arguments.source, &arguments.field, embedder.max_tokens() - 1).map_err(unreadable)?;
    say_what_is_passed_over(&found);
    let Passages { paths, passages, .. } = found;
    if passages.is_empty() {
        return Err(Failure::Input(format!("{} holds no text", arguments.source.display())));
    }
    let keys: Vec<Key> = passages.iter().map(|passage| Key::of(&passage.text)).collect();
    let vectors = vectors(arguments, &embedder, &paths, &passages, &keys)?;
    let mut hits: Vec<Hit<'_>> = (passages.iter().zip(&keys))
        .map(|(passage, key)| {
            let vector = vectors.get(key).unwrap_or_default();
            Hit { score: cosine(&query[0], vector), path: &paths[passage.path], passage }
        })
        .collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    hits.truncate(arguments.top.get());
    if arguments.json { write_json(&hits) } else { write_text(&hits) }.map_err(Failure::Output)
}

/// Files that are left out, each kind on a line.
fn say_what_is_passed_over(found: &Passages) {
    let kinds = [
        (found.skipped, "file that is no UTF-8 text, or too large", "files that are no UTF-8 text, or too large"),
        (found.folder_links, "link to a folder", "links to folders"),
        (found.unreadable.len(), "file or folder that cannot be read:", "files or folders that cannot be read:"),
    ];
    for (count, one, more) in kinds.into_iter().filter(|(count, ..)| *count > 0) {
        say!("qembed-q: passed over {count} {}", if count == 1 { one } else { more });
    }
    found.unreadable.iter().take(NAMED).for_each(|error| say!("  {error}"));
    if found.unreadable.len() > NAMED {
        say!("  …");
    }
}

fn unreadable(error: SourceError) -> Failure {
    Failure::Input(match error {
        SourceError::Object { source: ObjectError::NoText { .. }, .. } => format!("{error} with --field"),
        error => error.to_string(),
    })
}

/// The vectors of all passages, whose keys are `keys`: those that earlier searches kept, and the others made now. What is
/// made is kept, however this ends.
fn vectors(
    arguments: &SearchArguments,
    embedder: &Embedder,
    paths: &[PathBuf],
    passages: &[Passage],
    keys: &[Key],
) -> Result<VectorCache, Failure> {
    let folder = match &arguments.cache {
        _ if arguments.no_cache => None,
        Some(folder) => Some(folder.clone()),
        None => dirs::cache_dir().map(|folder| folder.join("qembed-q").join("search")),
    };
    let mut cache = match &folder {
        Some(folder) => VectorCache::open(folder, &identity(arguments, embedder)?, embedder.dimensions()),
        None => VectorCache::default(),
    };
    let missing: Vec<usize> = (0..keys.len()).filter(|i| cache.get(&keys[*i]).is_none()).collect();
    if missing.is_empty() {
        return Ok(cache);
    }
    // Shown on a terminal only.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} passages, {eta} left").expect("a template");
    let bar = ProgressBar::new(missing.len() as u64).with_style(style);
    let show = |progress: Progress| bar.set_position(progress.texts as u64);
    let texts = missing.iter().map(|i| &passages[*i].text);
    let mut count = 0;
    let result = let_finish(|cancel| {
        let deadline = arguments.timeout.map(|timeout| Instant::now() + timeout);
        let control = Control::default().cancel(cancel).deadline(deadline).progress(&show as &dyn Fn(_));
        let result = embedder.embed_unordered(texts, &EmbedOptions::default(), &control, |i, vector, _| {
            cache.insert(keys[missing[i]], vector);
            count += 1;
            // A failure is told at the end, if it is still one.
            let _ = cache.save_now_and_then(keys, SAVED_EVERY);
        });
        bar.finish_and_clear();
        if folder.is_some()
            && count > 0
            && let Err(error) = cache.save(keys)
        {
            say!("qembed-q: warning: cannot keep the vectors for the next search: {error}");
        } else if matches!(result, Err(Error::Cancelled | Error::DeadlineExceeded)) && folder.is_some() {
            say!(
                "qembed-q: stopped; the vectors of {count} of {} passages are kept for the next search",
                missing.len()
            );
        }
        result
    });
    match result.as_ref().err().and_then(|error| Some((error, &passages[missing[error.text()?]]))) {
        Some((error, Passage { path, line, .. })) => {
            let kept = if folder.is_some() { "; what is computed is kept for the next search" } else { "" };
            Err(Failure::Input(format!("{error} (it is the passage at {}:{line}{kept})", paths[*path].display())))
        }
        None => Ok(result.map(|()| cache)?),
    }
}

/// What the vectors of a cache file depend on besides the passages: the model, with its tokenizer and on this device and
/// instruction set, known by the vector it gives to [`PROBE`] and by its file as it is now; and the source, so that each has a
/// cache file of its own.
fn identity(arguments: &SearchArguments, embedder: &Embedder) -> Result<String, Failure> {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    let probe = embedder.embed(&[PROBE], &EmbedOptions::default())?;
    let bits: Vec<u32> = probe[0].iter().map(|x| x.to_bits()).collect();
    let model = arguments.model.path()?.map(|path| {
        let changed = path.metadata().and_then(|metadata| metadata.modified()).ok();
        (whole(&path), changed)
    });
    let (device, isa) = (embedder.device(), embedder.isa());
    Ok(format!("{model:?} {device} {isa} {bits:x?} {} {:?}", embedder.file_size(), whole(&arguments.source)))
}

fn write_json(hits: &[Hit<'_>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let object = |hit: &Hit<'_>| {
        // An f32 as it prints, not the nearest f64's seventeen digits.
        let score: f64 = hit.score.to_string().parse().unwrap_or_default();
        let (path, line, text) = (hit.path.to_string_lossy(), hit.passage.line, &hit.passage.text);
        json!({"score": score, "path": path, "line": line, "text": text})
    };
    serde_json::to_writer(&mut out, &hits.iter().map(object).collect::<Vec<_>>())?;
    writeln!(out)?;
    out.flush()
}

/// Score, place and text of each hit; colours only where a terminal shows them.
fn write_text(hits: &[Hit<'_>]) -> io::Result<()> {
    let mut out = AutoStream::auto(io::stdout().lock());
    let score = Style::new().bold().fg_color(Some(AnsiColor::Green.into()));
    let place = AnsiColor::Cyan.on_default();
    for (i, Hit { score: number, path, passage }) in hits.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{score}{number:.3}{score:#}  {place}{}:{}{place:#}", path.display(), passage.line)?;
        passage.text.lines().try_for_each(|line| writeln!(out, "    {line}"))?;
    }
    out.flush()
}
