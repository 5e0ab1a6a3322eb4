//! Why an input, or a row of it, cannot be read.

use crate::corpus::row::Place;
use parquet::errors::ParquetError;
use qembed_models::text::TextError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be read, or not on from some place.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", Shown(path))]
pub struct ReadError {
    /// The file or folder, or a pattern; `-` is standard input.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: ReadProblem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadProblem {
    /// The system does not open it.
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// The system does not list a folder.
    #[error("this folder cannot be read: {0}")]
    Folder(#[source] io::Error),
    /// It is a pipe or the like.
    #[error("this is neither a file nor a folder; what can be read but once is read as standard input")]
    NotAFile,
    /// Nobody has kept standard input in a file.
    #[error("it can be read but once, and has to be kept in a file first")]
    NotKept,
    /// A pattern is none.
    #[error("this is no pattern: {0}")]
    Pattern(#[source] glob::PatternError),
    /// A pattern fits nothing.
    #[error("no file matches this pattern")]
    NoMatch,
    /// A folder or pattern gives nothing to read.
    #[error("{}", no_files(*.passed_over))]
    NoFiles {
        /// Files whose names tell no format.
        passed_over: u64,
    },
    /// Its name does not tell its format.
    #[error("its name does not tell its format, as .txt, .jsonl, .json, .csv, .tsv and .parquet do: say which it has")]
    UnknownFormat,
    /// The system does not read it on.
    #[error("cannot be read on: {0}")]
    Read(#[source] io::Error),
    /// Its compressed data ends too soon.
    #[error("its {compression} data ends too soon: was it cut off while it was downloaded or written?")]
    CutOff {
        /// How it is compressed.
        compression: Compression,
    },
    /// Its compressed data is wrong.
    #[error("its {compression} data is damaged: {source}")]
    Damaged {
        /// How it is compressed.
        compression: Compression,
        /// What the decoder said.
        source: io::Error,
    },
    /// It is compressed in another way.
    #[error("this is {kind}: unpack it first (gzip and zstd are read as they are)")]
    Packed {
        /// Its kind, with an article.
        kind: &'static str,
    },
    /// A Parquet file within a compressed one.
    #[error(
        "this is a Parquet file within {compression} data, which would have to be read from its end: unpack it first"
    )]
    PackedParquet {
        /// How it is compressed.
        compression: Compression,
    },
    /// It is no UTF-8.
    #[error("{0}{hint}", hint = latin(.0))]
    Encoding(#[source] TextError),
    /// It does not begin as Parquet files do.
    #[error("this is no Parquet file")]
    NotParquet,
    /// It does not end as Parquet files do.
    #[error(
        "this Parquet file is not whole: its footer is missing; was it cut off while it was downloaded or written?"
    )]
    NoFooter,
    /// The Parquet reader does not read it.
    #[error("this Parquet file cannot be read: {}", innermost(.0))]
    Parquet(#[source] ParquetError),
    /// A column that is asked for is not there.
    #[error("there is no column {column:?}: {}", columns(.there))]
    NoColumn {
        /// Which.
        column: String,
        /// Those that are, the likeliest first.
        there: Vec<String>,
    },
    /// A column that is asked for is there twice.
    #[error("there is more than one column {column:?}: give each a name of its own")]
    SameName {
        /// Which.
        column: String,
    },
    /// A column that is asked for is of another kind.
    #[error("the column {column:?} is of type {found}, and cannot be {wanted}{}", type_hint(.found, *.wanted))]
    WrongType {
        /// Which.
        column: String,
        /// Its type.
        found: String,
        /// What it was asked to be.
        wanted: Role,
    },
    /// A JSON file has another form.
    #[error("this is {found}, not an array of rows")]
    NotAnArray {
        /// What it begins with.
        found: &'static str,
    },
    /// A JSON array does not end.
    #[error(
        "the file ends within the array, in element {row}, which begins on line {line}: a bracket or a quotation mark is not \
         closed, or the file was cut off"
    )]
    OpenArray {
        /// The element, from 1.
        row: u64,
        /// Its first line.
        line: u64,
    },
    /// Something follows a JSON array.
    #[error("line {line}: there is something behind the end of the array")]
    AfterArray {
        /// Where.
        line: u64,
    },
    /// A field of a CSV file does not end.
    #[error("a quotation mark is not closed, in the row that begins on line {line}: its fields end nowhere")]
    OpenQuote {
        /// Where the row begins.
        line: u64,
    },
    /// A row of a CSV file does not end for long.
    #[error(
        "the row that begins on line {line} has more than {limit} bytes: is there a quotation mark that is not closed?"
    )]
    EndlessRow {
        /// Where the row begins.
        line: u64,
        /// The most bytes of a row.
        limit: usize,
    },
}

/// How a file may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// What a field is asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The text, or a part of it.
    Text,
    /// The id.
    Id,
    /// The instruction.
    Instruction,
    /// How many values a vector has.
    Dimensions,
}

