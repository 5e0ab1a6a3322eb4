//! The options of every command that loads a model.

use super::Failure;
use bytesize::ByteSize;
use clap::Args;
use qembed_q::gguf::Access;
use qembed_q::{Embedder, LoadOptions};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(super) struct ModelArguments {
    /// Model file (any part of a split one)
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,

    /// Threads to work with [default: physical cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Instruction set: amx, avx512vnni, avxvnni, avx2 or scalar [default: $QEMBED_ISA, else the best of this CPU]
    #[arg(long, value_name = "NAME")]
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

    /// Compute what texts have in common from their start again for each; the vectors are the same
    #[arg(long)]
    no_sharing: bool,
}

const NO_MODEL: &str = "\
no model: say which with --gguf FILE.
  Get one, for instance Qwen3-Embedding-0.6B-Q8_0.gguf, from https://huggingface.co/Qwen/Qwen3-Embedding-0.6B-GGUF
  or, from the source folder, make one with random weights to try the program:
  cargo run --release --example synth -- --out tiny.gguf";

impl ModelArguments {
    /// The model file.
    pub(super) fn path(&self) -> Result<&Path, Failure> {
        self.gguf.as_deref().ok_or_else(|| Failure::Usage(NO_MODEL.into()))
    }

    /// The model, its warnings said.
    pub(super) fn open(&self) -> Result<Embedder, Failure> {
        let load = LoadOptions {
            threads: self.threads.map(usize::from),
            isa: self.isa.clone(),
            access: match (self.prefault, self.mlock, self.no_mmap) {
                (true, _, _) => Access::Prefault,
                (_, true, _) => Access::Locked,
                (_, _, true) => Access::Read,
                _ => Access::Mapped,
            },
            memory_budget: self.memory_budget.map(|size| size.as_u64()),
            share_prefixes: !self.no_sharing,
            ..LoadOptions::default()
        };
        let embedder = Embedder::open_with(self.path()?, &load)?;
        for warning in embedder.warnings() {
            say!("qembed-q: warning: {warning}");
        }
        Ok(embedder)
    }
}
