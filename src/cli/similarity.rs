//! `similarity`: the cosine of every text with every other.

use super::Failure;
use super::input::EndWords;
use super::model::ModelArguments;
use clap::Args;
use qembed_q::{EmbedOptions, Embeddings};
use std::io::{self, Write};

#[derive(Args, Debug)]
pub(super) struct SimilarityArguments {
    /// Texts to compare
    #[arg(value_name = "TEXT", required = true, num_args = 2..)]
    texts: Vec<String>,

    #[command(flatten)]
    model: ModelArguments,

    /// Cut vectors to N dimensions, then normalize them [default: the model's own]
    #[arg(long, value_name = "N")]
    dim: Option<usize>,

    /// Write the matrix as JSON: an array of rows
    #[arg(long)]
    json: bool,
}

/// Embeds the texts and writes the matrix of their similarities.
pub(super) fn run(arguments: &SimilarityArguments) -> Result<(), Failure> {
    let embedder = arguments.model.open()?;
    let mut end_words = EndWords::default();
    arguments.texts.iter().for_each(|text| end_words.look_at(text));
    end_words.warn();
    let options = EmbedOptions::default().dimensions(arguments.dim);
    let matrix = matrix(&embedder.embed(&arguments.texts, &options)?);
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &matrix).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write_table(&mut out, &matrix, &arguments.texts)?;
    }
    Ok(out.flush()?)
}

/// [texts × texts]
fn matrix(embeddings: &Embeddings) -> Vec<Vec<f32>> {
    embeddings.iter().map(|a| embeddings.iter().map(|b| cosine(a, b)).collect()).collect()
}

/// The cosine of two vectors of length 1: their product, within what a cosine can be.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    product.clamp(-1.0, 1.0) as f32
}

/// A row for each text: its number, its cosines and its first line.
fn write_table(out: &mut impl Write, matrix: &[Vec<f32>], texts: &[String]) -> io::Result<()> {
    write!(out, "   ")?;
    (1..=matrix.len()).try_for_each(|i| write!(out, " {i:>6}"))?;
    writeln!(out)?;
    for (i, (row, text)) in matrix.iter().zip(texts).enumerate() {
        write!(out, "{:>3}", i + 1)?;
        row.iter().try_for_each(|cosine| write!(out, " {cosine:>6.3}"))?;
        writeln!(out, "  {}", text.lines().next().unwrap_or_default())?;
    }
    Ok(())
}
