//! Values as they are written: in JSON, as text, or as values of a column's one type.

use crate::corpus::dtype::Dtype;
use crate::corpus::row::{ColumnType, Value};
use arrow_array::Array;
use arrow_json::writer::{EncoderOptions, make_encoder};
use arrow_schema::{ArrowError, Field};
use std::sync::Arc;

/// Appends a value as JSON, on one line. Numbers that JSON has not (infinite ones) are null.
///
/// # Errors
/// When JSON has no form for a type of Arrow's.
pub(crate) fn json(value: &Value, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(x) => out.extend_from_slice(if *x { b"true" } else { b"false" }),
        Value::Int(x) => out.extend_from_slice(x.to_string().as_bytes()),
        Value::Float(x) => serialize(x, out),
        Value::Text(text) => serialize(text, out),
        Value::Json(text) => on_one_line(text, out),
        Value::Cell(array, row) if array.is_null(*row) => out.extend_from_slice(b"null"),
        Value::Cell(array, row) => {
            // Of a list of lists the encoder looks at all there is: it gets the one value.
            let cell = array.slice(*row, 1);
            let field = Arc::new(Field::new("", cell.data_type().clone(), true));
            let options = EncoderOptions::default().with_explicit_nulls(true);
            let mut encoder = make_encoder(&field, &*cell, &options)?;
            if encoder.is_null(0) { out.extend_from_slice(b"null") } else { encoder.encode(0, out) }
        }
    }
    Ok(())
}

/// A value as text, without quotes; none for null.
///
/// # Errors
/// As [`json`].
pub(crate) fn text(value: &Value) -> Result<Option<String>, ArrowError> {
    match value {
        Value::Null => return Ok(None),
        Value::Text(text) | Value::Json(text) => return Ok(Some(text.clone())),
        _ => {}
    }
    let mut out = Vec::new();
    json(value, &mut out)?;
    Ok(match &*out {
        b"null" => None,
        [b'"', ..] => serde_json::from_slice(&out).ok(),
        _ => String::from_utf8(out).ok(),
    })
}

/// A value as one of a column of a type: another of the same, or null; `None` if the column cannot hold it.
///
/// # Errors
/// As [`json`].
pub(crate) fn fit(value: &Value, column: &ColumnType) -> Result<Option<Value>, ArrowError> {
    let null = match value {
        Value::Null => true,
        Value::Cell(array, row) => array.is_null(*row),
        _ => false,
    };
    Ok(match (column, value) {
        _ if null => Some(Value::Null),
        (ColumnType::Bool, Value::Bool(_))
        | (ColumnType::Int, Value::Int(_))
        | (ColumnType::Float, Value::Float(_)) => Some(value.clone()),
        (ColumnType::Float, Value::Int(x)) => Some(Value::Float(*x as f64)),
        (ColumnType::Text, _) => text(value)?.map(Value::Text),
        (ColumnType::Json, Value::Json(_)) => Some(value.clone()),
        (ColumnType::Json, _) => {
            let mut out = Vec::new();
            json(value, &mut out)?;
            String::from_utf8(out).ok().map(Value::Json)
        }
        (ColumnType::Arrow(of), Value::Cell(array, _)) if array.data_type() == of => Some(value.clone()),
        _ => None,
    })
}

/// Appends a vector as a JSON array, each number with the fewest digits that make it again as an f32, or whole.
pub(crate) fn vector(dtype: Dtype, bytes: &[u8], out: &mut Vec<u8>) {
    match dtype.decode(bytes) {
        Some(values) => serialize(&values, out),
        None if dtype == Dtype::Int8 => serialize(&bytes.iter().map(|x| x.cast_signed()).collect::<Vec<i8>>(), out),
        None => serialize(bytes, out),
    }
}

