//! What is read, and what of it is asked for.

use crate::corpus::read::format::InputFormat;
use crate::corpus::read::template::TextOf;
use std::path::PathBuf;

/// What to read: files, and what of their rows is text, id and company.
///
/// ```
/// use qembed_q::corpus::read::{Keep, Source};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("books.jsonl");
/// # std::fs::write(&path, r#"{"isbn":7,"title":"Ulysses","by":"Joyce"}"#)?;
/// let source = Source::new([path]).text(r"{title}\nby {by}".parse()?).id("isbn").keep(Keep::All);
/// for row in source.files()?.rows() {
///     let row = row??;
///     assert_eq!(row.texts, ["Ulysses\nby Joyce"]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Source {
    /// Files, folders, patterns such as `data/*.csv`, and `-` for standard input.
    pub inputs: Vec<PathBuf>,
    /// Where standard input lies: it is read more than once, so it must have been kept in a file.
    pub standard_input: Option<PathBuf>,
    /// The format of all files; else that which the name of each tells, and lines for standard input.
    pub format: Option<InputFormat>,
    /// Whether a file of lines is one text instead. Such a row has two fields, `text` and `path`.
    pub whole_file: bool,
    /// What separates the fields of a CSV file, if it is no comma.
    pub separator: Option<u8>,
    /// What is embedded.
    pub text: TextOf,
    /// The field that names a row, else its number in the input.
    pub id: Option<String>,
    /// The field that holds the instruction of a row; a row where it is missing, null or empty has none of its own.
    pub instruction: Option<String>,
    /// What goes along.
    pub keep: Keep,
}

/// Which fields go along with a vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// None.
    #[default]
    Nothing,
    /// All but the id and the text; the fields of which a template makes a text are kept.
    All,
    /// These. Where a JSON object has no such field, the value is null.
    Columns(Vec<String>),
}

impl Keep {
    /// Those that are named.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Keep::Columns(names) => names,
            Keep::Nothing | Keep::All => &[],
        }
    }
}

impl Source {
    /// Inputs whose texts are in the field `text`; their numbers are their ids, and nothing else is kept.
    pub fn new(inputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            inputs: inputs.into_iter().map(Into::into).collect(),
            standard_input: None,
            format: None,
            whole_file: false,
            separator: None,
            text: TextOf::Field("text".into()),
            id: None,
            instruction: None,
            keep: Keep::Nothing,
        }
    }

    /// With [`Self::standard_input`].
    pub fn standard_input(mut self, path: impl Into<PathBuf>) -> Self {
        self.standard_input = Some(path.into());
        self
    }

    /// With [`Self::format`].
    pub fn format(mut self, format: InputFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// With [`Self::whole_file`].
    pub fn whole_file(mut self, whole_file: bool) -> Self {
        self.whole_file = whole_file;
        self
    }

    /// With [`Self::separator`].
    pub fn separator(mut self, separator: u8) -> Self {
        self.separator = Some(separator);
        self
    }

    /// With [`Self::text`].
    pub fn text(mut self, text: TextOf) -> Self {
        self.text = text;
        self
    }

    /// With [`Self::id`].
    pub fn id(mut self, field: impl Into<String>) -> Self {
        self.id = Some(field.into());
        self
    }

    /// With [`Self::instruction`].
    pub fn instruction(mut self, field: impl Into<String>) -> Self {
        self.instruction = Some(field.into());
        self
    }

    /// With [`Self::keep`].
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }
}