/// Why a row cannot be read, though those after it can.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct RowError {
    /// Which row.
    pub place: Place,
    /// What is wrong with it.
    #[source]
    pub problem: RowProblem,
}

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// It is no UTF-8.
    #[error("{}{source}{}", within(.column), latin(source))]
    Encoding {
        /// The column whose bytes are counted, where it is not the line.
        column: Option<String>,
        /// Which byte.
        source: TextError,
    },
    /// It is longer than it may be.
    #[error("it has more than {limit} bytes, the most that are read")]
    TooLong {
        /// The most bytes.
        limit: usize,
    },
    /// It is no JSON.
    #[error("no valid JSON: {} at {}column {column}", reason(source), on_line(*.line))]
    NotJson {
        /// What the parser said.
        source: serde_json::Error,
        /// The line of an element of an array.
        line: Option<u64>,
        /// The byte of the line, from 1.
        column: u64,
    },
    /// A text within it is no JSON.
    #[error("the field {field:?} is no valid JSON: {}", reason(source))]
    BadField {
        /// Which.
        field: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// It is JSON of another kind.
    #[error("this is {found}, where {expected}")]
    NotARow {
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A field is missing.
    #[error("there is no field {field:?}: {}", fields(.there))]
    NoField {
        /// Which.
        field: String,
        /// Those that are there, the likeliest first.
        there: Vec<String>,
    },
    /// A field is of another kind.
    #[error("the field {field:?} is {found}, and cannot be {wanted}{}", kind_hint(.found, *.wanted))]
    WrongType {
        /// Which.
        field: String,
        /// What it is.
        found: String,
        /// What it was asked to be.
        wanted: Role,
    },
    /// A row of a CSV file is not as long as the first.
    #[error("it has {found} field{}, while the first row names {expected}: is a separator or a quotation mark missing?", if *.found == 1 { "" } else { "s" })]
    FieldCount {
        /// Fields that it should have.
        expected: usize,
        /// Those that it has.
        found: usize,
    },
    /// A request of a batch is not for embeddings.
    #[error("the request is for {what:?}, not for POST /v1/embeddings")]
    OtherRequest {
        /// Its method or URL.
        what: String,
    },
}

impl ReadError {
    pub(super) fn new(path: &Path, problem: ReadProblem) -> Self {
        Self { path: path.into(), problem }
    }
}

/// A path, for people.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0 == Path::new("-") { f.write_str("standard input") } else { self.0.display().fmt(f) }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Role::Text => "a text",
            Role::Id => "an id",
            Role::Instruction => "an instruction",
            Role::Dimensions => "a number of dimensions",
        })
    }
}

/// Names, those that resemble `wanted` first.
pub(super) fn likeliest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let unlike = |name: &String| -strsim::jaro_winkler(&wanted, &name.to_lowercase());
    names.sort_by(|a, b| unlike(a).total_cmp(&unlike(b)));
    names
}

/// Names for a sentence, of many the first.
fn listed(names: &[String]) -> String {
    const MOST: usize = 8;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn columns(there: &[String]) -> String {
    match there {
        [] => "there is none at all".into(),
        [one] if one.contains([';', '\t', '|']) => {
            format!("there is but {one:?}; is another character than the comma its separator?")
        }
        _ => format!("there are {}", listed(there)),
    }
}

fn fields(there: &[String]) -> String {
    if there.is_empty() { "it has none".into() } else { format!("it has {}", listed(there)) }
}

/// What prints: in a template, numbers and the like do.
const PRINTED: &str = "; in a template of several fields it is printed";

fn kind_hint(found: &str, wanted: Role) -> &'static str {
    if wanted == Role::Text && ["a number", "true or false"].contains(&found) { PRINTED } else { "" }
}

fn type_hint(found: &str, wanted: Role) -> &'static str {
    // Types within others are written in parentheses, and so are units of time, but those have no commas.
    let nested =
        ["List", "LargeList", "FixedSizeList", "Struct", "Map", "Union"].iter().any(|of| found.starts_with(of));
    if wanted == Role::Text && !nested { PRINTED } else { "" }
}

fn no_files(passed_over: u64) -> String {
    match passed_over {
        0 => "there is no file in it".into(),
        _ => format!(
            "no file in it has a name that tells a format, as .txt, .jsonl, .json, .csv, .tsv and .parquet do ({passed_over} \
             passed over): say which they have"
        ),
    }
}

fn within(column: &Option<String>) -> String {
    column.as_ref().map_or(String::new(), |column| format!("column {column:?}: "))
}

/// What most often is the case where bytes are no UTF-8.
fn latin(error: &TextError) -> &'static str {
    match error {
        TextError::NotUtf8 { .. } => {
            "; if this is Latin-1 or Windows-1252, make it UTF-8, for instance with `iconv -f WINDOWS-1252 -t UTF-8`"
        }
        _ => "",
    }
}

fn on_line(line: Option<u64>) -> String {
    line.map_or(String::new(), |line| format!("line {line}, "))
}

/// What the reader said, without the names of those who passed it on.
fn innermost(error: &ParquetError) -> String {
    let mut said = error.to_string();
    while let Some(rest) =
        ["External: ", "Parquet argument error: ", "Parquet error: "].iter().find_map(|by| said.strip_prefix(by))
    {
        said = rest.to_owned();
    }
    said
}

/// What the parser said, without the place, which is that within the row.
fn reason(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said).to_owned()
}
