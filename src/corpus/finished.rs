//! Outputs that are finished, read again: by a run that takes over what has not changed, and by one that joins parts.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Int8Type, UInt8Type};
use arrow_array::{Array, FixedSizeListArray, RecordBatch};
use arrow_schema::{ArrowError, DataType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Records that are read at a time.
const BATCH: usize = 256;

/// Why a finished output cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishedError {
    /// The system does not read it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The output.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no whole Parquet file.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The output.
        path: PathBuf,
        /// What is wrong.
        source: ParquetError,
    },
    /// It is no whole database.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The output.
        path: PathBuf,
        /// What is wrong.
        source: rusqlite::Error,
    },
    /// It does not tell texts and vectors as this program writes them.
    #[error("{}: {what}", path.display())]
    NotOurs {
        /// The output.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
}

/// The vectors of a finished output, in the order of its records, and what it says of all of them.
pub struct StoredVectors {
    /// Names and values, as the output's layout had them.
    pub metadata: Vec<(String, String)>,
    path: PathBuf,
    source: Source,
    /// Read and not yet given, the last one first.
    waiting: Vec<StoredVector>,
}

/// A vector of a finished output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVector {
    /// SHA-256 of its text, as the record had it.
    pub hash: [u8; 32],
    /// Its bytes, as the record had them.
    pub vector: Vec<u8>,
}

enum Source {
    Parquet(ParquetRecordBatchReader),
    /// The number of the last row that has been read.
    Sqlite(Connection, i64),
    End,
}

/// Opens a Parquet file or a database that this program has written; which, its first bytes tell. Other forms have no hashes.
///
/// # Errors
/// When it cannot be read, or is another file.
pub fn read_vectors(path: &Path) -> Result<StoredVectors, FinishedError> {
    let (metadata, source) = if is_parquet(path)? {
        let file = open_parquet(path)?;
        let metadata = parquet_metadata(&file);
        let mask = ProjectionMask::columns(file.parquet_schema(), ["text_sha256", "embedding"]);
        let reader = file.with_projection(mask).with_batch_size(BATCH).build();
        (metadata, Source::Parquet(reader.map_err(FinishedError::parquet(path))?))
    } else {
        let database = open_sqlite(path)?;
        (sqlite_metadata(&database).map_err(FinishedError::sqlite(path))?, Source::Sqlite(database, 0))
    };
    Ok(StoredVectors { metadata, path: path.to_owned(), source, waiting: Vec::new() })
}

/// Whether a file is Parquet rather than a database.
pub(crate) fn is_parquet(path: &Path) -> Result<bool, FinishedError> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    read.map_err(|source| FinishedError::Io { path: path.to_owned(), source })?;
    match &*start {
        [b'P', b'A', b'R', b'1', ..] => Ok(true),
        b"SQLite format 3\0" => Ok(false),
        _ => Err(FinishedError::not_ours(path, "neither a Parquet file nor a SQLite database")),
    }
}

pub(crate) fn open_parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, FinishedError> {
    let file = File::open(path).map_err(|source| FinishedError::Io { path: path.to_owned(), source })?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(FinishedError::parquet(path))
}

/// What stands in the footer, without the schema.
pub(crate) fn parquet_metadata(file: &ParquetRecordBatchReaderBuilder<File>) -> Vec<(String, String)> {
    let pairs = file.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let pairs = pairs.filter(|pair| pair.key != parquet::arrow::ARROW_SCHEMA_META_KEY);
    pairs.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect()
}

pub(crate) fn open_sqlite(path: &Path) -> Result<Connection, FinishedError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(FinishedError::sqlite(path))
}

