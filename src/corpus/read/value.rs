//! Values as texts, and what they are called when they cannot be.

use crate::corpus::read::error::{Role, RowProblem};
use crate::corpus::row::Value;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{ArrowError, DataType};
use qembed_models::text::utf8;

/// The value of a field as a text: null is an empty one, and numbers and the like are printed if `print` says so.
pub(super) fn text(field: &str, value: Value, print: bool) -> Result<String, RowProblem> {
    let wrong = |found: String| RowProblem::WrongType { field: field.into(), found, wanted: Role::Text };
    match value {
        Value::Null => Ok(String::new()),
        Value::Text(text) => Ok(text),
        Value::Bool(value) if print => Ok(value.to_string()),
        Value::Int(value) if print => Ok(value.to_string()),
        // As JSON has it, with a decimal point or an exponent.
        Value::Float(value) if print => Ok(serde_json::Value::from(value).to_string()),
        Value::Json(number) if print && !number.starts_with(['[', '{']) => Ok(number),
        Value::Cell(array, row) if array.is_null(row) => Ok(String::new()),
        Value::Cell(array, row) if print || is_text(array.data_type()) => match cell(&array, row) {
            Ok(bytes) => match utf8(&bytes) {
                Ok(_) => Ok(String::from_utf8(bytes).unwrap_or_default()),
                Err(source) => Err(RowProblem::Encoding { column: Some(field.into()), source }),
            },
            Err(_) => Err(wrong(array.data_type().to_string())),
        },
        other => Err(wrong(kind(&other))),
    }
}

/// What a value is, in a sentence.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "true or false".into(),
        Value::Int(_) | Value::Float(_) => "a number".into(),
        Value::Text(_) => "a text".into(),
        Value::Json(json) => json_kind(json).into(),
        Value::Cell(array, row) if array.is_null(*row) => "null".into(),
        Value::Cell(array, _) => array.data_type().to_string(),
    }
}

/// What JSON begins, in a sentence.
pub(super) fn json_kind(json: &str) -> &'static str {
    match json.trim_start().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "no JSON",
    }
}

/// Whether the values of a column are texts, or bytes that may be.
pub(super) fn is_text(of: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Dictionary, LargeBinary, LargeUtf8, Null, Utf8, Utf8View};
    match of {
        Null | Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => true,
        Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// A cell that is not null: the bytes of a text, or how the value is printed.
fn cell(array: &ArrayRef, row: usize) -> Result<Vec<u8>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Binary => array.as_binary::<i32>().value(row).into(),
        DataType::LargeBinary => array.as_binary::<i64>().value(row).into(),
        DataType::BinaryView => array.as_binary_view().value(row).into(),
        DataType::Dictionary(_, values) => {
            let one = arrow_cast::cast(&array.slice(row, 1), values)?;
            return if one.is_null(0) { Ok(Vec::new()) } else { cell(&one, 0) };
        }
        // The instant in UTC: the names of time zones are not known here.
        DataType::Timestamp(unit, Some(_)) => {
            let utc = DataType::Timestamp(*unit, Some("+00:00".into()));
            array_value_to_string(&arrow_cast::cast(&array.slice(row, 1), &utc)?, 0)?.into()
        }
        _ => array_value_to_string(array, row)?.into(),
    })
}
