//! `qembed-q serve`: answers requests until it is stopped.

use super::Failure;
use super::model::LoadArguments;
use super::model_file::resolve;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use qembed_q::serve::{Address, ModelSpec, ServeError, ServeOptions, Server, Stop, Tls, TokenIds, log_to_stderr};
use qembed_q::{Empty, Error};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
pub(super) struct ServeArguments {
    /// Model to serve (may be given again): a file, the name of a pulled one, `builtin`, with a name and defaults of its own
    /// if wanted, such as small=model.gguf,input_type=query,dimensions=256 [default: the small built-in model]
    #[arg(long, value_name = "[NAME=]FILE[,KEY=VALUE…]", value_parser = ModelSpec::parse)]
    gguf: Vec<ModelSpec>,

    /// Name of the first model, instead of its file's
    #[arg(long, value_name = "NAME")]
    served_model_name: Option<String>,

    /// Host or address to listen at
    #[arg(long, default_value = "127.0.0.1")]
    host: String,

    /// Port to listen at; 0 is any free one
    #[arg(long, default_value_t = 30000)]
    port: u16,

    /// Listen at a Unix socket instead
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port", "systemd"])]
    unix: Option<PathBuf>,

    /// Listen at the sockets that systemd hands over
    #[arg(long, conflicts_with_all = ["host", "port"])]
    systemd: bool,

    /// Speak TLS with this certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Key that requests must bring (may be given again) [default: $QEMBED_API_KEY, else any will do]
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,

    /// File of such keys, one a line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Name under which this machine may be asked over its loopback interface, besides localhost (may be given again)
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,

    /// Origin of web pages that may ask, such as https://example.com; * is all (may be given again)
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// Let all web pages ask, as --allow-origin '*' does
    #[arg(long)]
    cors: bool,

