//! What one model takes and gives, measured in a process of its own: its memory is nobody else's, and a model that
//! fails takes nothing along.

use super::super::Failure;
use super::super::model::ModelArguments;
use super::texts::Texts;
use memory_stats::memory_stats;
use qembed_models::gguf::Gguf;
use qembed_models::tokenizer::Tokenizer;
use qembed_q::{Control, EmbedOptions, Embedder, Prompt, Truncate};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The least time for which a text is embedded again and again.
const ENOUGH: Duration = Duration::from_secs(1);
/// Texts up to so many tokens are embedded once before the clock starts, and belong to the memory that is reported.
const USUAL: usize = 512;

/// What to do, written by the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// A [`Texts`] as JSON.
    pub(super) texts: PathBuf,
    /// Lengths of texts whose speed is wanted, in tokens.
    pub(super) tokens: Vec<usize>,
    /// Where to write the vectors of the texts: 32-bit little-endian floats.
    pub(super) vectors: Option<PathBuf>,
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) dimensions: usize,
    pub(super) isa: String,
    pub(super) threads: usize,
    pub(super) load_ms: f64,
    /// Peaks over loading and embedding texts of up to 512 tokens, in bytes; the first has the mapped file in it.
    pub(super) resident: u64,
    /// Known on Linux.
    pub(super) anonymous: Option<u64>,
    pub(super) speeds: Vec<Speed>,
}

/// How fast texts of one length are, one at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Speed {
    /// The length that was asked for, and what the text really had.
    pub(super) asked: usize,
    pub(super) tokens: usize,
    /// Of one text.
    pub(super) ms: f64,
}

impl Measured {
    /// The speed at a length that was asked for, unless it was too long.
    pub(super) fn speed(&self, asked: usize) -> Option<&Speed> {
        self.speeds.iter().find(|speed| speed.asked == asked)
    }
}

impl Speed {
    pub(super) fn tokens_per_second(&self) -> f64 {
        1000.0 * self.tokens as f64 / self.ms
    }
}

/// Does the job and prints what came out.
pub(super) fn run(model: &ModelArguments, job: &Path) -> Result<(), Failure> {
    let job: Job = read(job)?;
    let texts: Texts = read(&job.texts)?;
    let watch = Watch::start();
    let began = Instant::now();
    let embedder = model.open()?;
    let load_ms = 1000.0 * began.elapsed().as_secs_f64();
    let path = model.path()?.ok_or_else(|| Failure::Usage("--job goes with --gguf".into()))?;
    let gguf = Gguf::open(path).map_err(|error| Failure::Input(error.to_string()))?;
    let samples = Samples::new(&gguf, &texts)?;
    let mut speeds = Vec::new();
    let mut peaks = None;
    let limit = embedder.max_tokens().min(embedder.memory().tokens());
    let mut lengths = job.tokens.clone();
    lengths.sort_unstable();
    for asked in lengths.into_iter().filter(|asked| *asked <= limit) {
        if asked > USUAL {
            peaks.get_or_insert_with(|| watch.peaks());
        }
        speeds.push(speed(&embedder, &samples, asked)?);
    }
    let (resident, anonymous) = peaks.unwrap_or_else(|| watch.peaks());
    if let Some(path) = &job.vectors {
        embed(&embedder, &texts, path)?;
    }
    let measured = Measured {
        dimensions: embedder.dimensions(),
        isa: embedder.isa().into(),
        threads: embedder.threads(),
        load_ms,
        resident,
        anonymous,
        speeds,
    };
    serde_json::to_writer(io::stdout().lock(), &measured).map_err(io::Error::from)?;
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::Input(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| fail(&error))?;
    serde_json::from_reader(BufReader::new(file)).map_err(|error| fail(&error))
}

/// Vectors of queries, with their instruction, then of passages.
fn embed(embedder: &Embedder, texts: &Texts, path: &Path) -> Result<(), Failure> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut failed = None;
    for (texts, prompt) in [(&texts.queries, Prompt::Query), (&texts.passages, Prompt::Document)] {
        let options = EmbedOptions::default().prompt(prompt).truncate(Truncate::Right);
        embedder.embed_each(texts, &options, &Control::default(), |_, vector, _| {
            let written = vector.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()));
            failed = failed.take().or(written.err());
        })?;
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(out.flush()?),
    }
}

fn speed(embedder: &Embedder, samples: &Samples, asked: usize) -> Result<Speed, Failure> {
    let text = samples.of(asked)?;
    let options = EmbedOptions::default();
    let mut times = Vec::new();
    if asked <= USUAL {
        embedder.embed(&[&text], &options)?;
    }
    let began = Instant::now();
    let mut tokens = 0;
    while times.is_empty() || began.elapsed() < ENOUGH {
        let start = Instant::now();
        tokens = embedder.embed(&[&text], &options)?.tokens()[0];
        times.push(1000.0 * start.elapsed().as_secs_f64());
    }
    Ok(Speed { asked, tokens, ms: median(times) })
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Texts of about any length.
struct Samples {
    tokenizer: Tokenizer,
    words: Vec<String>,
}

impl Samples {
    fn new(gguf: &Gguf, texts: &Texts) -> Result<Self, Failure> {
        let tokenizer = Tokenizer::from_gguf(gguf).map_err(|error| Failure::Input(error.to_string()))?;
        let words = texts.passages.iter().flat_map(|text| text.split_whitespace()).take(20_000).map(str::to_owned);
        Ok(Self { tokenizer, words: words.collect() })
    }

    /// Whole words of the passages, as many as have at most so many tokens.
    fn of(&self, tokens: usize) -> Result<String, Failure> {
        let text =
            |words: usize| self.words.iter().cycle().take(words).map(String::as_str).collect::<Vec<_>>().join(" ");
        let (mut least, mut most) = (1, tokens.max(2));
        while least + 1 < most {
            let middle = least.midpoint(most);
            let count = self.tokenizer.encode_for_embedding(&text(middle));
            if count.map_err(|error| Failure::Input(error.to_string()))?.len() <= tokens {
                least = middle;
            } else {
                most = middle;
            }
        }
        Ok(text(least))
    }
}

/// Looks at the memory of this process every few milliseconds.
struct Watch {
    stop: std::sync::Arc<AtomicBool>,
    peaks: std::sync::Arc<std::sync::Mutex<(u64, Option<u64>)>>,
}

impl Watch {
    fn start() -> Self {
        let watch = Self { stop: Default::default(), peaks: Default::default() };
        let (stop, peaks) = (watch.stop.clone(), watch.peaks.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let resident = memory_stats().map_or(0, |stats| stats.physical_mem as u64);
                let anonymous = anonymous();
                let mut peaks = peaks.lock().expect("no thread panics");
                peaks.0 = peaks.0.max(resident);
                peaks.1 = peaks.1.max(anonymous);
                drop(peaks);
                thread::sleep(Duration::from_millis(3));
            }
        });
        watch
    }

    /// Resident and anonymous, until now.
    fn peaks(&self) -> (u64, Option<u64>) {
        self.stop.store(true, Ordering::Relaxed);
        *self.peaks.lock().expect("no thread panics")
    }
}

/// Bytes of memory that belong to no file: `RssAnon` of /proc/self/status.
fn anonymous() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
