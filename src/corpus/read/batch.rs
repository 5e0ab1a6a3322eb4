//! Requests for embeddings, as OpenAI's Batch API takes them (platform.openai.com/docs/guides/batch).

use crate::corpus::read::error::{Role, RowError, RowProblem, likeliest};
use crate::corpus::read::object::{Object, object};
use crate::corpus::read::pick::{Fields, Picker, needed};
use crate::corpus::read::value::{json_kind, kind};
use crate::corpus::row::{Place, Row, Value};

/// The columns of every such row: fields of the request's body, null where it has them not.
pub(super) const COLUMNS: [&str; 3] = ["model", "dimensions", "encoding_format"];

/// A row of a request.
pub(super) fn row(json: &str, place: &Place, _: &mut Picker) -> Result<Row, RowError> {
    request(json, place).map_err(|problem| RowError { place: place.clone(), problem })
}

fn request(json: &str, place: &Place) -> Result<Row, RowProblem> {
    let request = object(json, None, "a request is an object")?;
    for (field, expected) in [("method", "POST"), ("url", "/v1/embeddings")] {
        match request.value(field)? {
            Some(Value::Text(what)) if !what.eq_ignore_ascii_case(expected) => {
                return Err(RowProblem::OtherRequest { what });
            }
            _ => (),
        }
    }
    let id = match needed(&request, "custom_id")? {
        id @ Value::Text(_) => id,
        other => return Err(wrong("custom_id", kind(&other), Role::Id)),
    };
    let there = || likeliest("body", request.names());
    let body = request.raw("body").ok_or_else(|| RowProblem::NoField { field: "body".into(), there: there() })?;
    let body: Object =
        serde_json::from_str(body).map_err(|source| RowProblem::BadField { field: "body".into(), source })?;
    let texts = texts(&body)?;
    let dimensions = match body.value("dimensions")? {
        None | Some(Value::Null) => None,
        // Of none, and of fewer, the model has none: so it is said.
        Some(Value::Int(count)) => Some(usize::try_from(count).unwrap_or(0)),
        Some(other) => return Err(wrong("dimensions", kind(&other), Role::Dimensions)),
    };
    let kept = COLUMNS.iter().map(|name| Ok(body.value(name)?.unwrap_or(Value::Null)));
    let kept = kept.collect::<Result<_, RowProblem>>()?;
    Ok(Row { place: place.clone(), id, texts, instruction: None, dimensions, kept })
}

/// The texts of the input: one, or an array of them.
fn texts(body: &Object) -> Result<Vec<String>, RowProblem> {
    let field = "input";
    let bad = |source| RowProblem::BadField { field: field.into(), source };
    let texts = match needed(body, field)? {
        Value::Text(text) => vec![text],
        Value::Json(json) if json.starts_with('[') => {
            let elements: Vec<&serde_json::value::RawValue> = serde_json::from_str(&json).map_err(bad)?;
            if let Some(other) = elements.iter().find(|element| !element.get().starts_with('"')) {
                return Err(wrong(field, format!("an array with {} in it", json_kind(other.get())), Role::Text));
            }
            serde_json::from_str(&json).map_err(bad)?
        }
        other => return Err(wrong(field, kind(&other), Role::Text)),
    };
    if texts.is_empty() { Err(wrong(field, "an empty array".into(), Role::Text)) } else { Ok(texts) }
}

fn wrong(field: &str, found: String, wanted: Role) -> RowProblem {
    RowProblem::WrongType { field: field.into(), found, wanted }
}
