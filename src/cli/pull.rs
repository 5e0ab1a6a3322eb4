//! `qembed-q pull`: a model by its name, downloaded, made where its level is not published, and verified.

use super::Failure;
use super::model_file::{pull, quoted};
use super::quantize::{byte_bar, failure, show_bytes};
use super::stop::clean_up_when_stopped;
use super::table::size;
use super::verify::show_checks;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qembed_q::gguf::Gguf;
use qembed_q::hub::{Hub, HubError, HubSettings, Make, ModelName, Note, Offer, PullProgress};
use qembed_q::{LoadOptions, Quantize, quantize};
use std::cell::OnceCell;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_long_help = HELP, after_help = "`qembed-q pull --help` says more of names, levels and what is read from the environment.")]
pub(super) struct PullArguments {
    /// Name of the model: 0.6b, 4b or 8b, or owner/repo of another, with :LEVEL if wanted; or hf:owner/repo/file.gguf
    #[arg(value_name = "NAME[:LEVEL]")]
    name: ModelName,

    /// Do not ask before a level that is not published is made of a larger one
    #[arg(long, short)]
    yes: bool,
}

const HELP: &str = "\
Names: 0.6b, 4b and 8b are Qwen/Qwen3-Embedding-0.6B-GGUF, -4B-GGUF and -8B-GGUF on huggingface.co. Wherever a model file is
taken, a name is taken too, and found on this machine only: nothing but `pull` uses the network.

Levels: without one, it is the only one that there is, or Q4_K_M, as elsewhere, or Q8_0: of 0.6b Q8_0, since no Q4_K_M of it
is published; of 4b and 8b Q4_K_M. A level that is not published is made here, of F16 (or BF16 or F32).

Files go into Hugging Face's cache, where Python finds them, and what was begun goes on where it was left, however it ended.
They are checked by size and SHA-256, and then as `qembed-q verify` does. The path is written to standard output.

Environment: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_HUB_ETAG_TIMEOUT and
HF_HUB_DOWNLOAD_TIMEOUT (seconds) as in Python; HTTPS_PROXY, NO_PROXY; SSL_CERT_FILE; QEMBED_MODELS is where levels that are
made here go.

Examples:
  qembed-q pull 0.6b && qembed-q --gguf 0.6b \"Hello, world\"
  qembed-q pull 4b:q8_0
  qembed-q pull 0.6b:q4_k_m --yes
  qembed-q pull hf:Qwen/Qwen3-Embedding-8B-GGUF/Qwen3-Embedding-8B-Q5_K_M.gguf";

/// Downloads what is not here, makes what is not published, verifies, and prints the path.
pub(super) fn run(arguments: &PullArguments) -> Result<(), Failure> {
    let name = &arguments.name;
    let again = pull(name);
    clean_up_when_stopped(move || say!("qembed-q: stopped; what has come is kept: `{again}` goes on from there"));
    let path = get(arguments).map_err(|error| match error {
        Problem::Failure(failure) => failure,
        Problem::Hub(error) => Failure::Input(format!("{error}{}", way_out(name, &error))),
    })?;
    show_checks(&path, &LoadOptions::default(), &mut anstream::stderr().lock()).map_err(|failure| match failure {
        Failure::Input(problem) => Failure::Input(format!(
            "{problem}; it stays where it is, unless `qembed-q models rm {}` removes it",
            quoted(name)
        )),
        other => other,
    })?;
    Ok(writeln!(io::stdout(), "{}", path.display())?)
}

enum Problem {
    Hub(HubError),
    Failure(Failure),
}

impl From<HubError> for Problem {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What helps with an error of the library, which knows no commands.
fn way_out(name: &ModelName, error: &HubError) -> String {
    match error {
        HubError::Short { .. } | HubError::Unreachable { .. } | HubError::Busy { .. } | HubError::Digest { .. } => {
            format!("; try `{}` again", pull(name))
        }
        HubError::Several { there, .. } => {
            format!(", as in `{}`", there[0].parse().map_or_else(|_| "qembed-q pull NAME".into(), |name| pull(&name)))
        }
        _ => String::new(),
    }
}

/// The path of the model, once it is here.
fn get(arguments: &PullArguments) -> Result<PathBuf, Problem> {
    let settings = HubSettings::from_env()?;
    let bar: OnceCell<ProgressBar> = OnceCell::new();
    let say_note = |note: &Note<'_>| {
        let line = format!("qembed-q: {note}");
        match bar.get() {
            Some(bar) => bar.suspend(|| say!("{line}")),
            None => say!("{line}"),
        }
    };
    let hub = Hub::new(&settings, Some(&say_note))?;
    let offer = hub.look(&arguments.name)?;
    if let Some(make) = offer.make() {
        if make.path.is_file() {
            say!("qembed-q: {} is there already, made here of {}", arguments.name, make.source);
            return Ok(make.path.clone());
        }
        ask_to_make(arguments, &offer, make)?;
    }
    if offer.missing() > 0 {
        say!("qembed-q: {} to download from {}", size(offer.missing()), settings.endpoint);
    }
    let show = |progress: PullProgress| {
        let bar = bar.get_or_init(|| {
            let bar = download_bar(progress.total);
            bar.set_position(progress.done);
            // What was there already is no measure of the rate.
            bar.reset_eta();
            bar.reset_elapsed();
            bar
        });
        bar.set_position(progress.done);
    };
    let fetched = hub.fetch(&offer, Some(&show));
    if let Some(bar) = bar.get() {
        bar.finish_and_clear();
    }
    let path = fetched?;
    match offer.make() {
        Some(make) => Ok(made(&arguments.name, make, &path)?),
        None => Ok(path),
    }
}

