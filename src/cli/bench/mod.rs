//! `qembed-q bench`: what each quantization level costs and saves, on this machine.

mod baseline;
mod measure;
mod output;
mod quality;
mod recommend;
mod report;
mod texts;

use super::Failure;
use super::model::ModelArguments;
use super::model_file::ModelFile;
use super::quantize::show_bytes;
use super::stop::clean_up_when_stopped;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use measure::{Job, Measured, median};
use qembed_q::gguf::{AtomicFile, Gguf};
use qembed_q::{Level, Quantize, quantize};
use quality::{Quality, Vectors, judge};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use texts::Texts;

#[derive(Args, Debug)]
pub(super) struct BenchArguments {
    /// Model files to compare, or names of pulled ones [default: levels of the small built-in model]
    #[arg(conflicts_with = "from")]
    files: Vec<ModelFile>,

    /// Make the levels of this file (best F16, BF16 or F32), in a temporary folder
    #[arg(long, value_name = "FILE")]
    from: Option<ModelFile>,

    /// Levels to make
    #[arg(
        long,
        value_name = "LEVEL,…",
        value_delimiter = ',',
        default_value = "Q4_K_M,Q5_K_M,Q6_K,Q8_0",
        conflicts_with = "files"
    )]
    levels: Vec<Level>,

    /// The file that the others are held against [default: the largest; of levels, the file they are made of]
    #[arg(long, value_name = "FILE", requires = "files")]
    reference: Option<ModelFile>,

    /// Compare on the lines of this file instead of the bundled texts
    #[arg(long, value_name = "FILE", conflicts_with = "eval")]
    texts: Option<PathBuf>,

    /// Compare on a retrieval set in the layout of BEIR: corpus.jsonl, queries.jsonl, qrels/test.tsv
    #[arg(long, value_name = "DIR")]
    eval: Option<PathBuf>,

    /// Dimensions to which vectors are cut [default: all, half, a quarter]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    dims: Vec<usize>,

    /// Lengths of the texts whose speed is measured
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "16,512,2048")]
    tokens: Vec<usize>,

    /// How often speed is measured, the levels in turn; medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// Form of the output
    #[arg(long, value_enum, default_value_t = Form::Table)]
    format: Form,

    /// Write a page with plots to this file, too
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,

    /// Hold the quality against what an earlier `bench --format json` wrote to this file; on a loss the exit code is 1
    #[arg(long, value_name = "FILE.json")]
    baseline: Option<PathBuf>,

    /// How much lower than in the baseline a measure of quality may be
    #[arg(long, value_name = "X", default_value_t = 0.005, requires = "baseline")]
    max_loss: f64,

    #[command(flatten)]
    model: ModelArguments,

    /// Measure one model as the file says, for the process that started this one
    #[arg(long, hide = true)]
    job: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Md,
    Csv,
    Json,
    Jsonl,
}

/// All that was found.
#[derive(Debug, Serialize, Deserialize)]
struct Findings {
    /// What the levels are levels of.
    model: String,
    /// Label of the reference.
    reference: String,
    isa: String,
    threads: usize,
    queries: usize,
    passages: usize,
    /// Bytes of memory that were free.
    free: Option<u64>,
    levels: Vec<Row>,
    recommendation: String,
}

/// A level.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    level: String,
    bytes: u64,
    bits_per_weight: f64,
    load_ms: f64,
    resident: u64,
    anonymous: Option<u64>,
    speeds: Vec<Pace>,
    quality: Vec<Quality>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pace {
    /// Length of the text.
    tokens: usize,
    ms: f64,
    tokens_per_second: f64,
}

/// A model to be measured.
struct Candidate {
    label: String,
    path: PathBuf,
    bytes: u64,
    bits: f64,
}

/// The process that is measured and the files that are made for it, for who has to clean up.
#[derive(Default)]
struct Running {
    child: Option<Child>,
    folder: Option<PathBuf>,
}

