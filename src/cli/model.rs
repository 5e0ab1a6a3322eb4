//! The options of every command that loads a model.

use super::Failure;
use super::model_file::ModelFile;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use qembed_q::corpus::Model;
use qembed_q::gguf::Access;
use qembed_q::{Device, Embedder, Isa, LoadOptions};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct ModelArguments {
    /// Model file (any part of a split one), or the name of a pulled one, such as 0.6b [default: the small built-in model]
    #[arg(long, value_name = "FILE")]
    gguf: Option<ModelFile>,

    #[command(flatten)]
    load: LoadArguments,
}

/// How to open a model, whichever it is.
#[derive(Args, Debug)]
pub(super) struct LoadArguments {
    /// Where the model runs
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = Place::Cpu)]
    device: Place,

    /// Threads of the CPU to work with [default: physical cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    #[arg(long, value_name = "NAME", help = isa_help())]
    isa: Option<String>,

    /// The most memory that a forward pass may take, such as 512M [default: half of what is free]
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<ByteSize>,

    /// Read the whole model file at once, so that nothing waits for the disk later
    #[arg(long)]
    prefault: bool,

    /// Keep the whole model file in memory, whatever else wants it (see `ulimit -l`)
    #[arg(long, conflicts_with = "prefault")]
    mlock: bool,

    /// Read the model file into memory of its own instead of mapping it
    #[arg(long, conflicts_with_all = ["prefault", "mlock"])]
    no_mmap: bool,

    /// Take the tokens of this tokenizer.json instead of the model file's own tokenizer
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,

    /// Pass over this metadata key or tensor although it is not understood; the vectors may be wrong (may be given again)
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,

    /// Compute what texts have in common from their start again for each; the vectors are the same
    #[arg(long)]
    no_sharing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Place {
    /// The processor
    Cpu,
    /// The GPU of a Mac
    Metal,
    /// Metal where `qembed-q selftest` has passed on this machine, else the processor
    Auto,
}

impl Place {
    /// As the library calls it.
    fn device(self) -> Device {
        match self {
            Place::Cpu => Device::Cpu,
            Place::Metal => Device::Metal,
            Place::Auto => Device::Auto,
        }
    }
}

fn isa_help() -> String {
    format!("Instruction set: {} [default: $QEMBED_ISA, else the best of this CPU]", Isa::names().join(", "))
}

impl LoadArguments {
    /// How to open it.
    pub(super) fn options(&self) -> LoadOptions {
        LoadOptions::default()
            .device(self.device.device())
            .threads(self.threads.map(usize::from))
            .isa(self.isa.clone())
            .access(match (self.prefault, self.mlock, self.no_mmap) {
                (true, _, _) => Access::Prefault,
                (_, true, _) => Access::Locked,
                (_, _, true) => Access::Read,
                _ => Access::Mapped,
            })
            .memory_budget(self.memory_budget.map(|size| size.as_u64()))
            .share_prefixes(!self.no_sharing)
            .tokenizer(self.tokenizer.clone())
            .allow(self.allow.clone())
    }

    /// The arguments with which another process opens a model in the same way, save the file.
    pub(super) fn passed_on(&self) -> Vec<OsString> {
        let flags = [
            (self.prefault, "--prefault"),
            (self.mlock, "--mlock"),
            (self.no_mmap, "--no-mmap"),
            (self.no_sharing, "--no-sharing"),
        ];
        let device = self.device.to_possible_value().filter(|_| self.device != Place::Cpu);
        let options = [
            (device.map(|device| device.get_name().to_owned()), "--device"),
            (self.threads.map(|n| n.to_string()), "--threads"),
            (self.isa.clone(), "--isa"),
            (self.memory_budget.map(|size| size.as_u64().to_string()), "--memory-budget"),
        ];
        let flags = flags.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.into());
        let options = options.into_iter().filter_map(|(value, name)| Some(format!("{name}={}", value?).into()));
        let allow = self.allow.iter().map(|name| format!("--allow={name}").into());
        let tokenizer = self.tokenizer.iter().flat_map(|path| ["--tokenizer".into(), path.into()]);
        flags.chain(options).chain(allow).chain(tokenizer).collect()
    }
}

impl ModelArguments {
    /// The model's name, for people.
    pub(super) fn name(&self) -> String {
        self.gguf.as_ref().map_or("built in".into(), ToString::to_string)
    }

    /// The model file, if one is named.
    pub(super) fn path(&self) -> Result<Option<PathBuf>, Failure> {
        self.gguf.as_ref().map(ModelFile::path).transpose()
    }

    /// How to open it.
    pub(super) fn options(&self) -> LoadOptions {
        self.load.options()
    }

    /// The arguments with which another process opens a model in the same way, save the file.
    pub(super) fn passed_on(&self) -> Vec<OsString> {
        self.load.passed_on()
    }

    /// The model with what it is known by, its warnings said.
    pub(super) fn open_for_corpus(&self) -> Result<Model, Failure> {
        let load = self.options();
        let model = match &self.gguf {
            Some(file) => Model::open(file.path()?, &load)?,
            None => builtin_for_corpus(&load)?,
        };
        for warning in model.embedder().warnings() {
            say!("qembed-q: warning: {warning}");
        }
        Ok(model)
    }

    /// The model, its warnings said.
    pub(super) fn open(&self) -> Result<Embedder, Failure> {
        let load = self.options();
        let embedder = match &self.gguf {
            Some(file) => Embedder::open_with(file.path()?, &load)?,
            None => builtin(&load)?,
        };
        for warning in embedder.warnings() {
            say!("qembed-q: warning: {warning}");
        }
        Ok(embedder)
    }
}

#[cfg(feature = "builtin")]
fn builtin(load: &LoadOptions) -> Result<Embedder, Failure> {
    let embedder = Embedder::builtin_with(load)?;
    say_small();
    Ok(embedder)
}

#[cfg(feature = "builtin")]
fn builtin_for_corpus(load: &LoadOptions) -> Result<Model, Failure> {
    let model = Model::builtin(load)?;
    say_small();
    Ok(model)
}

#[cfg(feature = "builtin")]
fn say_small() {
    say!(
        "qembed-q: no --gguf FILE: this is the small built-in model, good for a first try; \
         for real work get a Qwen3-Embedding file, for instance by `qembed-q pull 0.6b`, and say --gguf 0.6b"
    );
}

#[cfg(not(feature = "builtin"))]
fn builtin(_: &LoadOptions) -> Result<Embedder, Failure> {
    Err(no_model())
}

#[cfg(not(feature = "builtin"))]
fn builtin_for_corpus(_: &LoadOptions) -> Result<Model, Failure> {
    Err(no_model())
}

#[cfg(not(feature = "builtin"))]
fn no_model() -> Failure {
    Failure::Usage(
        "no model: say which with --gguf FILE.\n  \
         Get one, for instance by `qembed-q pull 0.6b`, and say --gguf 0.6b,\n  \
         or build with the feature `builtin`, which puts a small one into the program"
            .into(),
    )
}
