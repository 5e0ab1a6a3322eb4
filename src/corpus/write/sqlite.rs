//! SQLite databases.
//!
//! The table `embeddings` has a row a record, in their order: `id`, for chunks `chunk` and where it lies, `text_sha256`,
//! `metadata` (the kept columns as an object in JSON) and `embedding`, whose bytes sqlite-vec takes as they are (`float[d]`, or by
//! `vec_int8`, `vec_bit`). The table `meta` has what concerns all: `key`, `value`.

use crate::corpus::record::{Layout, Record};
use crate::corpus::row::{ColumnType, Value};
use crate::corpus::write::error::WriteError;
use crate::corpus::write::sink::{Sink, Written};
use crate::corpus::write::value;
use crate::gguf::AtomicFile;
use arrow_schema::DataType;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, ErrorCode, OpenFlags, params, params_from_iter};
use std::path::{Path, PathBuf};

const INSERT_META: &str = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";

pub(crate) struct SqliteSink {
    path: PathBuf,
    /// Before the file: it is closed first.
    connection: Connection,
    file: AtomicFile,
    layout: Layout,
    insert: String,
}

impl SqliteSink {
    pub(crate) fn create(path: &Path, layout: &Layout) -> Result<Self, WriteError> {
        let file = AtomicFile::create(path).map_err(WriteError::io(path))?;
        let at = file.open_to_others().map_err(WriteError::io(path))?;
        let connection = build(at, layout).map_err(WriteError::sqlite(path))?;
        let fields = columns(layout).len();
        let marks = vec!["?"; fields].join(", ");
        let insert = format!("INSERT INTO embeddings VALUES ({marks})");
        Ok(Self { path: path.to_owned(), connection, file, layout: layout.clone(), insert })
    }

    /// The values of a record's row.
    fn fields(&self, record: &Record) -> Result<Vec<Sql>, WriteError> {
        let mut fields = vec![id(record.id, sql_type(&self.layout.id)).map_err(WriteError::value(record.row, "id"))?];
        if let Some(chunk) = record.chunk {
            let (bytes, lines, tokens) = (&chunk.bytes, chunk.lines, &chunk.tokens);
            let numbers = [chunk.number, bytes.start, bytes.end, lines.0, lines.1, tokens.start, tokens.end];
            fields.extend(numbers.map(|x| Sql::Integer(x as i64)));
        }
        fields.push(Sql::Blob(record.hash.into()));
        let mut metadata = b"{".to_vec();
        for (name, kept) in self.layout.columns.names.iter().zip(record.kept) {
            if metadata.len() > 1 {
                metadata.push(b',');
            }
            value::serialize(name, &mut metadata);
            metadata.push(b':');
            value::json(kept, &mut metadata).map_err(WriteError::value(record.row, name))?;
        }
        metadata.push(b'}');
        fields.push(String::from_utf8(metadata).map_or(Sql::Null, Sql::Text));
        fields.push(Sql::Blob(record.vector.to_vec()));
        Ok(fields)
    }

    /// Adds a row, of as many values as the table has columns; `row` is its number in the input.
    pub(crate) fn insert(&mut self, row: u64, fields: Vec<Sql>) -> Result<(), WriteError> {
        let shown = match &fields[0] {
            Sql::Integer(x) => x.to_string(),
            Sql::Real(x) => x.to_string(),
            Sql::Text(text) => format!("{text:?}"),
            Sql::Null | Sql::Blob(_) => "null".to_owned(),
        };
        let insert = || self.connection.prepare_cached(&self.insert)?.execute(params_from_iter(fields));
        match insert() {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Err(WriteError::SameId { path: self.path.clone(), id: shown, row })
            }
            Err(error) => Err(WriteError::sqlite(&self.path)(error)),
        }
    }
}

impl Sink for SqliteSink {
    fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        let fields = self.fields(record)?;
        self.insert(record.row, fields)
    }

    fn note(&mut self, name: &str, value: &str) -> Result<(), WriteError> {
        let inserted = self.connection.execute(INSERT_META, params![name, value]);
        inserted.map(drop).map_err(WriteError::sqlite(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<Written, WriteError> {
        let SqliteSink { path, connection, file, .. } = *self;
        connection.execute_batch("COMMIT").map_err(WriteError::sqlite(&path))?;
        connection.close().map_err(|(_, error)| WriteError::sqlite(&path)(error))?;
        file.commit().map_err(WriteError::io(&path))?;
        Ok(Written { files: vec![path], ..Written::default() })
    }
}

/// Makes the database in a file that is empty, and begins the one transaction in which all is written.
fn build(at: &Path, layout: &Layout) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // No other process has this file, and the lock that it has already may stand in the way of SQLite's.
    let connection = if cfg!(unix) {
        Connection::open_with_flags_and_vfs(at, flags, c"unix-none")?
    } else {
        Connection::open_with_flags(at, flags)?
    };
    // Vectors of 4 KiB leave little of a page of this size unused. What is killed is never seen, so nothing has to be taken
    // back or to be on the disk before the end. Free bytes are zero, whatever stood in the memory.
    connection.pragma_update(None, "page_size", 32768)?;
    connection.pragma_update(None, "journal_mode", "off")?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.pragma_update(None, "secure_delete", "on")?;
    connection.pragma_update(None, "cache_size", -16384)?;
    let key = if layout.chunked { "id, chunk" } else { "id" };
    let columns = columns(layout).join(", ");
    connection.execute_batch(&format!(
        "BEGIN; \
         CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID; \
         CREATE TABLE embeddings ({columns}, PRIMARY KEY ({key}));"
    ))?;
    {
        let mut insert = connection.prepare(INSERT_META)?;
        // In the order in which the table has them, so that who reads and writes them again makes the same file.
        let mut metadata: Vec<_> = layout.metadata.iter().collect();
        metadata.sort();
        for (key, value) in metadata {
            insert.execute(params![key, value])?;
        }
    }
    Ok(connection)
}

/// The columns of `embeddings`, each with its type.
fn columns(layout: &Layout) -> Vec<String> {
    let mut columns = vec![format!("id {} NOT NULL", sql_type(&layout.id))];
    if layout.chunked {
        let names = ["chunk", "bytes_from", "bytes_to", "lines_from", "lines_to", "tokens_from", "tokens_to"];
        columns.extend(names.map(|name| format!("{name} INT NOT NULL")));
    }
    columns
        .extend(["text_sha256 BLOB NOT NULL", "metadata TEXT NOT NULL", "embedding BLOB NOT NULL"].map(str::to_owned));
    columns
}

/// SQLite's type for ids. Not `INTEGER`: that would be the table's own number of rows, and order them.
fn sql_type(of: &ColumnType) -> &'static str {
    match of {
        ColumnType::Int | ColumnType::Bool => "INT",
        ColumnType::Float => "REAL",
        ColumnType::Arrow(of) if of.is_integer() && *of != DataType::UInt64 => "INT",
        ColumnType::Arrow(of) if of.is_floating() => "REAL",
        _ => "TEXT",
    }
}

/// An id as a value of a type of SQLite's.
fn id(id: &Value, of: &str) -> Result<Sql, arrow_schema::ArrowError> {
    let number = match (id, value::text(id)?) {
        (_, None) => Sql::Null,
        (Value::Bool(x), _) if of == "INT" => Sql::Integer(i64::from(*x)),
        (_, Some(text)) => match of {
            "INT" => text.parse().map_or(Sql::Null, Sql::Integer),
            "REAL" => text.parse().map_or(Sql::Null, Sql::Real),
            _ => Sql::Text(text),
        },
    };
    Ok(number)
}
