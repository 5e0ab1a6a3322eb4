//! A corpus from a file of rows to a file of vectors, resumed where an earlier run was stopped.
//!
//! `cargo run --release --example corpus -- passages.jsonl passages.parquet`

use qembed_q::LoadOptions;
use qembed_q::corpus::read::{Keep, Source};
use qembed_q::corpus::write::OutputFormat;
use qembed_q::corpus::{Job, JobControl, JobProgress, Model};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (input, output) = arguments.next().zip(arguments.next()).ok_or("corpus INPUT OUTPUT")?;
    let model = Model::builtin(&LoadOptions::default())?;
    let format = OutputFormat::of_path(&output).ok_or("what form is the output?")?;

    // The field `text` of each row is embedded, the others go along. Without a journal, `resume` begins anew.
    let files = Source::new([input]).keep(Keep::All).files()?;
    let job = Job::new(files, output, format).skip_errors(true).resume(true);
    let show = |progress: JobProgress| eprintln!("{:?}: {} rows", progress.stage, progress.rows);
    let summary = job.run(&model, &JobControl::default().progress(&show as &dyn Fn(_)))?;
    eprintln!("{} vectors, {} rows failed", summary.vectors, summary.failed);
    Ok(())
}
