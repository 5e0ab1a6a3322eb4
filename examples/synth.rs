//! Writes a random-weight Qwen3-Embedding model with real shapes, for trying things out and for measurements.
//!
//! `cargo run --release --example synth -- --shape 0.6b --type Q4_K_M --out model.gguf`

use clap::Parser;
use qembed_models::Level;
use qembed_models::gguf::Gguf;
use qembed_models::synth::{Dims, Spec, write};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Write a random-weight Qwen3-Embedding model")]
struct Arguments {
    /// 0.6b, 4b, 8b or tiny; single dimensions can be changed: tiny,layers=3,head_dim=32
    #[arg(long, default_value = "tiny")]
    shape: Dims,
    /// Quantization level, such as Q4_K_M, Q8_0 or F16
    #[arg(long = "type", default_value = "Q4_K_M")]
    level: Level,
    /// Seed of the weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// GGUF file whose tokenizer to take (default: every byte is a token)
    #[arg(long)]
    vocab: Option<PathBuf>,
    /// File to write
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let vocabulary = arguments.vocab.map(Gguf::open).transpose()?;
    let spec =
        Spec { dims: arguments.shape, level: arguments.level, seed: arguments.seed, vocabulary: vocabulary.as_ref() };
    write(&spec, &arguments.out)?;
    let size = std::fs::metadata(&arguments.out)?.len();
    eprintln!(
        "wrote {} ({} MB, {}, random weights)",
        arguments.out.display(),
        size / 1_000_000,
        arguments.level.name()
    );
    Ok(())
}
