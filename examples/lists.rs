//! What the library itself takes for lists of texts, beside which a server can be held.
//!
//! `cargo run --release --example lists -- --gguf model.gguf --threads 2`
//!
//! Each line of standard input is a JSON object with `texts` and perhaps an `instruction`; the answer is a line with the seconds from
//! the texts to their vectors, tokenizer and all.

use clap::Parser;
use qembed_q::{EmbedOptions, Embedder, LoadOptions, Prompt};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
#[command(about = "Time the library, a list of texts for each line of standard input")]
struct Arguments {
    #[arg(long)]
    gguf: PathBuf,
    #[arg(long)]
    isa: Option<String>,
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { gguf, isa, threads } = Arguments::parse();
    let embedder = Embedder::open_with(gguf, &LoadOptions::default().isa(isa).threads(threads))?;
    for line in std::io::stdin().lines() {
        let request: serde_json::Value = serde_json::from_str(&line?)?;
        let texts = request["texts"].as_array().ok_or("no texts")?;
        let texts: Vec<&str> = texts.iter().filter_map(|text| text.as_str()).collect();
        let prompt = request["instruction"].as_str().map_or(Prompt::Document, |task| Prompt::Instruct(task.into()));
        let options = EmbedOptions::default().prompt(prompt);
        let start = Instant::now();
        embedder.embed(&texts, &options)?;
        println!("{:.6}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
