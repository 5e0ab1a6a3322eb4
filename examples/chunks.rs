//! A long text in pieces that mean something by themselves, and one vector of all of them.
//!
//! `cargo run --release --example chunks -- README.md`

use qembed_q::corpus::{Chunking, Structure};
use qembed_q::{EmbedOptions, Embedder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("README.md".into());
    let text = std::fs::read_to_string(&path)?;
    let embedder = Embedder::builtin()?;
    let chunks = Chunking::new(200).overlap(20).chunks(&embedder, &text, Structure::of_path(path.as_ref()))?;
    let pieces: Vec<&str> = chunks.iter().map(|(_, piece)| *piece).collect();
    let vectors = embedder.embed(&pieces, &EmbedOptions::default())?;

    let mut mean = vec![0f32; vectors.dimensions()];
    for ((chunk, piece), vector) in chunks.iter().zip(vectors.iter()) {
        let (first, last) = chunk.lines;
        println!(
            "lines {first} to {last}: {} tokens, {:?} …",
            chunk.tokens.end - chunk.tokens.start,
            piece.lines().next()
        );
        mean.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
    }
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    println!("{} chunks; their mean begins with {:.4} {:.4} …", chunks.len(), mean[0] / length, mean[1] / length);
    Ok(())
}
