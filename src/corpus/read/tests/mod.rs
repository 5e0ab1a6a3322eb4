//! All formats, through the front door.

mod errors;
mod files;
mod formats;
mod parquet;
mod same;

use crate::corpus::read::value::text;
use crate::corpus::read::{ReadError, RowError, Source};
use crate::corpus::row::{Row, Value};
use arrow_array::Array;
use arrow_cast::display::array_value_to_string;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder with files in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with one file, and a source that reads it.
    fn with(name: &str, bytes: impl AsRef<[u8]>) -> (Self, Source) {
        let folder = Self::new();
        let path = folder.write(name, bytes);
        (folder, Source::new([path]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The rows: id, texts, instruction and what is kept. Those that are none begin with `!`, and what ends a file with `!!`;
    /// files are named from this folder on.
    fn rows(&self, source: &Source) -> Vec<String> {
        let files = match source.files() {
            Ok(files) => files,
            Err(error) => return vec![self.bare(format!("!! {error}"))],
        };
        let pass = || files.rows().map(|item| self.shown(item)).collect::<Vec<_>>();
        let first = pass();
        assert_eq!(first, pass(), "the same rows the second time");
        first
    }

    fn shown(&self, item: Result<Result<Row, RowError>, ReadError>) -> String {
        self.bare(match item {
            Ok(Ok(row)) => {
                let mut shown = format!("{} {:?}", value(&row.id), row.texts);
                shown += &row.instruction.map_or(String::new(), |instruction| format!(" <{instruction}>"));
                row.kept.iter().for_each(|kept| shown += &format!(" {}", value(kept)));
                shown
            }
            Ok(Err(error)) => format!("! {error}"),
            Err(error) => format!("!! {error}"),
        })
    }

    /// Without this folder's own path, and with one kind of separators.
    fn bare(&self, text: String) -> String {
        let own = self.0.path().display().to_string();
        text.replace(&format!("{own}{}", std::path::MAIN_SEPARATOR), "").replace(&own, ".")
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Text(text) => format!("{text:?}"),
        Value::Json(json) => format!("json:{json}"),
        Value::Cell(array, row) if array.is_null(*row) => format!("{}:null", array.data_type()),
        Value::Cell(array, row) => {
            let nested = || array_value_to_string(array, *row).unwrap();
            let shown = text("", value.clone(), true).unwrap();
            format!("{}:{}", array.data_type(), if array.data_type().is_nested() { nested() } else { shown })
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}
