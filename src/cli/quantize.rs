//! `qembed-q quantize`: a model file at another level.

use super::Failure;
use super::model_file::ModelFile;
use super::stop::clean_up_when_stopped;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qembed_models::not_understood;
use qembed_q::gguf::Gguf;
use qembed_q::{ByteProgress, Format, Level, Quantize, QuantizeError, quantize};
use regex_lite::Regex;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
pub(super) struct QuantizeArguments {
    /// The model file to read, best F32, F16 or BF16, or the name of a pulled one
    input: ModelFile,

    /// The file to write
    output: PathBuf,

    /// Level to write: Q2_K, Q3_K_S/M/L, Q4_0, Q4_1, Q4_K_S/M, Q5_0, Q5_1, Q5_K_S/M, Q6_K, Q8_0, F16, BF16 or F32
    #[arg(long = "type", value_name = "TYPE")]
    level: Level,

    /// Format of the matrices whose names match, before the level's own choice; may be given again, the first match counts
    #[arg(long, value_name = "REGEX=FORMAT", value_parser = override_of)]
    tensor_type: Vec<(Regex, Format)>,

    /// Replace the output if it exists
    #[arg(long)]
    force: bool,

    /// Threads to work with [default: physical cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

fn override_of(text: &str) -> Result<(Regex, Format), String> {
    let (pattern, name) = text.rsplit_once('=').ok_or("expected REGEX=FORMAT, such as attn_v=Q6_K")?;
    let format =
        Format::ALL.iter().copied().find(|format| format.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<_> =
                Format::ALL.iter().filter(|format| format.can_quantize()).map(|format| format.name()).collect();
            format!("unknown format {name:?}: choose one of {}", names.join(", "))
        })?;
    Ok((Regex::new(pattern).map_err(|error| error.to_string())?, format))
}

/// A bar of bytes done; shown on a terminal only.
pub(super) fn byte_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes} {eta} left");
    let bar = ProgressBar::no_length().with_style(style.expect("a valid template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What shows on a bar how far the work is.
pub(super) fn show_bytes(bar: &ProgressBar) -> impl Fn(ByteProgress) + Sync {
    |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    }
}

/// A failure, with the option that helps.
pub(super) fn failure(error: QuantizeError) -> Failure {
    let way_out = if matches!(error, QuantizeError::Exists(_)) { " (--force)" } else { "" };
    Failure::Input(format!("{error}{way_out}"))
}

/// Quantizes, with a bar on a terminal.
pub(super) fn run(arguments: &QuantizeArguments) -> Result<(), Failure> {
    let input = Gguf::open(arguments.input.path()?).map_err(|error| Failure::Input(error.to_string()))?;
    if input.tensors().any(|tensor| tensor.shape.len() > 1 && tensor.format.is_some_and(|format| !format.is_float())) {
        say!(
            "qembed-q: warning: {} is quantized already: what it has lost stays lost; start from F16 or F32 if you can",
            arguments.input
        );
    }
    for item in not_understood(&input) {
        say!("qembed-q: kept, but not understood by embedding: {item}");
    }
    for (regex, _) in &arguments.tensor_type {
        if !input.tensors().any(|tensor| regex.is_match(&tensor.name)) {
            return Err(Failure::Usage(format!(
                "--tensor-type {regex}: no tensor has such a name; `qembed-q inspect {}` lists them",
                arguments.input
            )));
        }
    }
    clean_up_when_stopped(|| ());
    let bar = byte_bar();
    let choose =
        |name: &str| arguments.tensor_type.iter().find(|(regex, _)| regex.is_match(name)).map(|(_, format)| *format);
    let progress = show_bytes(&bar);
    let mut options = Quantize::new(arguments.level);
    options.choose = Some(&choose);
    options.threads = arguments.threads.map_or(options.threads, usize::from);
    options.force = arguments.force;
    options.progress = Some(&progress);
    let done = quantize(&input, &arguments.output, &options);
    bar.finish_and_clear();
    done.map_err(failure)?;
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    let (before, after) = (input.file_size(), size(&arguments.output));
    say!(
        "qembed-q: {}: {}, {:.1} % of {}",
        arguments.output.display(),
        bytesize::ByteSize(after).display().iec(),
        100.0 * after as f64 / before as f64,
        bytesize::ByteSize(before).display().iec(),
    );
    Ok(())
}
