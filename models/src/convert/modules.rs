//! The files that sentence-transformers puts around a model: the modules that texts pass, how the last of them pools, and
//! settings.

use super::judge::{Judge, says_nothing, shown};
use super::keys::{
    ENGINE_ARGUMENTS, MODALITY, MODULES, NORMALIZE, OTHER_POOLING, POOLING, SENTENCE_BERT, SENTENCE_TRANSFORMERS,
};
use super::{ConvertError, ConvertNote, fail, read_json};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// The usual instruction of queries, as these files write it.
const QUERY: &str = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";

/// What stands around the model.
pub(super) struct Modules {
    /// Where config.json, tokenizer.json and the weights are.
    pub(super) transformer: PathBuf,
    /// Whether there is a list of modules.
    listed: bool,
    normalized: bool,
}

/// Judges `modules.json` and the modules in it.
pub(super) fn judge(folder: &Path, judge: &mut Judge) -> Result<Modules, ConvertError> {
    let path = folder.join("modules.json");
    let mut modules = Modules { transformer: folder.into(), listed: path.exists(), normalized: false };
    if !modules.listed {
        let pooling = folder.join("1_Pooling").join("config.json");
        if pooling.exists() {
            judge_pooling(&pooling, judge)?;
        }
        return Ok(modules);
    }
    let json = read_json(&path)?;
    let list = json.as_array().ok_or_else(|| fail(&path)("a list of modules is expected"))?;
    let mut kinds = Vec::new();
    for module in list {
        judge.keys(&path, "", module, &MODULES);
        let (kind, place) = (module["type"].as_str().unwrap_or_default(), module["path"].as_str().unwrap_or_default());
        if !Path::new(place).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(fail(&path)(format!("the path {place:?} leads out of the folder")));
        }
        let at = folder.join(place);
        let own = kind.strip_prefix("sentence_transformers.").and_then(|kind| kind.rsplit('.').next());
        match own {
            Some("Transformer") => modules.transformer = at,
            Some("Pooling") => judge_pooling(&at.join("config.json"), judge)?,
            Some("Normalize") => {
                modules.normalized = true;
                let own = at.join("config.json");
                // Without a folder of its own it has no settings.
                if !place.is_empty() && own.exists() {
                    judge.keys(&own, "", &read_json(&own)?, &NORMALIZE);
                }
            }
            Some("Dropout") => continue,
            _ => {
                let name = kind.rsplit('.').next().unwrap_or(kind);
                let problem = format!("module {name} ({place}) is {}: it cannot be run", shown(&module["type"]));
                judge.refuse(&path, name, problem);
                continue;
            }
        }
        kinds.extend(own);
    }
    if !matches!(kinds[..], ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"]) {
        let problem = format!("modules {}: Transformer, Pooling and perhaps Normalize are expected", kinds.join(", "));
        judge.refuse(&path, "modules.json", problem);
    }
    Ok(modules)
}

/// Only the last token can be pooled.
fn judge_pooling(path: &Path, judge: &mut Judge) -> Result<(), ConvertError> {
    let json = read_json(path)?;
    judge.keys(path, "", &json, &POOLING);
    let name = if json.get("pooling_mode").is_some() { "pooling_mode" } else { "pooling_mode_lasttoken" };
    let mode = match &json[name] {
        Value::Array(modes) if modes.len() == 1 => &modes[0],
        mode => mode,
    };
    if *mode != if name == "pooling_mode" { Value::from("lasttoken") } else { Value::from(true) } {
        judge.refuse_value(path, name, mode, OTHER_POOLING);
    }
    Ok(())
}

impl Modules {
    /// Judges the settings. `context` is the longest text in tokens, which they may make shorter.
    pub(super) fn settings(&self, folder: &Path, context: &mut usize, judge: &mut Judge) -> Result<(), ConvertError> {
        let path = folder.join("config_sentence_transformers.json");
        if path.exists() {
            let json = read_json(&path)?;
            judge.keys(&path, "", &json, &SENTENCE_TRANSFORMERS);
            self.judge_similarity(&path, &json, judge);
            let prompts = &json["prompts"];
            tell_prompts(&path, prompts, judge);
            let name = &json["default_prompt_name"];
            if name.as_str().is_some_and(|name| !says_nothing(&prompts[name])) {
                let why = "texts get no prompt unless the caller gives it";
                judge.refuse_value(&path, "default_prompt_name", name, why);
            }
        }
        let path = self.transformer.join("sentence_bert_config.json");
        let json = if path.exists() { read_json(&path)? } else { Value::Null };
        judge.keys(&path, "", &json, &SENTENCE_BERT);
        judge.keys(&path, "modality_config.text", &json["modality_config"]["text"], &MODALITY);
        for group in
            ["model_args", "model_kwargs", "config_args", "config_kwargs", "tokenizer_args", "processor_kwargs"]
        {
            judge.keys(&path, group, &json[group], &ENGINE_ARGUMENTS);
        }
        if !json["max_seq_length"].is_null() {
            shorten(&path, "max_seq_length", &json["max_seq_length"], context, judge);
        } else if self.listed {
            let path = self.transformer.join("tokenizer_config.json");
            let json = if path.exists() { read_json(&path)? } else { Value::Null };
            shorten(&path, "model_max_length", &json["model_max_length"], context, judge);
        }
        Ok(())
    }

    /// A length that is kept is lost here; of what can be done with vectors, the cosine does not depend on it.
    fn judge_similarity(&self, path: &Path, json: &Value, judge: &mut Judge) {
        let (name, value) = ("similarity_fn_name", &json["similarity_fn_name"]);
        if self.listed && !self.normalized && !says_nothing(value) && value != "cosine" {
            judge.refuse_value(path, name, value, "vectors are written with a length of 1, so only the cosine is kept");
        }
    }
}

/// Makes the longest text as short as the settings say: sentence-transformers would cut a longer one.
fn shorten(path: &Path, name: &str, limit: &Value, context: &mut usize, judge: &mut Judge) {
    // As large as 1e30 where there is none.
    match limit.as_f64() {
        Some(limit) if limit >= 1.0 => {
            let less = (limit as usize).min(*context);
            if less < *context && !judge.allows(name) {
                judge.note(ConvertNote::Shorter {
                    path: path.into(),
                    name: name.into(),
                    limit: less,
                    context: *context,
                });
                *context = less;
            }
        }
        _ if says_nothing(limit) => {}
        _ => judge.refuse_value(path, name, limit, "a positive number is expected"),
    }
}

/// Prompts are for the caller to give; those of queries are known when they are the usual ones.
fn tell_prompts(path: &Path, prompts: &Value, judge: &Judge) {
    for (name, prompt) in prompts.as_object().into_iter().flatten() {
        if !says_nothing(prompt) && prompt != QUERY {
            judge.note(ConvertNote::Prompt { path: path.into(), name: name.clone(), prompt: shown(prompt) });
        }
    }
}
