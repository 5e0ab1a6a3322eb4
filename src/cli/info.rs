//! `qembed-q info`: what a model takes of memory, and what there is.

use super::Failure;
use super::model::ModelArguments;
use bytesize::ByteSize;
use clap::Args;
use std::io::{self, Write};

#[derive(Args, Debug)]
pub(super) struct InfoArguments {
    #[command(flatten)]
    model: ModelArguments,
}

/// Prints it, one fact a line.
pub(super) fn run(arguments: &InfoArguments) -> Result<(), Failure> {
    let embedder = arguments.model.open()?;
    let memory = embedder.memory();
    let size = |bytes: u64| ByteSize(bytes).display().iec().to_string();
    let longest = memory.tokens().min(embedder.max_tokens());
    let resident = |tokens: usize| format!("{} (file {})", size(memory.resident(tokens)), size(memory.file));
    let facts = [
        ("dimensions", embedder.dimensions().to_string()),
        ("longest text", format!("{} tokens; {longest} at this memory budget", embedder.max_tokens())),
        ("device", embedder.device().to_owned()),
        ("instruction set", format!("{} on {} threads", embedder.isa(), embedder.threads())),
        ("file", size(memory.file)),
        ("memory a token", size(memory.per_token)),
        ("memory budget", size(memory.budget)),
        ("free memory", memory.available.map_or("unknown".into(), size)),
        ("resident, 32 tokens", resident(32)),
        ("resident, usual pass", resident(longest.min(embedder.pass_tokens()))),
        ("resident, longest text", resident(longest)),
    ];
    let mut out = io::stdout().lock();
    for (name, fact) in facts {
        writeln!(out, "{name:<23} {fact}")?;
    }
    if memory.available.is_some_and(|free| free < memory.file) {
        say!(
            "qembed-q: less memory is free than the file has: it runs, since its pages can be read again and again, \
             but as slowly as the disk; a smaller quantization level would fit"
        );
    }
    Ok(())
}