/// What stands in the table `meta`.
pub(crate) fn sqlite_metadata(database: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut all = database.prepare("SELECT key, value FROM meta")?;
    all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// The hash and the vector of each record of a batch; `None` if it has no such columns.
pub(crate) fn hashes_and_vectors(batch: &RecordBatch) -> Option<Vec<StoredVector>> {
    let hashes = batch.column_by_name("text_sha256")?.as_string_opt::<i32>()?;
    let vectors = batch.column_by_name("embedding")?.as_fixed_size_list_opt()?;
    let of = |row: usize| Some(StoredVector { hash: from_hex(hashes.value(row))?, vector: bytes(vectors, row)? });
    (0..batch.num_rows()).map(of).collect()
}

/// The bytes of a vector.
fn bytes(vectors: &FixedSizeListArray, row: usize) -> Option<Vec<u8>> {
    let vector = vectors.value(row);
    Some(match vector.data_type() {
        DataType::Float32 => {
            vector.as_primitive::<Float32Type>().values().iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        DataType::Float16 => {
            vector.as_primitive::<Float16Type>().values().iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        DataType::Int8 => vector.as_primitive::<Int8Type>().values().iter().map(|x| x.cast_unsigned()).collect(),
        DataType::UInt8 => vector.as_primitive::<UInt8Type>().values().to_vec(),
        _ => return None,
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}

impl StoredVectors {
    /// Reads some more; none at the end.
    fn read(&mut self) -> Result<Vec<StoredVector>, FinishedError> {
        let path = &self.path;
        match &mut self.source {
            Source::Parquet(reader) => {
                let Some(batch) = reader.next() else { return Ok(Vec::new()) };
                let batch = batch.map_err(FinishedError::arrow(path))?;
                hashes_and_vectors(&batch).ok_or_else(|| FinishedError::not_ours(path, "no hashes and vectors in it"))
            }
            Source::Sqlite(database, last) => {
                let mut read = || {
                    let mut some = database.prepare_cached(
                        "SELECT rowid, text_sha256, embedding FROM embeddings WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
                    )?;
                    let rows = some.query_map((*last, BATCH as i64), |row| {
                        *last = row.get(0)?;
                        Ok(StoredVector { hash: row.get(1)?, vector: row.get(2)? })
                    })?;
                    rows.collect::<rusqlite::Result<Vec<_>>>()
                };
                read().map_err(FinishedError::sqlite(path))
            }
            Source::End => Ok(Vec::new()),
        }
    }
}

impl Iterator for StoredVectors {
    type Item = Result<StoredVector, FinishedError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.waiting.is_empty() {
            match self.read() {
                Ok(some) => self.waiting.extend(some.into_iter().rev()),
                Err(error) => {
                    self.source = Source::End;
                    return Some(Err(error));
                }
            }
        }
        self.waiting.pop().map(Ok)
    }
}

impl FinishedError {
    pub(crate) fn parquet(path: &Path) -> impl Fn(ParquetError) -> Self {
        move |source| FinishedError::Parquet { path: path.to_owned(), source }
    }

    pub(crate) fn arrow(path: &Path) -> impl Fn(ArrowError) -> Self {
        move |source| FinishedError::Parquet { path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |source| FinishedError::Sqlite { path: path.to_owned(), source }
    }

    pub(crate) fn not_ours(path: &Path, what: &'static str) -> Self {
        FinishedError::NotOurs { path: path.to_owned(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::dtype::Dtype;
    use crate::corpus::sample::sample;
    use crate::corpus::write::OutputFormat;

    #[test]
    fn vectors_come_back_with_their_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for format in [OutputFormat::Parquet, OutputFormat::Sqlite] {
            for (dtype, chunked) in Dtype::ALL.into_iter().flat_map(|dtype| [(dtype, false), (dtype, true)]) {
                let made = sample(700, 20, dtype, chunked);
                made.bytes(format, &path);
                let vectors = read_vectors(&path).unwrap();
                for pair in &made.layout.metadata {
                    assert!(vectors.metadata.contains(pair), "{format}: {pair:?}");
                }
                let found: Vec<StoredVector> = vectors.map(Result::unwrap).collect();
                let expected = made.records.iter().map(|record| record.record());
                let expected =
                    expected.map(|record| StoredVector { hash: record.hash, vector: record.vector.to_vec() });
                assert!(found == expected.collect::<Vec<_>>(), "{format}, {dtype}");
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_no_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let said = || match read_vectors(&path) {
            Err(error) => error.to_string(),
            Ok(vectors) => {
                vectors.map(|vector| vector.map_or_else(|error| error.to_string(), |_| "ok".into())).collect()
            }
        };
        assert!(said().contains("No such file") || !said().is_empty());
        sample(1, 2, Dtype::F32, false).bytes(OutputFormat::Jsonl, &path);
        assert!(said().ends_with("neither a Parquet file nor a SQLite database"), "{}", said());
        // Cut short, as by a copy that was stopped.
        let whole = sample(50, 2000, Dtype::F32, false).bytes(OutputFormat::Parquet, &path);
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(!said().is_empty() && !said().contains("ok"));
        let whole = sample(50, 2000, Dtype::F32, false).bytes(OutputFormat::Sqlite, &path);
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(said().contains("malformed"), "{}", said());
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (a)").unwrap();
        assert!(said().contains("no such table"), "{}", said());
    }
}
