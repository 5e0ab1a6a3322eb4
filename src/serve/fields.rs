//! The fields of a request's body, under whatever names clients send them.

use crate::serve::refusal::{Kind, Refusal};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;

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
        self.all(field).next()
    }

    /// A field's values under all of its names.
    pub(crate) fn all(&self, field: Field) -> impl Iterator<Item = (&'static str, &'a RawValue)> {
        let names = ALIASES.iter().find(|(other, _)| *other == field).map_or(&[][..], |(_, names)| names);
        let value = |name: &&'static str| self.0.get(*name).map(|value| (*name, *value));
        names.iter().filter_map(value).filter(|(_, value)| value.get() != "null")
    }

    /// A field's value.
    ///
    /// # Errors
    /// One of the wrong kind, also under a name that does not count.
    pub(crate) fn get<T: Deserialize<'a>>(&self, field: Field) -> Result<Option<(&'static str, T)>, Refusal> {
        let mut values = self.all(field).map(|(name, value)| parse(name, value).map(|value| (name, value)));
        let first = values.next().transpose()?;
        values.try_for_each(|value| value.map(drop))?;
        Ok(first)
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

/// A whole number, also one that is written as 256.0, as some languages do; one beyond 64 bits is the nearest within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole(pub(crate) i64);

impl<'a> Deserialize<'a> for Whole {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, n: i64) -> Result<Whole, E> {
                Ok(Whole(n))
            }

            fn visit_u64<E: Error>(self, n: u64) -> Result<Whole, E> {
                Ok(Whole(i64::try_from(n).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: Error>(self, n: f64) -> Result<Whole, E> {
                if n.fract() == 0.0 { Ok(Whole(n as i64)) } else { Err(E::invalid_type(Unexpected::Float(n), &self)) }
            }
        }
        deserializer.deserialize_i64(Number)
    }
}

/// A text of a request, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A text.
    Text(String),
    /// Its tokens.
    Ids(Vec<u32>),
}

impl Item {
    /// Its bytes in memory.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ids(ids) => size_of_val(&ids[..]),
        }
    }
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
            let text = match parse::<Object>(name, value)? {
                Object { text: Some(_), content: Some(_) } => {
                    return Err(Refusal::field(name, "has both text and content: send one of them"));
                }
                Object { text, content: None } => text,
                Object { text: None, content: Some(parts) } if parts.is_empty() => None,
                Object { text: None, content: Some(parts) } => parts.into_iter().map(|part| part.text).collect(),
            };
            text.map(Item::Text).ok_or_else(|| Refusal::field(name, "has no text; only texts can be embedded"))
        }
        _ => Err(Refusal::field(name, "has to be a text, or a list of tokens")),
    }
}

/// The numbers of a token array.
///
/// # Errors
/// What is none.
pub(crate) fn ids(name: &str, value: &RawValue) -> Result<Vec<u32>, Refusal> {
    let numbers: Vec<Whole> = parse(name, value).map_err(|error| Refusal {
        message: format!("{}: a token array holds numbers from 0 on", error.message),
        ..error
    })?;
    let wrong = |n| Refusal::field(name, format!("{n} is no token: a token array holds numbers from 0 on"));
    numbers.into_iter().map(|Whole(n)| u32::try_from(n).map_err(|_| wrong(n))).collect()
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
        assert_eq!(texts(r#"{"input": [1.0, 2e1]}"#).unwrap(), (vec![Item::Ids(vec![1, 20])], true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, name) in [
            (r#"{"input": 7}"#, "input"),
            (r#"{"input": ["a", 7]}"#, "input[1]"),
            (r#"{"input": ["a", [1, -2]]}"#, "input[1]"),
            (r#"{"input": [1, 1.5]}"#, "input"),
            (r#"{"input": [1, 4294967296]}"#, "input"),
            (r#"{"input": [1, 1e300]}"#, "input"),
            (r#"{"input": ["a", {"text": "a", "content": [{"text": "b"}]}]}"#, "input[1]"),
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
    fn whole_numbers_however_they_are_written() {
        let dimensions = |value: &str| {
            let body = format!(r#"{{"dimensions": {value}}}"#);
            Fields::parse(body.as_bytes()).unwrap().get::<Whole>(Field::Dimensions).map(|value| value.unwrap().1.0)
        };
        for (value, wanted) in [
            ("64", 64),
            ("64.0", 64),
            ("6.4e1", 64),
            ("-1", -1),
            ("18446744073709551615", i64::MAX),
            ("1e300", i64::MAX),
            ("-1e300", i64::MIN),
        ] {
            assert_eq!(dimensions(value).unwrap(), wanted, "{value}");
        }
        for value in ["0.5", "\"64\"", "true", "[64]"] {
            assert!(dimensions(value).unwrap_err().message.contains("expected a whole number"), "{value}");
        }
    }

    #[test]
    fn a_name_that_does_not_count_has_to_make_sense() {
        let fields = Fields::parse(br#"{"model": "a", "name": {}}"#).unwrap();
        assert_eq!(fields.get::<String>(Field::Model).unwrap_err().param.as_deref(), Some("name"));
    }

    #[test]
    fn null_is_absent_and_every_name_is_known_once() {
        let fields = Fields::parse(br#"{"dimensions": null, "output_dimension": 64, "user": null}"#).unwrap();
        assert_eq!(fields.get::<Whole>(Field::Dimensions).unwrap(), Some(("output_dimension", Whole(64))));
        assert!(fields.get::<String>(Field::User).unwrap().is_none());
        let mut names: Vec<&str> = ALIASES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
