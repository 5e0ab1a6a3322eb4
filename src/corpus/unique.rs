//! Whether each row has a name of its own, found out in a temporary file: all names may be more than memory holds.

use crate::corpus::row::{Row, Value};
use rusqlite::{Connection, params};

/// The names of rows so far, and where each stands.
pub(crate) struct Names(Connection);

impl Names {
    /// None so far.
    ///
    /// # Errors
    /// When there is no room for a temporary file.
    pub(crate) fn new() -> rusqlite::Result<Self> {
        // Without a name: SQLite removes it when it is closed, or the program ends.
        let names = Connection::open("")?;
        names.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;
             CREATE TABLE names (name TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID; BEGIN",
        )?;
        Ok(Self(names))
    }

    /// Adds a row. Where an earlier one has its name, where that stands.
    ///
    /// # Errors
    /// When there is no room for more.
    pub(crate) fn add(&self, row: &Row) -> rusqlite::Result<Option<String>> {
        let name = name(&row.id);
        let mut insert = self.0.prepare_cached("INSERT OR IGNORE INTO names VALUES (?, ?)")?;
        if insert.execute(params![name, row.place.to_string()])? == 1 {
            return Ok(None);
        }
        let mut find = self.0.prepare_cached("SELECT place FROM names WHERE name = ?")?;
        find.query_row([name], |row| row.get(0)).map(Some)
    }
}

/// A name as people write it; a number and a text that look the same are the same to most stores.
pub(crate) fn name(id: &Value) -> String {
    match id {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) | Value::Json(text) => text.clone(),
        Value::Cell(array, row) => arrow_cast::display::array_value_to_string(array, *row).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::row::{Place, Unit};
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn the_first_of_two_is_named() {
        let row = |number, id: &str| Row {
            place: Place { file: Arc::from(Path::new("a.csv")), number, unit: Unit::Line },
            id: Value::Text(id.into()),
            texts: Vec::new(),
            instruction: None,
            dimensions: None,
            kept: Vec::new(),
        };
        let names = Names::new().unwrap();
        assert_eq!(names.add(&row(1, "x")).unwrap(), None);
        assert_eq!(names.add(&row(2, "y")).unwrap(), None);
        assert_eq!(names.add(&row(3, "x")).unwrap(), Some("a.csv, line 1".into()));
        assert_eq!(names.add(&Row { id: Value::Int(7), ..row(4, "") }).unwrap(), None);
        assert_eq!(names.add(&row(5, "7")).unwrap(), Some("a.csv, line 4".into()));
    }
}
