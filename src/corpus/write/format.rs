//! The forms of outputs.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputFormat {
    /// A JSON object a line: `{"id":…,"embedding":[…]}`, with the kept columns beside those.
    Jsonl,
    /// A JSON array of such objects.
    Json,
    /// Comma-separated values with a header; the last column is the vector as `[0.1,0.2]`.
    Csv,
    /// The same separated by tabs.
    Tsv,
    /// A NumPy matrix, a row a record. It has no ids: its rows are in the input's order.
    Npy,
    /// The vectors' bytes alone, in the input's order.
    Raw,
    /// Parquet, the vectors as lists of fixed size.
    Parquet,
    /// A SQLite database with a table `embeddings`, its vectors as sqlite-vec reads them.
    Sqlite,
    /// What OpenAI's batches give back: an answer a line.
    OpenaiBatch,
}

/// No form of outputs has this name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no form of an output; there are {names}", names = OutputFormat::names())]
pub struct OutputFormatError(String);

impl OutputFormat {
    /// All of them.
    pub const ALL: [OutputFormat; 9] = [
        OutputFormat::Jsonl,
        OutputFormat::Json,
        OutputFormat::Csv,
        OutputFormat::Tsv,
        OutputFormat::Npy,
        OutputFormat::Raw,
        OutputFormat::Parquet,
        OutputFormat::Sqlite,
        OutputFormat::OpenaiBatch,
    ];

    /// The names of all of them, with commas between them.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            OutputFormat::Jsonl => "jsonl",
            OutputFormat::Json => "json",
            OutputFormat::Csv => "csv",
            OutputFormat::Tsv => "tsv",
            OutputFormat::Npy => "npy",
            OutputFormat::Raw => "raw",
            OutputFormat::Parquet => "parquet",
            OutputFormat::Sqlite => "sqlite",
            OutputFormat::OpenaiBatch => "openai-batch",
        }
    }

    /// What the end of a file's name says it is.
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "ndjson" => Some(OutputFormat::Jsonl),
            "db" | "sqlite3" => Some(OutputFormat::Sqlite),
            "bin" => Some(OutputFormat::Raw),
            name => name.parse().ok(),
        }
    }

    /// Whether a record has more in it than its vector: its id, and columns that are kept.
    pub fn has_ids(self) -> bool {
        !matches!(self, OutputFormat::Npy | OutputFormat::Raw)
    }

    /// Whether the columns that are kept are in it.
    pub fn has_columns(self) -> bool {
        self.has_ids() && self != OutputFormat::OpenaiBatch
    }

    /// Whether a later run finds in it which texts have been embedded, and how.
    pub fn has_hashes(self) -> bool {
        matches!(self, OutputFormat::Parquet | OutputFormat::Sqlite)
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for OutputFormat {
    type Err = OutputFormatError;

    fn from_str(name: &str) -> Result<Self, OutputFormatError> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| OutputFormatError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for format in OutputFormat::ALL {
            assert_eq!(format.name().parse::<OutputFormat>().unwrap(), format);
        }
        let error = "xlsx".parse::<OutputFormat>().unwrap_err().to_string();
        assert!(error.starts_with("\"xlsx\" is no form of an output; there are jsonl, json, "), "{error}");
        assert!(error.ends_with(", sqlite, openai-batch"), "{error}");
        let of = |name: &str| OutputFormat::of_path(Path::new(name));
        assert_eq!(of("a/b.JSONL"), Some(OutputFormat::Jsonl));
        assert_eq!(of("b.db"), Some(OutputFormat::Sqlite));
        assert_eq!(of("b.tar.parquet"), Some(OutputFormat::Parquet));
        assert_eq!((of("parquet"), of("b.txt"), of("b.openai-batch")), (None, None, Some(OutputFormat::OpenaiBatch)));
    }
}
