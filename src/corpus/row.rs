//! What a row of an input is, whatever form it came in.

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A row of an input: what is embedded of it, and what goes along.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// Its name in the output: a field of it, or its number in the input, from 0.
    pub id: Value,
    /// What is embedded: one text, or those of a request of a batch file, which may have several.
    pub texts: Vec<String>,
    /// The instruction that goes before its texts, where a column gives it.
    pub instruction: Option<String>,
    /// Values of its vectors, where a request of a batch file says how many it wants.
    pub dimensions: Option<usize>,
    /// The values of the other columns that are kept, in the order of [`Columns::names`].
    pub kept: Vec<Value>,
}

/// Where a row stands: for people, who count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file; `-` is standard input.
    pub file: Arc<Path>,
    /// The line, where the file has lines, else the row.
    pub number: u64,
    /// Which of the two.
    pub unit: Unit,
}

/// What a file consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Lines of text; a row may take several and is named by its first.
    Line,
    /// Rows, or elements of an array.
    Row,
    /// Nothing smaller: all of it is one text.
    Whole,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let file =
            if &*self.file == Path::new("-") { "standard input".into() } else { self.file.display().to_string() };
        match self.unit {
            Unit::Line => write!(f, "{file}, line {}", self.number),
            Unit::Row => write!(f, "{file}, row {}", self.number),
            Unit::Whole => f.write_str(&file),
        }
    }
}

/// The value of a field.
#[derive(Clone, Debug)]
pub enum Value {
    /// There is none.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// An array, an object, or a number that is none of the above, as it stood in JSON.
    Json(String),
    /// A value of a Parquet file, of any type: this row of an array.
    Cell(ArrayRef, usize),
}

/// The columns that are kept: their names, and the type that all their values have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Names, in the order in which they were found.
    pub names: Vec<String>,
    /// As many types.
    pub types: Vec<ColumnType>,
}

/// The narrowest type that takes all values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnType {
    /// Nothing but nulls.
    Null,
    /// [`Value::Bool`].
    Bool,
    /// [`Value::Int`].
    Int,
    /// [`Value::Float`], and whole numbers that it holds exactly.
    Float,
    /// [`Value::Text`]; others as they are printed.
    Text,
    /// JSON of any kind, written out.
    Json,
    /// A type of Arrow's.
    Arrow(DataType),
}

impl ColumnType {
    /// Makes room for a value.
    pub fn widen(&mut self, value: &Value) {
        use ColumnType::{Arrow, Bool, Float, Int, Json, Null, Text};
        let other = match value {
            Value::Null => return,
            Value::Bool(_) => Bool,
            Value::Int(_) => Int,
            Value::Float(_) => Float,
            Value::Text(_) => Text,
            Value::Json(_) => Json,
            Value::Cell(array, row) if array.is_null(*row) && *self != Null => return,
            Value::Cell(array, _) => Arrow(array.data_type().clone()),
        };
        self.join(other);
    }

    /// Makes room for all values of another column.
    pub fn join(&mut self, other: ColumnType) {
        use ColumnType::{Float, Int, Json, Null, Text};
        if *self == other || other == Null {
            return;
        }
        *self = match (&*self, other) {
            (Null, other) => other,
            (Int, Float) | (Float, Int) => Float,
            (Json, _) | (_, Json) => Json,
            _ => Text,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int32Array;

    fn of(values: &[Value]) -> ColumnType {
        let mut column = ColumnType::Null;
        values.iter().for_each(|value| column.widen(value));
        column
    }

    #[test]
    fn a_column_takes_all_its_values() {
        let text = |text: &str| Value::Text(text.into());
        let cell = |row| Value::Cell(Arc::new(Int32Array::from(vec![Some(1), None])), row);
        assert_eq!(of(&[Value::Null]), ColumnType::Null);
        assert_eq!(of(&[Value::Null, Value::Int(1), Value::Null]), ColumnType::Int);
        assert_eq!(of(&[Value::Int(1), Value::Float(0.5), Value::Int(2)]), ColumnType::Float);
        assert_eq!(of(&[Value::Bool(true), Value::Int(1)]), ColumnType::Text);
        assert_eq!(of(&[text("a"), Value::Int(1)]), ColumnType::Text);
        assert_eq!(of(&[text("a"), Value::Json("[]".into()), text("b")]), ColumnType::Json);
        assert_eq!(of(&[cell(0), cell(1)]), ColumnType::Arrow(DataType::Int32));
        assert_eq!(of(&[cell(1)]), ColumnType::Arrow(DataType::Int32), "the file knows its type");
        assert_eq!(of(&[Value::Int(1), cell(0)]), ColumnType::Text);
    }
}