/// Measures and shows.
pub(super) fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    if let Some(job) = &arguments.job {
        return measure::run(&arguments.model, job);
    }
    if arguments.model.path()?.is_some() {
        return Err(Failure::Usage("bench takes files without --gguf: qembed-q bench a.gguf b.gguf".into()));
    }
    let texts = match (&arguments.texts, &arguments.eval) {
        (Some(file), _) => Texts::lines(file)?,
        (_, Some(folder)) => Texts::beir(folder)?,
        _ => Texts::bundled(),
    };
    let running = Arc::new(Mutex::new(Running::default()));
    let stopped = running.clone();
    clean_up_when_stopped(move || clean_up(&stopped));
    // Now, so that a path which cannot be written is not found out after an hour.
    let no_report = |path: &Path, error| Failure::Input(format!("cannot write {}: {error}", path.display()));
    let report = match &arguments.report {
        Some(path) => Some((path, AtomicFile::create(path).map_err(|error| no_report(path, error))?)),
        None => None,
    };
    let baseline = arguments.baseline.as_deref().map(baseline::read).transpose()?;
    let folder = {
        // Not to be stopped between the two.
        let mut running = running.lock().expect("no thread panics");
        let folder = tempfile::tempdir()?;
        running.folder = Some(folder.path().into());
        folder
    };

    let candidates = candidates(arguments, folder.path())?;
    let reference = reference(arguments, &candidates)?;
    let measured = measure_all(arguments, &texts, &candidates, folder.path(), &running)?;
    let vectors = |i: usize| read_vectors(&folder.path().join(format!("{i}.f32")), measured[i][0].dimensions);
    let expected = vectors(reference)?;
    let full = measured[reference][0].dimensions;
    let dims = dimensions(arguments, full)?;
    let lengths = lengths(arguments, &measured);
    let mut rows = Vec::new();
    for (i, (candidate, rounds)) in candidates.iter().zip(&measured).enumerate() {
        if rounds[0].dimensions != full {
            return Err(Failure::Input(format!(
                "{} has {} dimensions, {} has {full}: compare levels of one model",
                candidate.path.display(),
                rounds[0].dimensions,
                candidates[reference].path.display()
            )));
        }
        let found = vectors(i)?;
        let quality = dims.iter().map(|dims| judge(&expected, &found, *dims, &texts.relevant)).collect();
        rows.push(row(candidate, rounds, &lengths, quality));
    }
    let Measured { isa, threads, .. } = measured[0][0].clone();
    let mut findings = Findings {
        model: name(arguments, &candidates[reference]),
        reference: candidates[reference].label.clone(),
        isa,
        threads,
        queries: texts.queries.len(),
        passages: texts.passages.len(),
        free: free_memory(),
        levels: rows,
        recommendation: String::new(),
    };
    findings.recommendation = recommend::recommend(&findings);
    output::show(arguments.format, &findings)?;
    if let Some((path, mut file)) = report {
        let written = file.write_all(report::page(&findings).as_bytes()).and_then(|()| file.commit());
        written.map_err(|error| no_report(path, error))?;
        say!("qembed-q: report in {}", path.display());
    }
    let Some(was) = baseline else { return Ok(()) };
    let lost = baseline::losses(&was, &findings, arguments.max_loss).map_err(Failure::Input)?;
    if lost.is_empty() {
        say!("qembed-q: no measure of quality is lower than in the baseline by more than {}", arguments.max_loss);
        return Ok(());
    }
    Err(Failure::Input(format!("quality is lower than in the baseline:\n  {}", lost.join("\n  "))))
}

/// No process and no gigabytes of temporary files are left.
fn clean_up(running: &Mutex<Running>) {
    let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(child) = &mut running.child {
        let _ = child.kill();
    }
    if let Some(folder) = &running.folder {
        // More than once where the work has put one more file into it meanwhile.
        (0..100).find(|_| std::fs::remove_dir_all(folder).is_ok() || !folder.exists());
    }
    // The lock is kept, so that no other process is started.
    std::mem::forget(running);
}

