//! Files of rows, in the forms in which people have them.
//!
//! A [`Source`] says what is read and what of it is asked for; [`Files`] are the files that it comes to; [`Rows`] are their
//! rows, one after the other, in memory that does not depend on their number. Every row is either there or named as bad:
//! none is dropped in silence.
//!
//! gzip and Zstandard are recognized by their first bytes, whatever a file is called.

mod batch;
mod csv;
mod elements;
mod error;
mod files;
mod fingerprint;
mod format;
mod json;
mod json_lines;
mod object;
mod parquet;
mod pick;
mod plain;
mod reader;
mod rows;
mod source;
mod survey;
mod template;
#[cfg(test)]
mod tests;
mod unpack;
mod value;

pub use error::{Compression, ReadError, ReadProblem, Role, RowError, RowProblem};
pub use files::{Files, InputFile};
pub use fingerprint::{Change, FileFingerprint, Fingerprint};
pub use format::InputFormat;
pub(crate) use format::ending;
pub use rows::Rows;
pub use source::{Keep, Source};
pub use survey::Survey;
pub use template::{Template, TemplateError, TextOf};
