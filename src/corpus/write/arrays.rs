//! Columns as Arrow has them.

use crate::corpus::dtype::Dtype;
use crate::corpus::row::{ColumnType, Value};
use crate::corpus::write::value;
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int8Array, Int64Array,
    StringArray, UInt8Array, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field};
use arrow_select::interleave::interleave;
use half::f16;
use std::sync::Arc;

/// The name of what is in a list, as the Parquet format wants it.
const ELEMENT: &str = "element";

/// Arrow's type for a column. One of nothing but nulls is of text, since many readers know no type without values.
pub(crate) fn data_type(column: &ColumnType) -> DataType {
    match column {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int => DataType::Int64,
        ColumnType::Float => DataType::Float64,
        ColumnType::Null | ColumnType::Text | ColumnType::Json => DataType::Utf8,
        ColumnType::Arrow(of) => of.clone(),
    }
}

/// Arrow's type for vectors.
pub(crate) fn vector_type(dtype: Dtype, dimensions: usize) -> DataType {
    let of = match dtype {
        Dtype::F32 => DataType::Float32,
        Dtype::F16 => DataType::Float16,
        Dtype::Int8 => DataType::Int8,
        Dtype::Ubinary => DataType::UInt8,
    };
    list_type(of, dtype.numbers(dimensions))
}

/// Arrow's type for a list of so many values, none of them null.
pub(crate) fn list_type(of: DataType, length: usize) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new(ELEMENT, of, false)), length as i32)
}

/// A column of values that [fit](value::fit) it.
///
/// # Errors
/// When Arrow cannot hold them together.
pub(crate) fn column(of: &ColumnType, values: &[Value]) -> Result<ArrayRef, ArrowError> {
    Ok(match of {
        ColumnType::Bool => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
            Value::Bool(x) => Some(*x),
            _ => None,
        }))),
        ColumnType::Int => Arc::new(Int64Array::from_iter(values.iter().map(|value| match value {
            Value::Int(x) => Some(*x),
            _ => None,
        }))),
        ColumnType::Float => Arc::new(Float64Array::from_iter(values.iter().map(|value| match value {
            Value::Float(x) => Some(*x),
            _ => None,
        }))),
        ColumnType::Null | ColumnType::Text | ColumnType::Json => {
            Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
                Value::Text(text) | Value::Json(text) => Some(text),
                _ => None,
            })))
        }
        ColumnType::Arrow(of) => {
            let null = new_null_array(of, 1);
            let mut arrays = vec![&null];
            let mut cells = Vec::with_capacity(values.len());
            for value in values {
                cells.push(match value {
                    Value::Cell(array, row) => {
                        if !Arc::ptr_eq(arrays[arrays.len() - 1], array) {
                            arrays.push(array);
                        }
                        (arrays.len() - 1, *row)
                    }
                    _ => (0, 0),
                });
            }
            let arrays: Vec<&dyn Array> = arrays.into_iter().map(|array| &**array).collect();
            interleave(&arrays, &cells)?
        }
    })
}

/// A column of vectors, whose bytes follow on each other.
///
/// # Errors
/// When they are not whole vectors.
pub(crate) fn vectors(dtype: Dtype, dimensions: usize, bytes: &[u8]) -> Result<ArrayRef, ArrowError> {
    let values: ArrayRef = match dtype {
        Dtype::F32 => {
            Arc::new(Float32Array::from_iter_values(bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x))))
        }
        Dtype::F16 => {
            Arc::new(Float16Array::from_iter_values(bytes.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x))))
        }
        Dtype::Int8 => Arc::new(Int8Array::from_iter_values(bytes.iter().map(|x| x.cast_signed()))),
        Dtype::Ubinary => Arc::new(UInt8Array::from_iter_values(bytes.iter().copied())),
    };
    list(vector_type(dtype, dimensions), values)
}

/// A column of pairs.
///
/// # Errors
/// Never.
pub(crate) fn pairs(of: impl Iterator<Item = (u64, u64)>) -> Result<ArrayRef, ArrowError> {
    let values = Int64Array::from_iter_values(of.flat_map(|(a, b)| [a as i64, b as i64]));
    list(list_type(DataType::Int64, 2), Arc::new(values))
}

fn list(of: DataType, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
    let DataType::FixedSizeList(field, length) = of else { return Ok(values) };
    Ok(Arc::new(FixedSizeListArray::try_new(field, length, values, None)?))
}

/// Bytes that a value takes, about: the same for the same value, wherever it comes from.
pub(crate) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 8,
        Value::Text(text) | Value::Json(text) => 8 + text.len(),
        Value::Cell(array, _) if array.data_type().primitive_width().is_some() => 16,
        Value::Cell(..) => {
            let mut out = Vec::new();
            // What has no form in JSON has no parts that are large.
            let _ = value::json(value, &mut out);
            8 + out.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int32Type;
    use arrow_array::{DictionaryArray, Int32Array};

    #[test]
    fn cells_of_several_arrays_make_one() {
        let words = |words: &[Option<&str>]| -> ArrayRef {
            Arc::new(words.iter().copied().collect::<DictionaryArray<Int32Type>>())
        };
        let (first, second) = (words(&[Some("a"), Some("b")]), words(&[Some("c"), None]));
        let of = ColumnType::Arrow(first.data_type().clone());
        let cell = |array: &ArrayRef, row| Value::Cell(array.clone(), row);
        let values = [cell(&first, 1), Value::Null, cell(&second, 0), cell(&first, 1), cell(&second, 1)];
        let array = column(&of, &values).unwrap();
        let dictionary = array.as_dictionary::<Int32Type>();
        let texts: Vec<_> = dictionary.downcast_dict::<StringArray>().unwrap().into_iter().collect();
        assert_eq!(texts, [Some("b"), None, Some("c"), Some("b"), None]);
        assert_eq!(column(&ColumnType::Arrow(DataType::Int32), &[]).unwrap().len(), 0);
    }

    #[test]
    fn a_weight_is_that_of_the_value_alone() {
        let long = "a".repeat(100);
        let alone: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
        let among: ArrayRef = Arc::new(StringArray::from(vec![None, Some(long.as_str()), Some("b")]));
        assert_eq!(weight(&Value::Cell(alone, 0)), 110);
        assert_eq!(weight(&Value::Cell(among, 1)), 110);
        assert_eq!(weight(&Value::Cell(Arc::new(Int32Array::from(vec![1])), 0)), 16);
    }
}
