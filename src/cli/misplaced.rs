//! Names of commands where they are none: behind an option, or misspelt. Such a word would be embedded as a text, and its
//! vector be taken for the answer of the command.

use clap::Command;
use std::ffi::OsString;

/// The first word of a command line that is neither an option nor the value of one.
pub(super) struct FirstWord<'a> {
    word: &'a str,
    /// The option that stands before it.
    option: Option<&'a str>,
    /// Whether something stands behind it.
    more: bool,
}

/// Of the words after the program's name; none behind `--`, where all are texts, nor where help is asked for.
///
/// `clap` is the whole command, built.
pub(super) fn first_word<'a>(clap: &Command, words: &'a [OsString]) -> Option<FirstWord<'a>> {
    let all = || std::iter::once(clap).chain(clap.get_subcommands()).flat_map(Command::get_arguments);
    let takes_value = |long: Option<&str>, short: Option<char>| {
        let named = |arg: &&clap::Arg| match (long, short) {
            (Some(long), _) => arg.get_long() == Some(long),
            (_, Some(short)) => arg.get_short() == Some(short),
            _ => false,
        };
        all().find(named).is_some_and(|arg| arg.get_action().takes_values())
    };
    let mut option = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let word = word.to_str()?;
        let value_follows = match word.strip_prefix("--") {
            _ if ["--", "--help", "-h", "--version", "-V"].contains(&word) => return None,
            Some(long) => !long.contains('=') && takes_value(Some(long), None),
            // Of several short ones, the last may take a value.
            None if word.starts_with('-') && word.len() > 1 => takes_value(None, word.chars().last()),
            None => return Some(FirstWord { word, option, more: words.len() > 0 }),
        };
        option = option.or(Some(word));
        if value_follows {
            words.next();
        }
    }
    None
}

/// What to say when an option stands before the name of a command.
pub(super) fn option_before_command(clap: &Command, first: &FirstWord<'_>) -> Option<String> {
    let FirstWord { word, option, .. } = *first;
    let (option, _) = (option?, clap.find_subcommand(word)?);
    Some(format!(
        "`{option}` stands before `{word}`, which is a command: a command comes first and then its options, as in \
         `qembed-q {word} {option} …` (`qembed-q help {word}` lists them); to embed the word {word:?}, write it after `--`"
    ))
}

/// What to say when the first word is nearly the name of a command.
pub(super) fn misspelt_command(clap: &Command, first: &FirstWord<'_>) -> Option<String> {
    let word = first.word.to_lowercase();
    let names = clap.get_subcommands().map(Command::get_name).filter(|name| *name != "help");
    // A second slip makes too many other words of a short one, and some of a longer one that stands alone.
    let allowed = |name: &str| match name.len() {
        8.. => 2,
        6.. if first.more && name.starts_with(&word[..word.chars().next().map_or(0, char::len_utf8)]) => 2,
        _ => 1,
    };
    let near = |name: &&str| strsim::osa_distance(&word, name) <= allowed(name) && first.word != *name;
    let name = names.min_by_key(|name| strsim::osa_distance(&word, name)).filter(near)?;
    Some(format!("{:?} is taken for a text; the command is `{name}`", first.word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Arguments;
    use clap::CommandFactory;

    fn said(line: &str) -> (Option<String>, Option<String>) {
        let mut clap = Arguments::command();
        clap.build();
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let first = first_word(&clap, &words);
        let say =
            |say: fn(&Command, &FirstWord<'_>) -> Option<String>| first.as_ref().and_then(|first| say(&clap, first));
        (say(option_before_command), say(misspelt_command))
    }

    /// Of every command behind every option, with and without a value.
    #[test]
    fn a_command_behind_an_option_is_refused_whatever_both_are() {
        let mut clap = Arguments::command();
        clap.build();
        let options = std::iter::once(&clap).chain(clap.get_subcommands()).flat_map(Command::get_arguments);
        let mut lines = Vec::new();
        for option in options.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
            let long = option.get_long().map(|long| format!("--{long}"));
            let names = long.into_iter().chain(option.get_short().map(|short| format!("-{short}")));
            lines.extend(names.flat_map(|name| match option.get_action().takes_values() {
                true if name.starts_with("--") => vec![format!("{name} info"), format!("{name}=info")],
                true => vec![format!("{name} info")],
                false => vec![name],
            }));
        }
        assert!(lines.len() > 30, "{lines:?}");
        for name in clap.get_subcommands().map(Command::get_name) {
            for line in &lines {
                let (problem, _) = said(&format!("{line} {name} a b"));
                let option = line.split(' ').next().unwrap();
                assert!(problem.is_some_and(|said| said.contains(option) && said.contains(name)), "{line} {name}");
            }
        }
    }

    #[test]
    fn commands_in_their_place_and_texts_are_not() {
        for line in [
            "info --gguf m",
            "help info",
            "hello info",
            "--dim 3 hello info",
            "-- info",
            "-v -- info",
            "--gguf info",
            "--help info",
            "-V info",
            "--dim=3",
            "- info",
            "",
            "--query informal",
        ] {
            assert_eq!(said(line).0, None, "{line}");
        }
    }

    #[test]
    fn what_looks_like_a_command_gets_a_hint() {
        for (line, name) in [
            ("serch x", "search"),
            ("serch", "search"),
            ("saerch x --in d", "search"),
            ("Search x", "search"),
            ("--gguf m inof", "info"),
            ("similartiy a b", "similarity"),
            ("simlarty a", "similarity"),
            ("serhc x", "search"),
            ("quantise in out", "quantize"),
            ("verfiy", "verify"),
            ("bensh", "bench"),
        ] {
            assert!(said(line).1.is_some_and(|said| said.contains(&format!("`{name}`"))), "{line}");
        }
        for line in [
            "hello world",
            "search x",
            "help",
            "helo",
            "-- serch",
            "x serch",
            "research",
            "text",
            "a",
            "similar words",
            "quant",
        ] {
            assert_eq!(said(line).1, None, "{line}");
        }
    }
}
