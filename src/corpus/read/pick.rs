//! Rows out of fields, the same way for all formats.

use crate::corpus::read::error::{ReadProblem, Role, RowError, RowProblem, likeliest};
use crate::corpus::read::source::{Keep, Source};
use crate::corpus::read::template::{Piece, TextOf};
use crate::corpus::read::value::{kind, text};
use crate::corpus::row::{Place, Row, Value};
use arrow_array::Array;
use qembed_models::tokenizer::MAX_TEXT_BYTES;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The fields of a row.
pub(super) trait Fields {
    /// The value of a field; `None` if there is no such field.
    fn value(&self, name: &str) -> Result<Option<Value>, RowProblem>;

    /// The names of all.
    fn names(&self) -> impl Iterator<Item = &str>;

    /// The text of a row that is nothing else, whatever its name.
    fn plain(&self) -> Option<&str> {
        None
    }
}

/// Makes rows of fields, and remembers the columns that it has met.
#[derive(Debug)]
pub(super) struct Picker {
    source: Arc<Source>,
    columns: Vec<String>,
    /// Where in `columns` a name stands.
    at: HashMap<String, usize>,
    /// Fields that were asked for, need not be in each row, and have been in none.
    unseen: HashSet<String>,
}

impl Picker {
    /// For rows of which a source tells what is picked.
    pub(super) fn new(source: Arc<Source>) -> Self {
        let (names, instruction) = (source.keep.names().to_vec(), source.instruction.clone());
        let mut picker = Self::with_columns(source, names.iter().map(String::as_str));
        picker.unseen.extend(names.into_iter().chain(instruction));
        picker
    }

    /// For rows that always have these columns.
    pub(super) fn with_columns<'a>(source: Arc<Source>, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut picker = Self { source, columns: Vec::new(), at: HashMap::new(), unseen: HashSet::new() };
        names.into_iter().for_each(|name| picker.add(name));
        picker
    }

    /// Adds a column, unless it is there.
    fn add(&mut self, name: &str) {
        if !self.at.contains_key(name) {
            self.at.insert(name.into(), self.columns.len());
            self.columns.push(name.into());
        }
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn unseen(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.unseen.iter().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Whether a field goes along where all do.
    pub(super) fn is_kept(&self, name: &str) -> bool {
        match &self.source.keep {
            Keep::Nothing => false,
            Keep::Columns(names) => names.iter().any(|kept| kept == name),
            Keep::All => {
                let is_text = matches!(&self.source.text, TextOf::Field(text) if text == name);
                !is_text && self.source.id.as_deref() != Some(name)
            }
        }
    }

    /// Checks the columns of a file whose rows all have the same: those that are asked for must be there, and but once.
    pub(super) fn check(&self, there: &[String]) -> Result<(), ReadProblem> {
        let source = &self.source;
        let asked = source.text.fields().chain(source.id.as_deref()).chain(source.instruction.as_deref());
        let kept = there.iter().map(String::as_str).filter(|name| self.is_kept(name));
        for name in asked.chain(source.keep.names().iter().map(String::as_str)).chain(kept) {
            match there.iter().filter(|other| *other == name).count() {
                0 => {
                    let there = likeliest(name, there.iter().map(String::as_str));
                    return Err(ReadProblem::NoColumn { column: name.into(), there });
                }
                1 => (),
                _ => return Err(ReadProblem::SameName { column: name.into() }),
            }
        }
        Ok(())
    }

    /// A row of fields. Without a field for the id it is null, to be numbered.
    pub(super) fn pick(&mut self, place: &Place, fields: &impl Fields) -> Result<Row, RowError> {
        self.try_pick(place, fields).map_err(|problem| RowError { place: place.clone(), problem })
    }

    fn try_pick(&mut self, place: &Place, fields: &impl Fields) -> Result<Row, RowProblem> {
        let source = self.source.clone();
        let text = match (&source.text, fields.plain()) {
            (TextOf::Field(_), Some(plain)) => plain.into(),
            (TextOf::Field(name), None) => text(name, needed(fields, name)?, false)?,
            (TextOf::Template(template), _) => {
                let mut whole = String::new();
                for piece in template.pieces() {
                    match piece {
                        Piece::Literal(literal) => whole.push_str(literal),
                        Piece::Field(name) => whole.push_str(&text(name, needed(fields, name)?, true)?),
                    }
                }
                whole
            }
        };
        if text.len() > MAX_TEXT_BYTES {
            return Err(RowProblem::TooLong { limit: MAX_TEXT_BYTES });
        }
        let id = source.id.as_ref().map_or(Ok(Value::Null), |name| id(name, needed(fields, name)?))?;
        let instruction = match &source.instruction {
            Some(name) => self.instruction(name, fields)?,
            None => None,
        };
        let kept = self.kept(&source.keep, fields)?;
        Ok(Row { place: place.clone(), id, texts: vec![text], instruction, dimensions: None, kept })
    }

    fn instruction(&mut self, name: &str, fields: &impl Fields) -> Result<Option<String>, RowProblem> {
        let Some(value) = fields.value(name)? else { return Ok(None) };
        self.unseen.remove(name);
        let text = text(name, value, false).map_err(|problem| match problem {
            RowProblem::WrongType { field, found, .. } => {
                RowProblem::WrongType { field, found, wanted: Role::Instruction }
            }
            other => other,
        })?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn kept(&mut self, keep: &Keep, fields: &impl Fields) -> Result<Vec<Value>, RowProblem> {
        match keep {
            Keep::Nothing => Ok(Vec::new()),
            Keep::Columns(_) => {
                let mut kept = Vec::with_capacity(self.columns.len());
                for name in &self.columns {
                    let value = fields.value(name)?;
                    if value.is_some() && !self.unseen.is_empty() {
                        self.unseen.remove(name);
                    }
                    kept.push(value.unwrap_or(Value::Null));
                }
                Ok(kept)
            }
            Keep::All => {
                let mut kept = vec![Value::Null; self.columns.len()];
                for name in fields.names().filter(|name| self.is_kept(name)).collect::<Vec<_>>() {
                    let value = fields.value(name)?.unwrap_or(Value::Null);
                    match self.at.get(name) {
                        Some(at) => kept[*at] = value,
                        None => {
                            self.add(name);
                            kept.push(value);
                        }
                    }
                }
                Ok(kept)
            }
        }
    }
}

/// The value of a field that must be there.
pub(super) fn needed(fields: &impl Fields, name: &str) -> Result<Value, RowProblem> {
    fields
        .value(name)?
        .ok_or_else(|| RowProblem::NoField { field: name.into(), there: likeliest(name, fields.names()) })
}

/// An id, which may be anything that is one thing.
fn id(name: &str, value: Value) -> Result<Value, RowProblem> {
    let ok = match &value {
        Value::Null => false,
        Value::Json(json) => !json.starts_with(['[', '{']),
        Value::Cell(array, row) => !array.is_null(*row) && !array.data_type().is_nested(),
        _ => true,
    };
    let wrong = |value| RowProblem::WrongType { field: name.into(), found: kind(&value), wanted: Role::Id };
    if ok { Ok(value) } else { Err(wrong(value)) }
}