/// The files named, or the levels made.
fn candidates(arguments: &BenchArguments, folder: &Path) -> Result<Vec<Candidate>, Failure> {
    let open = |path: &Path| Gguf::open(path).map_err(|error| Failure::Input(error.to_string()));
    let mut found = Vec::new();
    let mut add = |label: String, path: PathBuf| {
        let gguf = open(&path)?;
        found.push(Candidate { label, path, bytes: gguf.file_size(), bits: gguf.bits_per_value() });
        Ok::<_, Failure>(())
    };
    if !arguments.files.is_empty() {
        for file in &arguments.files {
            let path = file.path()?;
            add(path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(), path)?;
        }
        return Ok(found);
    }
    let from = arguments.from.as_ref().map(ModelFile::path).transpose()?;
    let source = match &from {
        Some(path) => open(path)?,
        None => builtin()?,
    };
    let own = source.u32("general.file_type").ok().flatten();
    let own = Level::ALL.iter().copied().find(|level| Some(level.file_type()) == own);
    let own = own.unwrap_or("F16".parse().expect("a level"));
    for level in std::iter::once(own).chain(arguments.levels.iter().copied().filter(|level| *level != own)) {
        if let (Some(path), true) = (&from, level == own) {
            add(level.to_string(), path.clone())?;
            continue;
        }
        let path = folder.join(format!("{level}.gguf"));
        let bar = ProgressBar::no_length().with_style(
            ProgressStyle::with_template("{bar:40} {msg}, {eta} left").expect("a template without a fault"),
        );
        bar.set_message(format!("making {level}"));
        let progress = show_bytes(&bar);
        let mut options = Quantize::new(level);
        options.force = true;
        options.progress = Some(&progress);
        let done = quantize(&source, &path, &options);
        bar.finish_and_clear();
        done.map_err(|error| Failure::Input(format!("{error} (temporary files go where TMPDIR says)")))?;
        add(level.to_string(), path)?;
    }
    Ok(found)
}

#[cfg(feature = "builtin")]
fn builtin() -> Result<Gguf, Failure> {
    say!(
        "qembed-q: no file named: these are levels of the small built-in model, made of its Q8_0, which they are held \
         against; to know what Q8_0 itself loses, take a file in F16, with --from"
    );
    qembed_models::builtin().map_err(|error| Failure::Input(error.to_string()))
}

#[cfg(not(feature = "builtin"))]
fn builtin() -> Result<Gguf, Failure> {
    Err(Failure::Usage(
        "which files? Name some, or one with --from; the feature `builtin` puts a small one into the program".into(),
    ))
}

fn reference(arguments: &BenchArguments, candidates: &[Candidate]) -> Result<usize, Failure> {
    match &arguments.reference {
        Some(file) => {
            let path = file.path()?;
            let found = candidates.iter().position(|candidate| candidate.path == path);
            found.ok_or_else(|| Failure::Usage(format!("--reference {file} is none of the files")))
        }
        // What is made of a file cannot be better than it.
        None if arguments.files.is_empty() => Ok(0),
        // The first of equals.
        None => Ok((0..candidates.len()).rev().max_by_key(|i| candidates[*i].bytes).expect("a file or a level")),
    }
}

fn name(arguments: &BenchArguments, reference: &Candidate) -> String {
    let gguf = Gguf::open(&reference.path).ok();
    let named = gguf.as_ref().and_then(|gguf| gguf.str("general.name").ok().flatten().map(str::to_owned));
    named.unwrap_or_else(|| {
        let from = arguments.from.as_ref().and_then(|file| file.path().ok());
        let path = from.as_ref().unwrap_or(&reference.path);
        path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    })
}

fn dimensions(arguments: &BenchArguments, full: usize) -> Result<Vec<usize>, Failure> {
    let mut dims = arguments.dims.clone();
    if dims.is_empty() {
        dims = [full, full / 2, full / 4].into_iter().filter(|dims| *dims >= 32 || *dims == full).collect();
    }
    match dims.iter().find(|dims| **dims == 0 || **dims > full) {
        Some(wrong) => Err(Failure::Usage(format!("--dims {wrong}: this model's vectors have {full}"))),
        None => Ok(dims),
    }
}

