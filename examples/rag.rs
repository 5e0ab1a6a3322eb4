//! Retrieval for a language model: the passages of a folder that answer a question, as a prompt.
//!
//! `cargo run --release --example rag -- docs "what happens when memory is short?" | your-language-model`

use qembed_q::search::Passages;
use qembed_q::{EmbedOptions, Embedder, Prompt};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (folder, question) = (arguments.next().unwrap_or("docs".into()), arguments.next().ok_or("which question?")?);
    // The built-in model, for a first try; `Embedder::open("model.gguf")` for real work.
    let embedder = Embedder::builtin()?;

    let found = Passages::read(Path::new(&folder), "text", 600)?;
    let texts: Vec<&str> = found.passages.iter().map(|passage| passage.text.as_str()).collect();
    let vectors = embedder.embed(&texts, &EmbedOptions::default())?;
    let query = embedder.embed(&[&question], &EmbedOptions::default().prompt(Prompt::Query))?;

    let score = |i: usize| -> f32 { vectors[i].iter().zip(&query[0]).map(|(a, b)| a * b).sum() };
    let mut best: Vec<(f32, usize)> = (0..texts.len()).map(|i| (score(i), i)).collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0));

    println!("Answer the question from these passages, and name the ones that you used.\n");
    for (score, i) in best.iter().take(5) {
        let passage = &found.passages[*i];
        println!("[{}:{}, {score:.3}]\n{}\n", found.paths[passage.path].display(), passage.line, passage.text);
    }
    println!("Question: {question}");
    Ok(())
}
