//! The fields of a request's body, under whatever names clients send them.

use crate::serve::refusal::{Kind, Refusal};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// What a field means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Model,
    Texts,
    Instruction,
    Task,
    InputType,
    PromptName,
    Dimensions,
    Encoding,
    OutputType,
    TooLong,
    Side,
    TruncateTokens,
    Normalize,
    Priority,
    TokenIds,
    User,
}

/// The names of each field in all dialects. Of those that a request has, the first that is not null counts.
pub(crate) const ALIASES: &[(Field, &[&str])] = &[
    (Field::Model, &["model", "model_id", "name"]),
    (Field::Texts, &["input", "inputs", "texts", "prompt", "content"]),
    (Field::Instruction, &["instruction"]),
    (Field::Task, &["task"]),
    (Field::InputType, &["input_type"]),
    (Field::PromptName, &["prompt_name"]),
    (Field::Dimensions, &["dimensions", "output_dimension"]),
    (Field::Encoding, &["encoding_format"]),
    (Field::OutputType, &["output_dtype", "embedding_types", "embedding_type", "embed_dtype"]),
    (Field::TooLong, &["truncate", "truncation"]),
    (Field::Side, &["truncation_direction", "truncation_side"]),
    (Field::TruncateTokens, &["truncate_prompt_tokens", "max_tokens"]),
    (Field::Normalize, &["normalize", "normalized", "use_activation", "embd_normalize"]),
    (Field::Priority, &["priority"]),
    (Field::TokenIds, &["token_ids"]),
    (Field::User, &["user"]),
];

/// A body: a JSON object, its values not yet looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Fields<'a>(#[serde(borrow)] HashMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// What is no JSON object.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(Refusal::new(Kind::Invalid, "the body is empty: it has to be a JSON object"));
        }
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|error| Refusal::new(Kind::Invalid, format!("the body is no JSON object: {error}")))
    }

    /// A field's value as it stands, and the name that the client has for it; `None` where it is not there, or null.
    pub(crate) fn raw(&self, field: Field) -> Option<(&'static str, &'a RawValue)> {
        let names = ALIASES.iter().find(|(other, _)| *other == field).map_or(&[][..], |(_, names)| names);
        let value = |name: &&'static str| self.0.get(*name).map(|value| (*name, *value));
        names.iter().filter_map(value).find(|(_, value)| value.get() != "null")
    }

    /// A field's value.
    ///
    /// # Errors
    /// One of the wrong kind.
    pub(crate) fn get<T: Deserialize<'a>>(&self, field: Field) -> Result<Option<(&'static str, T)>, Refusal> {
        self.raw(field).map(|(name, value)| parse(name, value).map(|value| (name, value))).transpose()
    }

    /// A field that belongs to one dialect alone.
    ///
    /// # Errors
    /// One of the wrong kind.
    pub(crate) fn own<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let value = self.0.get(name).filter(|value| value.get() != "null");
        value.map(|value| parse(name, value)).transpose()
    }

    /// Whether the request has a field of this name that is not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value.get() != "null")
    }
}

/// A value; `name` is the field's, for errors.
pub(crate) fn parse<'a, T: Deserialize<'a>>(name: &str, value: &'a RawValue) -> Result<T, Refusal> {
    serde_json::from_str(value.get()).map_err(|error| {
        // Where it stands in the value is of no use without the value.
        let text = error.to_string();
        Refusal::field(name, text.split(" at line ").next().unwrap_or(&text))
    })
}

/// A text of a request, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A text.
    Text(String),
    /// Its tokens.
    Ids(Vec<u32>),
}

/// The texts of a field: a string, a list of strings, `{"text": …}` objects or token arrays, or one token array. Tells too
/// whether it was one text alone. `most` is the limit of texts.
///
/// # Errors
/// What is none of these, names the item; too many.
pub(crate) fn items(name: &str, value: &RawValue, most: usize) -> Result<(Vec<Item>, bool), Refusal> {
    let is = |value: &RawValue, first: &[u8]| value.get().as_bytes().first().is_some_and(|c| first.contains(c));
    if !is(value, b"[") {
        return Ok((vec![item(name, value)?], true));
    }
    let values: Vec<&RawValue> = parse(name, value)?;
    let number = |value: &&RawValue| is(value, b"-0123456789");
    if values.first().is_some_and(number) {
        return Ok((vec![Item::Ids(ids(name, value)?)], true));
    }
    if values.len() > most {
        let message =
            format!("has {} items, at most {most} are taken at once: send them in several requests", values.len());
        return Err(Refusal::field(name, message));
    }
    let items = values.iter().enumerate().map(|(i, value)| item(&format!("{name}[{i}]"), value));
    Ok((items.collect::<Result<_, _>>()?, false))
}