/// A bar of bytes that come, with their rate; shown on a terminal only.
fn download_bar(total: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left");
    let bar = ProgressBar::new(total).with_style(style.expect("a valid template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Goes on if whoever is there wants a level made of another.
fn ask_to_make(arguments: &PullArguments, offer: &Offer, make: &Make) -> Result<(), Failure> {
    let what = format!(
        "{} is not published; there are: {}. It can be made here of {} ({}, {} of it to download)",
        make.level,
        make.there.join(", "),
        make.source,
        size(offer.bytes()),
        size(offer.missing()),
    );
    let stdin = io::stdin();
    agreed(&what, arguments.yes, stdin.is_terminal().then(|| stdin.lock()))
}

/// Goes on if that was agreed to before, or is now, by whoever answers, if anyone does.
fn agreed(what: &str, yes: bool, answers: Option<impl BufRead>) -> Result<(), Failure> {
    if yes {
        say!("qembed-q: {what}");
        return Ok(());
    }
    let Some(answers) = answers else { return Err(Failure::Input(format!("{what} (--yes)"))) };
    say!("qembed-q: {what}");
    match confirmed("Make it?", answers)? {
        true => Ok(()),
        false => Err(Failure::Input("nothing is made".into())),
    }
}

/// Asks at the terminal, from which the answer comes.
pub(super) fn confirmed(question: &str, mut answers: impl BufRead) -> Result<bool, Failure> {
    {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
    }
    let mut answer = String::new();
    answers.read_line(&mut answer).map_err(|error| Failure::Input(format!("no answer: {error}")))?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// The level, made of another.
fn made(name: &ModelName, make: &Make, source: &Path) -> Result<PathBuf, Failure> {
    let input = Gguf::open(source).map_err(|error| Failure::Input(error.to_string()))?;
    let folder = make.path.parent().expect("a file in a folder");
    let at = |error: io::Error| Failure::Input(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(at)?;
    say!("qembed-q: making {} of {}", make.level, make.source);
    let bar = byte_bar();
    let progress = show_bytes(&bar);
    let mut options = Quantize::new(make.level);
    options.progress = Some(&progress);
    // Another `pull` of the same may have been quicker.
    options.force = true;
    let done = quantize(&input, &make.path, &options);
    bar.finish_and_clear();
    done.map_err(failure)?;
    let source = ModelName::level(name).and_then(|level| {
        let text = name.to_string();
        text.strip_suffix(level).map(|front| format!("{front}{}", make.source))
    });
    if let Some(source) = source {
        let bytes = size(input.file_size());
        say!("qembed-q: {} is kept ({bytes}); `qembed-q models rm {source}` removes it", make.source);
    }
    Ok(make.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of an answer, and what is left unread.
    fn answered(answer: &str) -> (Result<(), String>, String) {
        let mut answers = answer.as_bytes();
        let agreed = agreed("it can be made", false, Some(&mut answers)).map_err(|failure| failure.to_string());
        (agreed, io::read_to_string(answers).unwrap())
    }

    #[test]
    fn a_level_is_made_for_a_yes_alone() {
        for answer in ["y\n", "Y\n", "yes\r\n", " Yes \n", "y"] {
            assert_eq!(answered(answer), (Ok(()), String::new()), "{answer:?}");
        }
        for answer in ["n\n", "no\n", "\n", "", "yy\n", "yes, please\n", "ja\n"] {
            assert_eq!(answered(answer), (Err("nothing is made".into()), String::new()), "{answer:?}");
        }
        assert_eq!(answered("n\ny\n"), (Err("nothing is made".into()), "y\n".into()), "one question, one answer");
        assert_eq!(answered("y\nn\n"), (Ok(()), "n\n".into()));
        let failure = agreed("it can be made", false, Some(&b"\xff\n"[..])).unwrap_err();
        assert!(failure.to_string().starts_with("no answer: "), "{failure}");
    }

    #[test]
    fn nobody_is_asked_who_has_said_yes_or_is_not_there() {
        let mut answers = &b"n\n"[..];
        assert!(agreed("it can be made", true, Some(&mut answers)).is_ok());
        assert_eq!(answers, b"n\n");
        assert!(agreed("it can be made", true, None::<&[u8]>).is_ok());
        let failure = agreed("it can be made", false, None::<&[u8]>).unwrap_err();
        assert_eq!(failure.to_string(), "it can be made (--yes)");
    }
}
