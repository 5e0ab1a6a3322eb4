//! A first pass over all rows, which finds out what they have in common.

use crate::corpus::read::error::{ReadError, RowError};
use crate::corpus::read::files::Files;
use crate::corpus::row::{ColumnType, Columns, Row};

/// What all rows have in common.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Survey {
    /// Rows that can be read.
    pub rows: u64,
    /// Rows that cannot.
    pub bad: u64,
    /// Texts of all rows.
    pub texts: u64,
    /// The type of all ids.
    pub id: ColumnType,
    /// The columns that are kept, and their types.
    pub columns: Columns,
    /// Fields that were asked for, but that no row has: columns to keep, and that of the instruction.
    pub unseen: Vec<String>,
}

impl Files {
    /// Goes through all rows. `each` sees every one, and may end it.
    ///
    /// # Errors
    /// When a file cannot be read, and whatever `each` fails with.
    pub fn survey<E: From<ReadError>>(
        &self,
        mut each: impl FnMut(Result<Row, RowError>) -> Result<(), E>,
    ) -> Result<Survey, E> {
        let (mut rows, mut bad, mut texts) = (0, 0, 0);
        let mut id = ColumnType::Null;
        let mut types = Vec::new();
        let mut all = self.rows();
        while let Some(row) = all.next().transpose()? {
            match &row {
                Ok(row) => {
                    rows += 1;
                    texts += row.texts.len() as u64;
                    id.widen(&row.id);
                    types.resize(all.columns().len(), ColumnType::Null);
                    types.iter_mut().zip(&row.kept).for_each(|(of, value): (&mut ColumnType, _)| of.widen(value));
                }
                Err(_) => bad += 1,
            }
            each(row)?;
        }
        types.resize(all.columns().len(), ColumnType::Null);
        let columns = Columns { names: all.columns().to_vec(), types };
        let unseen = all.unseen().into_iter().map(str::to_owned).collect();
        Ok(Survey { rows, bad, texts, id, columns, unseen })
    }
}