/// Appends what has a form in JSON whatever its value.
pub(crate) fn serialize(value: &(impl serde::Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("memory takes numbers and texts");
}

/// Appends JSON without the blanks between its tokens, of which some may be ends of lines.
fn on_one_line(json: &str, out: &mut Vec<u8>) {
    let (mut quoted, mut escaped) = (false, false);
    for byte in json.bytes() {
        if quoted || !byte.is_ascii_whitespace() {
            out.push(byte);
        }
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::types::Int32Type;
    use arrow_array::{ArrayRef, DictionaryArray, Int32Array, ListArray, StringArray};

    fn shown(value: &Value) -> (String, Option<String>) {
        let mut out = Vec::new();
        json(value, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), text(value).unwrap())
    }

    fn cell(array: impl Array + 'static, row: usize) -> Value {
        Value::Cell(Arc::new(array) as ArrayRef, row)
    }

    #[test]
    fn as_json_and_as_text() {
        let lists = || ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let words: DictionaryArray<Int32Type> = [Some("a\"b"), None].into_iter().collect();
        for (value, as_json, as_text) in [
            (Value::Null, "null", None),
            (Value::Bool(true), "true", Some("true")),
            (Value::Int(-7), "-7", Some("-7")),
            (Value::Float(1.0), "1.0", Some("1.0")),
            (Value::Float(f64::NAN), "null", None),
            (Value::Text("a\n\"b".into()), "\"a\\n\\\"b\"", Some("a\n\"b")),
            (
                Value::Json("{ \"a\\\\\" :\n [1, \" \\\" \"] }".into()),
                "{\"a\\\\\":[1,\" \\\" \"]}",
                Some("{ \"a\\\\\" :\n [1, \" \\\" \"] }"),
            ),
            (cell(Int32Array::from(vec![3, 4]), 1), "4", Some("4")),
            (cell(lists(), 0), "[1,null]", Some("[1,null]")),
            (cell(lists(), 1), "null", None),
            (cell(words.clone(), 0), "\"a\\\"b\"", Some("a\"b")),
            (cell(words, 1), "null", None),
        ] {
            assert_eq!(shown(&value), (as_json.into(), as_text.map(Into::into)), "{value:?}");
        }
    }

    #[test]
    fn in_a_column() {
        let fitted = |value: &Value, column: &ColumnType| format!("{:?}", fit(value, column).unwrap());
        assert_eq!(fitted(&Value::Int(3), &ColumnType::Float), "Some(Float(3.0))");
        assert_eq!(fitted(&Value::Int(3), &ColumnType::Text), "Some(Text(\"3\"))");
        assert_eq!(fitted(&Value::Text("a".into()), &ColumnType::Json), "Some(Json(\"\\\"a\\\"\"))");
        assert_eq!(fitted(&Value::Text("a".into()), &ColumnType::Int), "None");
        assert_eq!(fitted(&cell(StringArray::from(vec!["a"]), 0), &ColumnType::Text), "Some(Text(\"a\"))");
        assert_eq!(fitted(&cell(Int32Array::from(vec![None]), 0), &ColumnType::Int), "Some(Null)");
        let words = ColumnType::Arrow(arrow_schema::DataType::Utf8);
        assert_eq!(fitted(&cell(Int32Array::from(vec![1]), 0), &words), "None");
    }

    #[test]
    fn vectors() {
        let of = |dtype: Dtype, values: &[f32]| {
            let (mut bytes, mut out) = (Vec::new(), Vec::new());
            dtype.encode(values, &mut bytes);
            vector(dtype, &bytes, &mut out);
            String::from_utf8(out).unwrap()
        };
        let values = [0.1, -1.0, 1e-10, 2.0];
        assert_eq!(of(Dtype::F32, &values), "[0.1,-1.0,1e-10,2.0]");
        assert_eq!(of(Dtype::F16, &values), "[0.099975586,-1.0,0.0,2.0]");
        assert_eq!(of(Dtype::Int8, &values), "[5,-65,-1,126]");
        assert_eq!(of(Dtype::Ubinary, &values), "[176]");
        assert_eq!(of(Dtype::F32, &[]), "[]");
    }
}
