//! Texts of Arrow arrays, and vectors as one.

use crate::error::exception;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float32Array};
use arrow_schema::{ArrowError, DataType, Field};
use pyo3::PyResult;
use pyo3_arrow::PyArray;
use pyo3_arrow::error::PyArrowResult;
use std::sync::Arc;

/// The strings of an array's chunks, where they lie.
pub(crate) fn texts(chunks: &[ArrayRef]) -> PyResult<Vec<&str>> {
    let mut texts = Vec::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
    for chunk in chunks {
        let before = texts.len();
        match chunk.data_type() {
            DataType::Utf8 => texts.extend(chunk.as_string::<i32>().iter().map_while(|text| text)),
            DataType::LargeUtf8 => texts.extend(chunk.as_string::<i64>().iter().map_while(|text| text)),
            DataType::Utf8View => texts.extend(chunk.as_string_view().iter().map_while(|text| text)),
            other => {
                let words = format!("an array of {other}: texts are strings (utf8, large_utf8, string_view); cast it");
                return Err(exception("OptionError", words, None));
            }
        }
        if texts.len() < before + chunk.len() {
            let (text, words) = (texts.len(), "is null: leave it out, or put a text in its place");
            return Err(exception("TextError", format!("text {} {words}", text + 1), Some(text)));
        }
    }
    Ok(texts)
}

/// Vectors, [texts × dimensions], as a list of so many values a text. Nothing is copied.
pub(crate) fn vectors(values: Vec<f32>, dimensions: usize) -> PyArrowResult<PyArray> {
    let size = i32::try_from(dimensions).map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let list = FixedSizeListArray::try_new(item, size, Arc::new(Float32Array::from(values)), None)?;
    Ok(PyArray::from_array_ref(Arc::new(list)))
}
