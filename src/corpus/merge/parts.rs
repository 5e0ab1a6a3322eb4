//! Whether parts belong together, and in which order.

use crate::corpus::merge::error::MergeError;
use crate::corpus::record::PART;
use std::path::PathBuf;

/// Names and values that concern all records of an output.
pub(crate) type Metadata = Vec<(String, String)>;

/// A part, and what it says of all its records.
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) metadata: Metadata,
}

impl Part {
    /// Which of how many it is.
    fn number(&self) -> Result<(u64, u64), MergeError> {
        let said = self.metadata.iter().find(|(key, _)| key == PART);
        let parsed = said.and_then(|(_, part)| part.split_once('/')).and_then(|(number, count)| {
            Some((number.parse().ok()?, count.parse().ok()?)).filter(|(number, count)| (1..=*count).contains(number))
        });
        parsed.ok_or_else(|| MergeError::NoPart { path: self.path.clone() })
    }

    /// What it must have in common with the others.
    fn common(&self) -> impl Iterator<Item = &(String, String)> {
        self.metadata.iter().filter(|(key, _)| key != PART)
    }

    fn get(&self, key: &str) -> String {
        let found = self.metadata.iter().find(|(other, _)| other == key);
        found.map_or_else(|| "nothing".to_owned(), |(_, value)| format!("{value:?}"))
    }
}

/// The error of two parts that differ in something.
pub(crate) fn differs(path: &Part, first: &Part, key: &str, found: String, expected: String) -> MergeError {
    MergeError::Differs { path: path.path.clone(), first: first.path.clone(), key: key.to_owned(), found, expected }
}

/// Parts in their order: all of one output, each once. With what they have in common, which is what the whole says.
pub(crate) fn in_order(parts: Vec<Part>) -> Result<(Vec<Part>, Metadata), MergeError> {
    let mut numbered = Vec::new();
    for part in parts {
        numbered.push((part.number()?, part));
    }
    numbered.sort_by_key(|((number, _), _)| *number);
    let [((_, count), first), ..] = &*numbered else { return Err(MergeError::NoParts) };
    for ((_, other), part) in &numbered {
        if other != count {
            return Err(differs(part, first, PART, part.get(PART), first.get(PART)));
        }
        let keys = part.common().chain(first.common());
        if let Some((key, _)) = keys.into_iter().find(|(key, _)| part.get(key) != first.get(key)) {
            return Err(differs(part, first, key, part.get(key), first.get(key)));
        }
    }
    if let Some([(_, first), (_, second)]) = numbered.array_windows().find(|[a, b]| a.0 == b.0) {
        return Err(MergeError::Twice { first: first.path.clone(), second: second.path.clone() });
    }
    if (numbered.len() as u64) < *count {
        let there = |number: &u64| numbered.iter().any(|((other, _), _)| other == number);
        let missing = (1..=*count).filter(|number| !there(number)).take(1000).collect();
        return Err(MergeError::Missing { count: *count, missing });
    }
    let metadata = first.common().cloned().collect();
    Ok((numbered.into_iter().map(|(_, part)| part).collect(), metadata))
}
