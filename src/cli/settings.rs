//! Where options come from besides the command line: variables of the environment, and files of settings.
//!
//! What stands on the command line counts most, then the environment, then `qembed-q.toml` of the current folder, then that of the
//! user's own settings.

use super::Failure;
use clap::{Arg, ArgAction, Command};
use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The name of a file of settings.
const FILE: &str = "qembed-q.toml";

/// The variable that names another file of settings.
const VARIABLE: &str = "QEMBED_CONFIG";

/// Options that are no settings, or look at their variable themselves.
const NOT: &[&str] = &["help", "version", "api-key"];

/// The command line's grammar with what the environment and the files say.
///
/// # Errors
/// A file that cannot be read, is no TOML, or sets something that there is not.
pub(super) fn settle(clap: Command) -> Result<Command, Failure> {
    let mut clap = with_environment(clap);
    // The first to set something counts.
    for path in files().iter().rev() {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            // Nobody asked for those of the folders, which may be closed to this user.
            Err(error)
                if matches!(error.kind(), NotFound | PermissionDenied) && std::env::var_os(VARIABLE).is_none() =>
            {
                continue;
            }
            Err(error) => return Err(Failure::Usage(format!("{}: {error}", path.display()))),
        };
        clap =
            with_settings(clap, &text).map_err(|problem| Failure::Usage(format!("{}: {problem}", path.display())))?;
    }
    Ok(clap)
}

/// Files of settings, the most important first.
fn files() -> Vec<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(path) => vec![path.into()],
        None => {
            let own = dirs::config_dir().map(|folder| folder.join("qembed-q").join(FILE));
            std::iter::once(Path::new(FILE).to_owned()).chain(own).collect()
        }
    }
}

/// Names live as long as the grammar, which is as long as the program.
fn kept(text: String) -> &'static str {
    text.leak()
}

/// The same, where each option `--some-thing` may be set by `QEMBED_SOME_THING`.
fn with_environment(clap: Command) -> Command {
    let clap = clap.mut_args(|arg| match arg.get_long() {
        Some(long) if !NOT.contains(&long) => {
            let name = kept(format!("QEMBED_{}", long.to_uppercase().replace('-', "_")));
            arg.env(name).hide_env(true)
        }
        _ => arg,
    });
    let names: Vec<String> = clap.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(clap, |clap, name| clap.mut_subcommand(name, with_environment))
}

/// The same with the settings of a file: options by their long names, those of one command in a table of its name.
fn with_settings(mut clap: Command, text: &str) -> Result<Command, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    for (name, value) in &table {
        if let Value::Table(of_command) = value {
            let known = clap.get_subcommands().any(|command| command.get_name() == name);
            if !known {
                return Err(format!("there is no command {name:?}"));
            }
            for (option, value) in of_command {
                let mut result = Ok(false);
                clap = clap.mut_subcommand(name, |command| {
                    let (command, set) = with_setting(command, option, value);
                    result = set;
                    command
                });
                if !result? {
                    return Err(format!("the command {name:?} has no option {option:?}"));
                }
            }
            continue;
        }
        let (mut anywhere, names) = (false, names_of_commands(&clap));
        let (with, set) = with_setting(clap, name, value);
        clap = with;
        anywhere |= set?;
        for command in names {
            let mut result = Ok(false);
            clap = clap.mut_subcommand(command, |command| {
                let (command, set) = with_setting(command, name, value);
                result = set;
                command
            });
            anywhere |= result?;
        }
        if !anywhere {
            return Err(format!("there is no option {name:?}"));
        }
    }
    Ok(clap)
}

fn names_of_commands(clap: &Command) -> Vec<String> {
    clap.get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// A command with a default of its option, if it has that.
fn with_setting(command: Command, option: &str, value: &Value) -> (Command, Result<bool, String>) {
    let is = |arg: &Arg| arg.get_long() == Some(option) && !NOT.contains(&option);
    let Some(arg) = command.get_arguments().find(|arg| is(arg)) else { return (command, Ok(false)) };
    let flag = !arg.get_action().takes_values();
    let several = matches!(arg.get_action(), ArgAction::Append);
    let values = match words(value) {
        Ok(values) if flag && !matches!(value, Value::Boolean(_)) => {
            return (command, Err(format!("{option} is set by true or false, not by {}", values.join(", "))));
        }
        Ok(values) if values.len() != 1 && !several => {
            return (command, Err(format!("{option} has one value")));
        }
        Ok(values) => values,
        Err(problem) => return (command, Err(format!("{option}: {problem}"))),
    };
    let id = arg.get_id().clone();
    let values: Vec<&'static str> = values.into_iter().map(kept).collect();
    let with = |arg: Arg| arg.default_values(values).hide_default_value(!flag).required(false);
    (command.mut_arg(id, with), Ok(true))
}

/// A value as it would stand on the command line.
fn words(value: &Value) -> Result<Vec<String>, String> {
    Ok(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Float(number) => vec![number.to_string()],
        Value::Boolean(flag) => vec![flag.to_string()],
        Value::Array(values) => values.iter().map(words).collect::<Result<Vec<_>, _>>()?.concat(),
        _ => return Err("write it as a text, a number, true or false, or a list of such".into()),
    })
}
