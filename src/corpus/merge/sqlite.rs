//! Parts in databases: their rows, one part after the other.

use crate::corpus::finished::{FinishedError, open_sqlite, sqlite_metadata};
use crate::corpus::merge::error::MergeError;
use crate::corpus::merge::parts::{Part, differs, in_order};
use crate::corpus::record::Layout;
use crate::corpus::row::{ColumnType, Columns};
use crate::corpus::write::{Sink, SqliteSink, Written};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

pub(crate) fn merge(paths: &[PathBuf], out: &Path) -> Result<Written, MergeError> {
    let mut parts = Vec::new();
    for path in paths {
        let metadata = sqlite_metadata(&open_sqlite(path)?).map_err(FinishedError::sqlite(path))?;
        parts.push(Part { path: path.clone(), metadata });
    }
    let (parts, metadata) = in_order(parts)?;
    // Names and types of the columns; only the id's type may differ.
    let mut whole: Option<(ColumnType, Vec<String>)> = None;
    for part in &parts {
        let (id, names) = open_sqlite(&part.path)
            .and_then(|database| columns(&database).map_err(FinishedError::sqlite(&part.path)))?;
        match &mut whole {
            None => whole = Some((id, names)),
            Some((_, expected)) if *expected != names => {
                return Err(differs(part, &parts[0], "columns", names.join(", "), expected.join(", ")));
            }
            Some((of, _)) => of.join(id),
        }
    }
    let Some((id, names)) = whole else { return Err(MergeError::NoParts) };
    let chunked = names.iter().any(|name| name == "chunk");
    let layout =
        Layout { id, chunked, metadata, columns: Columns::default(), dimensions: 0, dtype: Default::default() };
    let mut sink = Box::new(SqliteSink::create(out, &layout)?);
    let mut row = 0;
    for Part { path, .. } in &parts {
        let failed = FinishedError::sqlite(path);
        let database = open_sqlite(path)?;
        let mut all = database.prepare("SELECT * FROM embeddings ORDER BY rowid").map_err(&failed)?;
        let mut rows = all.query([]).map_err(&failed)?;
        while let Some(found) = rows.next().map_err(&failed)? {
            let fields = (0..names.len()).map(|i| found.get(i)).collect::<Result<_, _>>().map_err(&failed)?;
            sink.insert(row, fields)?;
            row += 1;
        }
    }
    Ok(sink.finish()?)
}

/// The type of the ids, and the names of all columns.
fn columns(database: &Connection) -> rusqlite::Result<(ColumnType, Vec<String>)> {
    let mut all = database.prepare("SELECT name, type FROM pragma_table_info('embeddings')")?;
    let columns: Vec<(String, String)> =
        all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let of = match columns.first().map(|(_, of)| of.as_str()) {
        Some("INT") => ColumnType::Int,
        Some("REAL") => ColumnType::Float,
        _ => ColumnType::Text,
    };
    Ok((of, columns.into_iter().map(|(name, _)| name).collect()))
}