fn item(name: &str, value: &RawValue) -> Result<Item, Refusal> {
    #[derive(Deserialize)]
    struct Object {
        text: Option<String>,
        content: Option<Vec<Part>>,
    }
    #[derive(Deserialize)]
    struct Part {
        text: Option<String>,
    }
    match value.get().as_bytes().first() {
        Some(b'"') => Ok(Item::Text(parse(name, value)?)),
        Some(b'[') => Ok(Item::Ids(ids(name, value)?)),
        Some(b'{') => {
            let object: Object = parse(name, value)?;
            let parts = object.content.into_iter().flatten().map(|part| part.text);
            let texts: Option<Vec<String>> =
                std::iter::once(object.text).filter(Option::is_some).chain(parts).collect();
            let text = texts.filter(|texts| !texts.is_empty()).map(|texts| texts.concat());
            text.map(Item::Text).ok_or_else(|| Refusal::field(name, "has no text; only texts can be embedded"))
        }
        _ => Err(Refusal::field(name, "has to be a text, or a list of tokens")),
    }
}

fn ids(name: &str, value: &RawValue) -> Result<Vec<u32>, Refusal> {
    parse(name, value).map_err(|error| Refusal {
        message: format!("{}: a token array holds numbers from 0 on", error.message),
        ..error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Result<(Vec<Item>, bool), Refusal> {
        let fields = Fields::parse(body.as_bytes())?;
        let (name, value) = fields.raw(Field::Texts).expect("texts");
        items(name, value, 3)
    }

    #[test]
    fn every_form_of_texts() {
        let text = |text: &str| Item::Text(text.into());
        assert_eq!(texts(r#"{"input": "a\n\u00e9"}"#).unwrap(), (vec![text("a\né")], true));
        assert_eq!(texts(r#"{"inputs": ["a", ""]}"#).unwrap(), (vec![text("a"), text("")], false));
        assert_eq!(texts(r#"{"input": [1, 2]}"#).unwrap(), (vec![Item::Ids(vec![1, 2])], true));
        assert_eq!(
            texts(r#"{"input": [[1], [], "x"]}"#).unwrap(),
            (vec![Item::Ids(vec![1]), Item::Ids(vec![]), text("x")], false)
        );
        assert_eq!(texts(r#"{"input": []}"#).unwrap(), (vec![], false));
        assert_eq!(texts(r#"{"input": [{"text": "a"}]}"#).unwrap(), (vec![text("a")], false));
        let parts = r#"{"inputs": [{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}"#;
        assert_eq!(texts(parts).unwrap(), (vec![text("ab")], false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, name) in [
            (r#"{"input": 7}"#, "input"),
            (r#"{"input": ["a", 7]}"#, "input[1]"),
            (r#"{"input": ["a", [1, -2]]}"#, "input[1]"),
            (r#"{"input": [1, 1.5]}"#, "input"),
            (r#"{"texts": [{"image": "x"}]}"#, "texts[0]"),
            (r#"{"texts": [{"content": [{"type": "image_url"}]}]}"#, "texts[0]"),
            (r#"{"input": ["a", "b", "c", "d"]}"#, "input"),
        ] {
            assert_eq!(texts(body).unwrap_err().param.as_deref(), Some(name), "{body}");
        }
        for body in ["", " ", "[]", "7", "{\"input\": \"a\"", "{\"input\": \"\u{0}\"}", "\u{1}"] {
            assert!(Fields::parse(body.as_bytes()).is_err() || texts(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn null_is_absent_and_every_name_is_known_once() {
        let fields = Fields::parse(br#"{"dimensions": null, "output_dimension": 64, "user": null}"#).unwrap();
        assert_eq!(fields.get::<usize>(Field::Dimensions).unwrap(), Some(("output_dimension", 64)));
        assert!(fields.get::<String>(Field::User).unwrap().is_none());
        let mut names: Vec<&str> = ALIASES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
