//! What the command without a subcommand shows on a terminal, where nobody reads a thousand numbers.

use super::Failure;
use super::similarity::cosine;
use super::table::{Style, grid};
use qembed_q::{Control, EmbedOptions, Embedder, Embeddings, Progress};
use std::io::{self, Write};

/// Values of a vector that are shown.
const VALUES: usize = 4;
/// Texts between which cosines are shown.
const COMPARED: usize = 10;
/// Characters of a text that are shown.
const SHOWN: usize = 40;

/// Embeds texts and shows their vectors' first values, their lengths in tokens, and how near they are to each other.
pub(super) fn show(
    embedder: &Embedder,
    texts: &[String],
    options: &EmbedOptions,
    control: &Control,
) -> Result<Progress, Failure> {
    let vectors = embedder.embed_with(texts, options, control)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", table(texts, &vectors))?;
    writeln!(
        out,
        "\nAll {} values: --format json, or any pipe or file in place of the terminal.",
        vectors.dimensions()
    )?;
    let mut progress = Progress::default();
    (progress.texts, progress.tokens) = (vectors.len(), vectors.tokens().iter().sum());
    Ok(progress)
}

/// A row for each text.
fn table(texts: &[String], vectors: &Embeddings) -> String {
    let compared = if (2..=COMPARED).contains(&texts.len()) { texts.len() } else { 0 };
    let mut head = vec!["".to_owned(), "text".into(), "tokens".into(), "vector".into()];
    head.extend((1..=compared).map(|i| format!("cosine to {i}")));
    let rows =
        texts.iter().zip(vectors.iter()).zip(vectors.tokens()).enumerate().map(|(i, ((text, vector), tokens))| {
            let values: Vec<_> = vector.iter().take(VALUES).map(|x| format!("{x:.4}")).collect();
            let mut cells =
                vec![(i + 1).to_string(), start(text), tokens.to_string(), format!("{} …", values.join(" "))];
            cells.extend((0..compared).map(|other| format!("{:.3}", cosine(vector, &vectors[other]))));
            cells
        });
    let right: Vec<usize> = std::iter::once(2).chain(4..4 + compared).collect();
    grid(Style::Plain, &head, rows, &right)
}

/// How a text begins, on one line.
fn start(text: &str) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let start: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() { start + "…" } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_by_its_start() {
        assert_eq!(start("a\nb\tc"), "a b c");
        assert_eq!(start(&"ä".repeat(SHOWN)), "ä".repeat(SHOWN));
        assert_eq!(start(&"ä".repeat(SHOWN + 1)), "ä".repeat(SHOWN) + "…");
    }
}
