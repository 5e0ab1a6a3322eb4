//! `tokenize` and `detokenize`: what the model sees of a text.

use super::Failure;
use super::input::{Input, OnEmpty};
use super::model::ModelArguments;
use super::stop::let_finish;
use clap::Args;
use serde_json::json;
use std::io::{self, BufWriter, Write};

#[derive(Args, Debug)]
pub(super) struct TokenizeArguments {
    /// Texts; without any, or for `-`, the lines of standard input
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,

    /// Write the number of tokens alone
    #[arg(long, conflicts_with = "json")]
    count: bool,

    /// Write an object a text: ids, and the bytes of the text that each stands for
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

#[derive(Args, Debug)]
pub(super) struct DetokenizeArguments {
    /// Ids of tokens; without any, each line of standard input has those of a text
    #[arg(value_name = "ID")]
    ids: Vec<u32>,

    #[command(flatten)]
    model: ModelArguments,
}

/// Writes the tokens of texts, a line each, without instruction and end token.
pub(super) fn tokenize(arguments: &TokenizeArguments) -> Result<(), Failure> {
    let embedder = arguments.model.open()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let_finish(|cancel| {
        let input = Input::new(&arguments.texts, OnEmpty::EndToken, cancel)?;
        for text in input.texts() {
            let spans = embedder.token_spans(&text?)?;
            if arguments.count {
                writeln!(out, "{}", spans.len())?;
            } else if arguments.json {
                let ids: Vec<_> = spans.iter().map(|span| span.id).collect();
                let bytes: Vec<_> = spans.iter().map(|span| [span.bytes.start, span.bytes.end]).collect();
                writeln!(out, "{}", json!({ "ids": ids, "bytes": bytes }))?;
            } else {
                let ids: Vec<_> = spans.iter().map(|span| span.id.to_string()).collect();
                writeln!(out, "{}", ids.join(" "))?;
            }
        }
        Ok::<_, Failure>(out.flush()?)
    })
}

/// Writes the text of tokens.
pub(super) fn detokenize(arguments: &DetokenizeArguments) -> Result<(), Failure> {
    let embedder = arguments.model.open()?;
    let mut out = io::stdout().lock();
    let mut write = |ids: &[u32]| {
        let text = embedder.decode(ids, false).map_err(|error| Failure::Input(error.to_string()))?;
        Ok::<_, Failure>(writeln!(out, "{text}")?)
    };
    if !arguments.ids.is_empty() {
        return write(&arguments.ids);
    }
    for (i, line) in io::stdin().lines().enumerate() {
        let line = line.map_err(|error| Failure::Input(format!("cannot read standard input: {error}")))?;
        let number = |word: &str| {
            word.parse()
                .map_err(|_| Failure::Input(format!("line {} of standard input: {word:?} is no id of a token", i + 1)))
        };
        let words =
            line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|word| !word.is_empty());
        write(&words.map(number).collect::<Result<Vec<u32>, _>>()?)?;
    }
    Ok(())
}
