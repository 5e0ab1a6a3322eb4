//! JSON objects whose values stay as they were written.

use crate::corpus::read::error::{RowError, RowProblem};
use crate::corpus::read::pick::{Fields, Picker};
use crate::corpus::read::plain::Plain;
use crate::corpus::read::value::json_kind;
use crate::corpus::row::{Place, Row, Value};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// An object's fields, in their order. Of fields with the same name the last one counts.
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name, without a copy of it where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

impl<'a> Object<'a> {
    /// A field as it was written.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, raw)| raw.get())
    }
}

impl Fields for Object<'_> {
    fn value(&self, name: &str) -> Result<Option<Value>, RowProblem> {
        let value = self.raw(name).map(value).transpose();
        value.map_err(|source| RowProblem::BadField { field: name.into(), source })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }
}

/// A value as it was written.
fn value(raw: &str) -> Result<Value, serde_json::Error> {
    Ok(match raw.as_bytes().first() {
        Some(b'n') => Value::Null,
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'"') => Value::Text(serde_json::from_str(raw)?),
        Some(b'{' | b'[') => Value::Json(on_one_line(raw)),
        _ if raw.contains(['.', 'e', 'E']) => match raw.parse::<f64>() {
            Ok(float) if float.is_finite() => Value::Float(float),
            _ => Value::Json(raw.into()),
        },
        _ => raw.parse().map_or_else(|_| Value::Json(raw.into()), Value::Int),
    })
}

/// JSON without newlines and the indentation after them: neither can stand within its strings.
fn on_one_line(json: &str) -> String {
    json.lines().map(str::trim_start).collect()
}

/// A row of a JSON object, or of a string, which is a text. `(line, column)`, from 0, is where an element of an array
/// begins.
pub(super) fn row(json: &str, place: &Place, start: Option<(u64, u64)>, picker: &mut Picker) -> Result<Row, RowError> {
    let bad = |problem| Err(RowError { place: place.clone(), problem });
    if json.trim_ascii_start().starts_with('"') {
        return match serde_json::from_str(json) {
            Ok(text) => picker.pick(place, &Plain { text, path: None }),
            Err(error) => bad(not_json(error, start)),
        };
    }
    match object(json, start, "a row is an object or a string") {
        Ok(object) => picker.pick(place, &object),
        Err(problem) => bad(problem),
    }
}

/// The object that a row is; `expected` says so where it is none.
pub(super) fn object<'a>(
    json: &'a str,
    start: Option<(u64, u64)>,
    expected: &'static str,
) -> Result<Object<'a>, RowProblem> {
    if json.trim_ascii_start().starts_with('{') {
        return serde_json::from_str(json).map_err(|error| not_json(error, start));
    }
    match serde_json::from_str::<&RawValue>(json) {
        Ok(raw) => Err(RowProblem::NotARow { found: json_kind(raw.get()), expected }),
        Err(error) => Err(not_json(error, start)),
    }
}

/// The error of a parser of which only the place within the row is known.
fn not_json(source: serde_json::Error, start: Option<(u64, u64)>) -> RowProblem {
    let (line, column) = (source.line() as u64, source.column() as u64);
    match start {
        None => RowProblem::NotJson { source, line: None, column },
        Some((first, offset)) => {
            let column = if line == 1 { offset + column } else { column };
            RowProblem::NotJson { source, line: Some(first + line), column }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_were_written_as() {
        let shown = |raw: &str| format!("{:?}", value(raw).unwrap());
        assert_eq!(shown("null"), "Null");
        assert_eq!(shown("true"), "Bool(true)");
        assert_eq!(shown(r#""a\n\u00e4""#), r#"Text("a\nä")"#);
        assert_eq!(shown("-9223372036854775808"), "Int(-9223372036854775808)");
        assert_eq!(shown("9223372036854775808"), "Json(\"9223372036854775808\")");
        assert_eq!(shown("1.0"), "Float(1.0)");
        assert_eq!(shown("1e2"), "Float(100.0)");
        assert_eq!(shown("1e999"), "Json(\"1e999\")");
        assert_eq!(shown("[1,  \"a b\"]"), "Json(\"[1,  \\\"a b\\\"]\")");
        assert_eq!(shown("{\r\n  \"a\": [\n    1\n  ]\n}"), "Json(\"{\\\"a\\\": [1]}\")");
    }
}
