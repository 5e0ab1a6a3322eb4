//! What has been understood of a folder, and what is made of the rest: an error that names it, unless the caller allows it.
//!
//! The rule: a key that says something, and is not on the list of what is known, may change the vectors. It is never
//! passed over in silence.

use super::{ConvertError, ConvertNote};
use serde_json::Value;
use std::fmt::Display;
use std::path::Path;

/// A file of a folder and what is known of its keys.
#[derive(Clone, Copy, Debug)]
pub struct KnownFile {
    /// Its name; for keys that stand in a group, the names of such groups behind it.
    pub name: &'static str,
    /// What has been understood.
    pub keys: &'static [JsonKey],
    /// Whether a key that is not listed is refused; else it is passed over.
    pub others_refused: bool,
}

/// A key that has been understood.
#[derive(Clone, Copy, Debug)]
pub struct JsonKey {
    /// Its name; in a group, that of the key alone.
    pub name: &'static str,
    /// What is done with it.
    pub treatment: JsonTreatment,
    /// Why, in a few words.
    pub why: &'static str,
}

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonTreatment {
    /// It is read, and does what it says.
    Honoured,
    /// It changes no vector.
    PassedOver,
    /// Only these values are run, as JSON with commas between them, or a list of such values; an empty list is null.
    Only(&'static str),
    /// Refused, unless its value says nothing: null, false, 0, or an empty text, list or group.
    Refused,
}

/// Collects what is refused, and tells what is allowed.
pub(super) struct Judge<'a> {
    allow: &'a [String],
    /// For each of `allow`, whether something had that name.
    used: Vec<bool>,
    note: Option<&'a dyn Fn(&ConvertNote)>,
    refused: Vec<String>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(allow: &'a [String], note: Option<&'a dyn Fn(&ConvertNote)>) -> Self {
        Self { allow, used: vec![false; allow.len()], note, refused: Vec::new() }
    }

    /// Whether a name, or a group that it stands in, is allowed.
    pub(super) fn allows(&mut self, name: &str) -> bool {
        let stands_for = |allowed: &String| match name.strip_prefix(allowed.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('.'),
            None => false,
        };
        let at = self.allow.iter().position(stands_for);
        at.is_some_and(|i| {
            self.used[i] = true;
            true
        })
    }

    /// Refuses `name` of a file, unless it is allowed.
    pub(super) fn refuse(&mut self, path: &Path, name: &str, problem: impl Display) {
        let said = format!("{}: {problem}", path.display());
        if self.allows(name) {
            self.note(ConvertNote::Allowed(said));
        } else {
            self.refused.push(said);
        }
    }

    /// Refuses a key for its value.
    pub(super) fn refuse_value(&mut self, path: &Path, name: &str, value: &Value, why: &str) {
        self.refuse(path, name, format!("{name} is {}: {why}", shown(value)));
    }

    /// Tells whoever wants to know.
    pub(super) fn note(&self, note: ConvertNote) {
        if let Some(tell) = self.note {
            tell(&note);
        }
    }

    /// Judges the keys of `json`, which is the group of that name in a file, or without a name all of it.
    pub(super) fn keys(&mut self, path: &Path, group: &str, json: &Value, file: &KnownFile) {
        if !json.is_object() && !says_nothing(json) {
            self.refuse_value(path, if group.is_empty() { "it" } else { group }, json, "a group of keys is expected");
        }
        let dot = if group.is_empty() { "" } else { "." };
        for (key, value) in json.as_object().into_iter().flatten() {
            let known = file.keys.iter().find(|known| known.name == key);
            let (good, why) = match known {
                None if file.others_refused => {
                    (says_nothing(value) || is_one(key, value), "this key is not understood")
                }
                None => continue,
                Some(known) => match known.treatment {
                    JsonTreatment::Honoured | JsonTreatment::PassedOver => continue,
                    JsonTreatment::Only(values) => (is_among(value, values), known.why),
                    JsonTreatment::Refused => (says_nothing(value), known.why),
                },
            };
            if !good {
                self.refuse_value(path, &format!("{group}{dot}{key}"), value, why);
            }
        }
    }

    /// An error if anything was refused so far.
    pub(super) fn verdict(&mut self) -> Result<(), ConvertError> {
        match std::mem::take(&mut self.refused) {
            refused if refused.is_empty() => Ok(()),
            refused => Err(ConvertError::NotUnderstood { refused }),
        }
    }

    /// What was refused so far, which may be why there is an error, or else that.
    pub(super) fn or(&mut self, error: ConvertError) -> ConvertError {
        self.verdict().err().unwrap_or(error)
    }

    /// Notes the names that were allowed without need.
    pub(super) fn unused(&self) {
        for (name, _) in self.allow.iter().zip(&self.used).filter(|(_, used)| !**used) {
            self.note(ConvertNote::Unused(name.clone()));
        }
    }
}

/// Whether a value leaves a key without effect.
pub(super) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(group) => group.is_empty(),
    }
}

/// Whether this is a factor of 1.
fn is_one(key: &str, value: &Value) -> bool {
    let last = key.rsplit(['_', '.']).next().unwrap_or(key);
    ["factor", "scale", "scaling", "multiplier"].contains(&last) && value.as_f64() == Some(1.0)
}

fn is_among(value: &Value, values: &str) -> bool {
    let known: Vec<Value> = serde_json::from_str(&format!("[{values}]")).expect("the lists of this module are JSON");
    let same = |value: &Value, other: &Value| match (value.as_f64(), other.as_f64()) {
        (Some(value), Some(other)) => value == other,
        _ => value == other,
    };
    let is_known = |value: &Value| known.iter().any(|other| same(value, other));
    match value {
        Value::Array(list) if list.is_empty() => is_known(&Value::Null),
        Value::Array(list) => list.iter().all(is_known),
        value => is_known(value),
    }
}

/// A value in a message, shortened.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 100;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
