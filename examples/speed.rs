//! Tokens per second of forward passes alone, for comparisons: no start-up, no tokenizer, the file in the page cache.
//!
//! `cargo run --release --example speed -- --gguf model.gguf --texts 8 --tokens 512`
//!
//! Prints one figure a line. It answers each line of standard input, so that a script can alternate it with another engine.

use clap::Parser;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_models::gguf::Gguf;
use qembed_models::{Batch, Qwen3};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
#[command(about = "Measure forward passes, one for each line of standard input")]
struct Arguments {
    #[arg(long)]
    gguf: PathBuf,
    #[arg(long)]
    isa: Option<String>,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Texts in a batch
    #[arg(long, default_value_t = 1)]
    texts: usize,
    /// Tokens of each text
    #[arg(long, default_value_t = 512)]
    tokens: usize,
    /// Passes a figure is made of
    #[arg(long, default_value_t = 1)]
    passes: usize,
}

/// Tokens of a pass of the library, unless a text has more.
const PASS: usize = 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let backend = CpuBackend::new(Isa::select(arguments.isa.as_deref())?, arguments.threads);
    let model = Qwen3::load(&Gguf::open(&arguments.gguf)?, backend, &[])?;
    let text = |text| (0..arguments.tokens).map(|i| ((i * 7 + text) % 1000) as u32).collect::<Vec<_>>();
    let texts: Vec<_> = (0..arguments.texts).map(text).collect();
    // As the library cuts them.
    let together = (PASS / arguments.tokens.max(1)).max(1);
    let batches: Vec<_> = texts.chunks(together).map(Batch::separate).collect();
    let pass = || {
        let all = (0..arguments.passes).flat_map(|_| &batches);
        all.into_iter().try_for_each(|batch| model.forward(batch).map(drop))
    };
    pass()?;
    for line in std::io::stdin().lines() {
        line?;
        let start = Instant::now();
        pass()?;
        println!("{:.2}", (arguments.passes * texts.len() * arguments.tokens) as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
