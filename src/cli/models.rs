//! `qembed-q models`: which models are on this machine, and how to be rid of them.

use super::Failure;
use super::pull::confirmed;
use super::table::{Style, grid, size};
use clap::{Args, Subcommand};
use qembed_q::hub::{HubError, HubSettings, ModelName, Origin, StoredModel, removable, remove, stored};
use serde_json::json;
use std::io::{self, IsTerminal, Write};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ModelsArguments {
    /// Write JSON: an array of {"name", "level", "origin", "bytes", "files"}
    #[arg(long)]
    json: bool,

    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Subcommand, Debug)]
enum ModelsCommand {
    /// Remove a model, and of Hugging Face's cache what nothing else in it uses
    Rm(RemoveArguments),
}

#[derive(Args, Debug)]
struct RemoveArguments {
    /// Name of the model, as `qembed-q models` lists it
    #[arg(required_unless_present = "unfinished")]
    name: Option<ModelName>,

    /// Remove what was begun and is not whole, of all repositories
    #[arg(long, conflicts_with = "name")]
    unfinished: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(arguments: &ModelsArguments) -> Result<(), Failure> {
    let settings = HubSettings::from_env().map_err(failure)?;
    match &arguments.command {
        None => list(&settings, arguments.json),
        Some(ModelsCommand::Rm(arguments)) => rm(&settings, arguments),
    }
}

fn failure(error: HubError) -> Failure {
    Failure::Input(error.to_string())
}

fn origin(model: &StoredModel) -> &'static str {
    match model.origin() {
        Origin::Hub => "hub",
        Origin::OtherCommit => "hub, another commit",
        Origin::Made => "made here",
        _ => "not whole",
    }
}

fn list(settings: &HubSettings, json: bool) -> Result<(), Failure> {
    let models = stored(settings);
    let mut out = io::stdout().lock();
    if json {
        let object = |model: &StoredModel| {
            let (name, level) = (model.name().to_string(), model.level());
            json!({"name": name, "level": level, "origin": origin(model), "bytes": model.bytes(), "files": model.files()})
        };
        serde_json::to_writer(&mut out, &models.iter().map(object).collect::<Vec<_>>()).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    if models.is_empty() {
        say!(
            "qembed-q: no models in {} and {}; `qembed-q pull 0.6b` gets one",
            settings.cache.display(),
            settings.made.display()
        );
        return Ok(());
    }
    let rows = models.iter().map(|model| {
        let path = model.files().swap_remove(0).display().to_string();
        let level = model.level().unwrap_or("?").to_owned();
        [model.name().to_string(), level, size(model.bytes()), origin(model).to_owned(), path]
    });
    Ok(writeln!(out, "{}", grid(Style::Plain, &["name", "level", "size", "from", "path"], rows, &[2]))?)
}

fn rm(settings: &HubSettings, arguments: &RemoveArguments) -> Result<(), Failure> {
    let models = match &arguments.name {
        Some(name) => removable(name, settings).map_err(|error| match error {
            HubError::NotStored { name } => {
                Failure::Input(format!("{name} is not on this machine; `qembed-q models` lists what is"))
            }
            error => failure(error),
        })?,
        None => {
            let mut all = stored(settings);
            all.retain(|model| model.origin() == Origin::Unfinished);
            all
        }
    };
    for model in &models {
        for file in model.files() {
            say!("{} ({})", file.display(), origin(model));
        }
    }
    let bytes = models.iter().map(StoredModel::bytes).sum();
    if !arguments.yes {
        if !io::stdin().is_terminal() {
            return Err(Failure::Input(format!("{} would be removed (--yes)", size(bytes))));
        }
        if !confirmed(&format!("Remove {}?", size(bytes)), io::stdin().lock())? {
            return Err(Failure::Input("nothing is removed".into()));
        }
    }
    let freed = remove(&models, settings).map_err(failure)?;
    say!("qembed-q: {} are free now", size(freed));
    Ok(())
}
