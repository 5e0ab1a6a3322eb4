//! `search`: the passages of files whose vectors lie nearest to that of a query.

use super::Failure;
use super::model::ModelArguments;
use super::similarity::cosine;
use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qembed_q::search::{Key, ObjectError, Passage, Passages, SourceError, VectorCache};
use qembed_q::{Control, EmbedOptions, Embedder, Progress, Prompt};
use serde_json::json;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// A text whose vector tells models apart.
const PROBE: &str = "The quick brown fox jumps over the lazy dog: 0123456789, {[(\"Zwölf Boxkämpfer\")]}.";

#[derive(Args, Debug)]
pub(super) struct SearchArguments {
    /// What to look for
    query: String,

    /// Where: a folder of text files, a text file, or a .jsonl file with one object a line
    #[arg(long = "in", value_name = "PATH")]
    source: PathBuf,

    /// Number of passages to show
    #[arg(long, value_name = "N", default_value = "5")]
    top: NonZeroUsize,

    /// The field of a .jsonl file that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,

    #[command(flatten)]
    model: ModelArguments,

    /// The task, put before the query as its instruction [default: that of a web search]
    #[arg(long, value_name = "TASK")]
    instruct: Option<String>,

    /// Write JSON: an array of {"score", "path", "line", "text"}
    #[arg(long)]
    json: bool,

    /// Where the vectors of passages are kept for the next search [default: the user's cache folder]
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,

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
    let embedder = arguments.model.open()?;
    let prompt = arguments.instruct.clone().map_or(Prompt::Query, Prompt::Instruct);
    let query = embedder.embed(&[&arguments.query], &EmbedOptions { prompt, ..EmbedOptions::default() })?;
    // A token has at least one byte: a passage of fewer bytes than that fits the model's context, end token included.
    let Passages { paths, passages, skipped } =
        Passages::read(&arguments.source, &arguments.field, embedder.max_tokens() - 1).map_err(unreadable)?;
    if skipped > 0 {
        let files = if skipped == 1 { "file that is" } else { "files that are" };
        say!("qembed-q: passed over {skipped} {files} no UTF-8 text, or too large");
    }
    if passages.is_empty() {
        return Err(Failure::Input(format!("{} holds no text", arguments.source.display())));
    }
    let keys: Vec<Key> = passages.iter().map(|passage| Key::of(&passage.text)).collect();
    let vectors = vectors(arguments, &embedder, &passages, &keys)?;
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

fn unreadable(error: SourceError) -> Failure {
    Failure::Input(match error {
        SourceError::Object { source: ObjectError::NoText { .. }, .. } => format!("{error} with --field"),
        error => error.to_string(),
    })
}

/// The vectors of all passages, whose keys are `keys`: those that earlier searches kept, and the others made now.
fn vectors(
    arguments: &SearchArguments,
    embedder: &Embedder,
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
    let control = Control { progress: Some(&show), ..Control::default() };
    let texts = missing.iter().map(|i| &passages[*i].text);
    let keep = |i: usize, vector: &[f32], _| cache.insert(keys[missing[i]], vector);
    let result = embedder.embed_each(texts, &EmbedOptions::default(), &control, keep);
    bar.finish_and_clear();
    result?;
    if folder.is_some()
        && let Err(error) = cache.save(keys)
    {
        say!("qembed-q: warning: cannot keep the vectors for the next search: {error}");
    }
    Ok(cache)
}

/// What the vectors of a cache file depend on besides the passages: the model, with its tokenizer and on this instruction
/// set, known by the vector it gives to [`PROBE`] and by its file as it is now; and the source, so that each has a cache
/// file of its own.
fn identity(arguments: &SearchArguments, embedder: &Embedder) -> Result<String, Failure> {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    let probe = embedder.embed(&[PROBE], &EmbedOptions::default())?;
    let bits: Vec<u32> = probe[0].iter().map(|x| x.to_bits()).collect();
    let model = arguments.model.path().map(|path| {
        let changed = path.metadata().and_then(|metadata| metadata.modified()).ok();
        (whole(path), changed)
    });
    Ok(format!("{model:?} {bits:x?} {} {:?}", embedder.file_size(), whole(&arguments.source)))
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