/// In rounds, so that what disturbs the machine disturbs all alike. Of each candidate, its rounds; the first has written
/// the vectors.
fn measure_all(
    arguments: &BenchArguments,
    texts: &Texts,
    candidates: &[Candidate],
    folder: &Path,
    running: &Arc<Mutex<Running>>,
) -> Result<Vec<Vec<Measured>>, Failure> {
    let (texts_path, job_path) = (folder.join("texts.json"), folder.join("job.json"));
    std::fs::write(&texts_path, serde_json::to_vec(texts).map_err(io::Error::from)?)?;
    let bar = ProgressBar::new(candidates.len() as u64 * u64::from(arguments.rounds)).with_style(
        ProgressStyle::with_template("{bar:40} {msg}, {elapsed} so far, {eta} left")
            .expect("a template without a fault"),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut measured = vec![Vec::new(); candidates.len()];
    for round in 0..arguments.rounds {
        for (i, candidate) in candidates.iter().enumerate() {
            bar.set_message(format!("round {} of {}: {}", round + 1, arguments.rounds, candidate.label));
            let vectors = (round == 0).then(|| folder.join(format!("{i}.f32")));
            let job = Job { texts: texts_path.clone(), tokens: arguments.tokens.clone(), vectors };
            std::fs::write(&job_path, serde_json::to_vec(&job).map_err(io::Error::from)?)?;
            measured[i].push(in_its_own_process(arguments, candidate, &job_path, running)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(measured)
}

fn in_its_own_process(
    arguments: &BenchArguments,
    candidate: &Candidate,
    job: &Path,
    running: &Arc<Mutex<Running>>,
) -> Result<Measured, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bench").arg("--job").arg(job).arg("--gguf").arg(&candidate.path).args(arguments.model.passed_on());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut out = {
        let mut running = running.lock().expect("no thread panics");
        let child = running.child.insert(command.spawn()?);
        child.stdout.take().expect("it is piped")
    };
    let mut json = Vec::new();
    io::copy(&mut out, &mut json)?;
    let child = running.lock().expect("no thread panics").child.take();
    let status = child.expect("it was put there").wait()?;
    if !status.success() {
        return Err(Failure::Input(format!("{}: measuring it failed ({status})", candidate.path.display())));
    }
    serde_json::from_slice(&json).map_err(|error| Failure::Input(format!("{}: {error}", candidate.path.display())))
}

fn read_vectors(path: &Path, dimensions: usize) -> Result<Vectors, Failure> {
    let bytes = std::fs::read(path)?;
    let (values, _) = bytes.as_chunks::<4>();
    Ok(Vectors::new(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(), dimensions))
}

/// The lengths of texts whose speed was measured everywhere: not those that are too long for a model or the memory, of
/// which there may be less in one round than in another.
fn lengths(arguments: &BenchArguments, measured: &[Vec<Measured>]) -> Vec<usize> {
    let everywhere = |asked: &usize| measured.iter().flatten().all(|round| round.speed(*asked).is_some());
    let mut wanted = arguments.tokens.clone();
    wanted.sort_unstable();
    wanted.dedup();
    let (found, left): (Vec<_>, Vec<_>) = wanted.into_iter().partition(everywhere);
    for length in left {
        say!("qembed-q: texts of {length} tokens are longer than the model or the free memory allows: not measured");
    }
    found
}

fn row(candidate: &Candidate, rounds: &[Measured], lengths: &[usize], quality: Vec<Quality>) -> Row {
    let of = |value: &dyn Fn(&Measured) -> f64| median(rounds.iter().map(value).collect());
    let speed = |round: &Measured, asked: usize| round.speed(asked).expect("measured in every round").clone();
    let speeds = lengths.iter().map(|&asked| Pace {
        tokens: speed(&rounds[0], asked).tokens,
        ms: of(&|round| speed(round, asked).ms),
        tokens_per_second: of(&|round| speed(round, asked).tokens_per_second()),
    });
    Row {
        level: candidate.label.clone(),
        bytes: candidate.bytes,
        bits_per_weight: candidate.bits,
        load_ms: of(&|round| round.load_ms),
        resident: rounds.iter().map(|round| round.resident).max().unwrap_or(0),
        anonymous: rounds.iter().filter_map(|round| round.anonymous).max(),
        speeds: speeds.collect(),
        quality,
    }
}

/// Bytes that could be had.
fn free_memory() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    Some(system.available_memory()).filter(|free| *free > 0)
}
