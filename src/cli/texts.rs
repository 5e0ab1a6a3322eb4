//! The options that say how texts are embedded.

use super::Failure;
use super::input::OnEmpty;
use super::task::{Named, list, named};
use clap::{Args, ValueEnum};
use qembed_q::{EmbedOptions, Empty, Prompt, Truncate};
use std::time::Duration;

#[derive(Args, Debug)]
pub(super) struct TextArguments {
    /// The texts are search queries: put the default instruction before each
    #[arg(long, conflicts_with = "instruct")]
    query: bool,

    /// The texts are queries of this task: put it before each as the instruction
    #[arg(long, value_name = "TASK")]
    instruct: Option<String>,

    /// The texts are of this kind of work: put its instruction before each; `list` shows all there are
    #[arg(long, value_name = "NAME", value_parser = named, conflicts_with_all = ["query", "instruct"])]
    task: Option<Named>,

    /// Cut vectors to N dimensions, then normalize them [default: the model's own]
    #[arg(long, value_name = "N")]
    pub(super) dim: Option<usize>,

    /// Cut texts that are longer than the model's context, at this end, instead of refusing them
    #[arg(long, value_name = "END")]
    truncate: Option<TruncateEnd>,

    /// What becomes of an empty text; blank lines at the very end of the input are none
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnEmpty::Error)]
    pub(super) empty: OnEmpty,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TruncateEnd {
    Left,
    Right,
}

impl TextArguments {
    /// Whether the tasks were asked for, which are written then.
    pub(super) fn shows_tasks(&self) -> Result<bool, Failure> {
        let asked = matches!(self.task, Some(Named::List));
        if asked {
            list().map_err(Failure::Output)?;
        }
        Ok(asked)
    }

    /// How to embed.
    pub(super) fn options(&self) -> EmbedOptions {
        EmbedOptions::default()
            .prompt(match (&self.instruct, self.task, self.query) {
                (Some(task), ..) => Prompt::Instruct(task.clone()),
                (None, Some(task), _) => task.prompt().unwrap_or_default(),
                (None, None, true) => Prompt::Query,
                (None, None, false) => Prompt::Document,
            })
            .dimensions(self.dim)
            .truncate(self.truncate.map(|end| match end {
                TruncateEnd::Left => Truncate::Left,
                TruncateEnd::Right => Truncate::Right,
            }))
            .empty(match self.empty {
                OnEmpty::Error => Empty::Refuse,
                // What is skipped is embedded all the same, so that texts count as in the input. It costs a token a pass.
                OnEmpty::Skip | OnEmpty::EndToken => Empty::EndToken,
            })
    }
}

/// For clap: a time such as 90s, 30m or 8h; without a letter, seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let seconds = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write it as 90s, 30m or 8h".into()),
    };
    let number: f64 = text[..text.len() - unit.len()].parse().map_err(|_| "write it as 90s, 30m or 8h")?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}
