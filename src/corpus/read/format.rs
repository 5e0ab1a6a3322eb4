//! The forms in which an input may come.

use crate::corpus::language::Language;
use std::path::Path;

/// What a file consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputFormat {
    /// A line is a text: `.txt`.
    Lines,
    /// The file is one text.
    Whole,
    /// Texts that end with a zero byte, as `find -print0` writes them.
    Nul,
    /// A line is a JSON object or string; blank lines are none: `.jsonl`, `.ndjson`.
    JsonLines,
    /// An array of JSON objects or strings, or the same without an array, one a line: `.json`.
    Json,
    /// Fields separated by commas (RFC 4180), after a first row with their names: `.csv`.
    Csv,
    /// The same with tabs: `.tsv`.
    Tsv,
    /// Apache Parquet: `.parquet`.
    Parquet,
    /// The input of OpenAI's Batch API: a request for embeddings a line.
    ///
    /// The id of a row is the request's `custom_id`, its texts are the `input`, its vectors have `dimensions` values, and its columns are
    /// always `model`, `dimensions` and `encoding_format` of the request's body.
    OpenAiBatch,
}

/// Endings of names, and what they say.
const ENDINGS: [(&str, InputFormat); 10] = [
    ("txt", InputFormat::Lines),
    ("text", InputFormat::Lines),
    ("jsonl", InputFormat::JsonLines),
    ("ndjson", InputFormat::JsonLines),
    ("json", InputFormat::Json),
    ("csv", InputFormat::Csv),
    ("tsv", InputFormat::Tsv),
    ("tab", InputFormat::Tsv),
    ("parquet", InputFormat::Parquet),
    ("pq", InputFormat::Parquet),
];

/// Endings that come after those, of compressed files.
const COMPRESSED: [&str; 4] = ["gz", "gzip", "zst", "zstd"];

/// Endings of files that are no rows of texts, but may be texts as a whole; so may code whose syntax is known.
const DOCUMENTS: [&str; 21] = [
    "md", "markdown", "rst", "c", "cc", "cpp", "cs", "cts", "cxx", "h", "hpp", "kt", "mts", "php", "rb", "rs", "scala",
    "sh", "swift", "ts", "tsx",
];

impl InputFormat {
    /// What a file's name says, whether it is compressed or not. With `whole_file`, one of lines is one text instead, and
    /// so are documents (`.md`, `.markdown`, `.rst`) and code.
    pub fn of_name(path: &Path, whole_file: bool) -> Option<Self> {
        let ending = ending(path)?;
        let is_text = || DOCUMENTS.contains(&ending.as_str()) || Language::of_ending(&ending).is_some();
        match ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format) {
            Some(Self::Lines) if whole_file => Some(Self::Whole),
            None if whole_file && is_text() => Some(Self::Whole),
            other => other,
        }
    }
}

/// How a name ends, in lower case; where it says that the file is compressed, how it ends before that.
pub(crate) fn ending(path: &Path) -> Option<String> {
    let ending = |path: &Path| path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    let last = ending(path)?;
    if COMPRESSED.contains(&last.as_str()) { ending(Path::new(path.file_stem()?)) } else { Some(last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_format_under_its_compression() {
        let of = |name: &str| InputFormat::of_name(Path::new(name), false);
        assert_eq!(of("a/b.TXT"), Some(InputFormat::Lines));
        assert_eq!(of("b.jsonl.gz"), Some(InputFormat::JsonLines));
        assert_eq!(of("b.x.csv.ZST"), Some(InputFormat::Csv));
        assert_eq!(of("b.parquet"), Some(InputFormat::Parquet));
        for name in ["b.gz", "jsonl", ".jsonl", "b.md", "-", "b.csv.gz.gz", "a.csv/b"] {
            assert_eq!(of(name), None, "{name}");
        }
        let whole = |name: &str| InputFormat::of_name(Path::new(name), true);
        assert_eq!((whole("a.md.gz"), whole("a.txt")), (Some(InputFormat::Whole), Some(InputFormat::Whole)));
        assert_eq!(
            (whole("a.rs"), whole("a.Py.zst"), whole("a.cpp")),
            (Some(InputFormat::Whole), Some(InputFormat::Whole), Some(InputFormat::Whole))
        );
        assert_eq!((whole("a.exe"), whole("a.csv"), of("a.rs")), (None, Some(InputFormat::Csv), None));
    }
}