    /// Whose numbers token arrays in requests are
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t = Whose::Cl100k)]
    token_ids: Whose,

    /// Whatever a request says, a text that is too long is an error
    #[arg(long)]
    strict_length: bool,

    /// What becomes of an empty text [default: what the API has it: an error, or the vector of the end token]
    #[arg(long, value_name = "WHAT", value_enum)]
    empty: Option<EmptyText>,

    /// The most texts of a request
    #[arg(long, value_name = "N", default_value_t = 2048)]
    max_items: usize,

    /// The most bytes of a request
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    max_body: ByteSize,

    /// The most texts that wait; more are told to come again
    #[arg(long, value_name = "N", default_value_t = 65536)]
    max_queue: usize,

    /// Memory for results, so that the same text again costs nothing; 0 keeps none
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    cache_size: ByteSize,

    /// Folder in which results are kept from run to run
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// Seconds that a request may take [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Seconds after which a connection without requests is closed
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "120")]
    idle_timeout: Duration,

    /// Seconds that the head of a request may take, from its first byte
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    head_timeout: Duration,

    /// Seconds for which a body may be waited for while nothing of it comes
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    body_timeout: Duration,

    /// Seconds in which what is in flight is finished when the server is stopped
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    drain: Duration,

    /// Log lines as JSON
    #[arg(long)]
    log_json: bool,

    /// Log the texts of requests too
    #[arg(long)]
    log_texts: bool,

    /// Say what would listen where, with which memory, and end
    #[arg(long)]
    check: bool,

    /// Ask the server that listens there for its health, and end: 0 if it answers requests, 1 if it does not
    #[arg(long, conflicts_with_all = ["check", "systemd", "tls_cert"])]
    ping: bool,

    #[command(flatten)]
    load: LoadArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Whose {
    /// Those of OpenAI's embedding models, as LangChain sends them
    Cl100k,
    /// The model's own
    Model,
    /// Token arrays are refused
    Reject,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EmptyText {
    /// An error
    Error,
    /// The vector of the end token
    EndToken,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "is no number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl ServeArguments {
    fn options(&self) -> Result<ServeOptions, Failure> {
        let mut models = self.gguf.clone();
        for path in models.iter_mut().filter_map(|model| model.path.as_mut()) {
            *path = resolve(path)?;
        }
        if let Some(name) = &self.served_model_name {
            if models.is_empty() {
                models.push(ModelSpec::default());
            }
            models[0].name = Some(name.clone());
        }
        let address = match &self.unix {
            Some(path) => Address::Unix(path.clone()),
            None if self.systemd => Address::Inherited,
            None => Address::Tcp(self.host.clone(), self.port),
        };
        let tls = self.tls_cert.clone().zip(self.tls_key.clone());
        let mut origins = self.allow_origin.clone();
        origins.extend(self.cors.then(|| "*".to_owned()));
        // Results and bodies count too: what is left is for passes.
        let load = self.load.options();
        let budget = load.memory_budget;
        let besides = self.cache_size.as_u64() + 4 * self.max_body.as_u64();
        let load = match budget {
            Some(budget) if budget <= besides => {
                return Err(Failure::Usage(format!(
                    "--memory-budget {} leaves nothing for passes beside the cache ({}) and bodies in flight ({}): raise it, or \
                     lower --cache-size or --max-body",
                    ByteSize(budget),
                    self.cache_size,
                    ByteSize(4 * self.max_body.as_u64())
                )));
            }
            budget => load.memory_budget(budget.map(|budget| budget - besides)),
        };
        Ok(ServeOptions::default()
            .address(address)
            .tls(tls.map(|(certificate, key)| Tls { certificate, key }))
            .models(models)
            .load(load)
            .max_items(self.max_items)
            .max_body(self.max_body.as_u64())
            .max_bodies(4 * self.max_body.as_u64())
            .max_queue(self.max_queue)
            .cache_size(self.cache_size.as_u64())
            .cache_dir(self.cache_dir.clone())
            .api_keys(self.keys()?)
            .allow_hosts(self.allow_host.clone())
            .allow_origins(origins)
            .timeout(self.timeout)
            .idle_timeout(self.idle_timeout)
            .head_timeout(self.head_timeout)
            .body_timeout(self.body_timeout)
            .drain(self.drain)
            .token_ids(match self.token_ids {
                Whose::Cl100k => TokenIds::Cl100k,
                Whose::Model => TokenIds::Model,
                Whose::Reject => TokenIds::Reject,
            })
            .strict_length(self.strict_length)
            .empty(self.empty.map(|empty| match empty {
                EmptyText::Error => Empty::Refuse,
                EmptyText::EndToken => Empty::EndToken,
            }))
            .log_texts(self.log_texts))
    }

    fn keys(&self) -> Result<Vec<String>, Failure> {
        let mut keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
            let before = keys.len();
            keys.extend(
                text.lines()
                    .map(str::trim)
                    .filter(|line| !line.is_empty() && !line.starts_with('#'))
                    .map(str::to_owned),
            );
            if keys.len() == before {
                return Err(Failure::Input(format!(
                    "{} holds no key: write one a line (lines that begin with # are comments), or leave out --api-key-file",
                    path.display()
                )));
            }
        }
        if keys.is_empty() {
            keys.extend(std::env::var("QEMBED_API_KEY").ok().filter(|key| !key.is_empty()));
        }
        match keys.iter().any(|key| key.is_empty()) {
            true => Err(Failure::Usage("an --api-key is empty: give it a key, or leave it out".into())),
            false => Ok(keys),
        }
    }
}

/// The option that helps with what keeps a server from starting.
pub(super) fn way_out(error: &ServeError) -> String {
    match error {
        ServeError::Model { source, .. } => match &**source {
            Error::BudgetTooSmall { .. } => " (--memory-budget, less --cache-size and four times --max-body)".into(),
            error => super::way_out(error),
        },
        _ => String::new(),
    }
}

pub(super) fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    let options = arguments.options()?;
    if arguments.ping {
        return Ok(qembed_q::serve::ping(&options.address)?);
    }
    if arguments.check {
        std::io::stdout().write_all(qembed_q::serve::check(&options)?.as_bytes())?;
        return Ok(());
    }
    log_to_stderr(arguments.log_json);
    let stop = Stop::default();
    on_signals(&stop)?;
    Server::new(options).run(&stop, |address| say!("qembed-q: listening on {address}"))?;
    Ok(())
}

/// Ctrl-C and SIGTERM end the server when what is in flight is done, a second one at once; SIGHUP has it open its models again.
#[cfg(unix)]
fn on_signals(stop: &Stop) -> Result<(), Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let stop = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => stop.reload(),
                _ if std::mem::replace(&mut stopping, true) => std::process::exit(130),
                _ => stop.stop(),
            }
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn on_signals(stop: &Stop) -> Result<(), Failure> {
    let stop = stop.clone();
    let stopping = std::sync::atomic::AtomicBool::new(false);
    let on_signal = move || match stopping.swap(true, std::sync::atomic::Ordering::SeqCst) {
        true => std::process::exit(130),
        false => stop.stop(),
    };
    ctrlc::set_handler(on_signal).map_err(|error| Failure::Input(format!("cannot be stopped by Ctrl-C: {error}")))
}
