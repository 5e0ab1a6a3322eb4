//! Whether parts belong together, and in which order.

use crate::corpus::merge::error::MergeError;
use crate::corpus::record::{PART, SHARD, SHARDS};
use std::path::PathBuf;

/// Names and values that concern all records of an output.
pub(crate) type Metadata = Vec<(String, String)>;

/// A part, or a file of one that is in several, and what it says of all its records.
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) metadata: Metadata,
}

impl Part {
    /// Which of how many it is.
    fn number(&self) -> Result<(u64, u64), MergeError> {
        let parsed = match self.said(PART) {
            Some(part) => part.split_once('/').and_then(|(number, count)| {
                let (number, count) = (number.parse().ok()?, count.parse().ok()?);
                (1..=count).contains(&number).then_some((number, count))
            }),
            // Files of a whole are put together, too.
            None => self.shard().map(|_| (1, 1)),
        };
        parsed.ok_or_else(|| MergeError::NoPart { path: self.path.clone() })
    }

    /// Which file of its part it is, from 0, where that is in several.
    fn shard(&self) -> Option<u64> {
        self.said(SHARD)?.parse().ok()
    }

    /// What it must have in common with the others.
    fn common(&self) -> impl Iterator<Item = &(String, String)> {
        self.metadata.iter().filter(|(key, _)| ![PART, SHARD, SHARDS].contains(&key.as_str()))
    }

    fn said(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    fn get(&self, key: &str) -> String {
        self.said(key).map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"))
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
    numbered.sort_by_key(|((number, _), part)| (*number, part.shard()));
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
    let same = |a: &Part, b: &Part| a.shard().is_none() || a.shard() == b.shard();
    let twice = numbered.array_windows().find(|[a, b]| a.0 == b.0 && same(&a.1, &b.1));
    if let Some([(_, first), (_, second)]) = twice {
        return Err(MergeError::Twice { first: first.path.clone(), second: second.path.clone() });
    }
    let there = |number: &u64| numbered.iter().any(|((other, _), _)| other == number);
    let missing: Vec<u64> = (1..=*count).filter(|number| !there(number)).take(1000).collect();
    if !missing.is_empty() {
        return Err(MergeError::Missing { count: *count, missing });
    }
    for files in numbered.chunk_by(|a, b| a.0 == b.0) {
        check_files(files[0].0.0, &files.iter().map(|(_, part)| part).collect::<Vec<_>>())?;
    }
    let metadata = first.common().cloned().collect();
    Ok((numbered.into_iter().map(|(_, part)| part).collect(), metadata))
}

/// That the files of a part, in their order, are one, or all of several.
fn check_files(part: u64, files: &[&Part]) -> Result<(), MergeError> {
    let Some((last, number)) = files.last().and_then(|last| Some((last, last.shard()?))) else { return Ok(()) };
    let there = |number: &u64| files.iter().any(|file| file.shard() == Some(*number));
    let missing: Vec<u64> = (0..number).filter(|number| !there(number)).take(1000).collect();
    if !missing.is_empty() {
        return Err(MergeError::MissingFiles { part, missing });
    }
    match files.iter().position(|file| file.said(SHARDS).is_some()) {
        None => Err(MergeError::NoLast { path: last.path.clone() }),
        Some(end) if end + 1 < files.len() => Err(MergeError::Stale { path: files[end + 1].path.clone() }),
        Some(_) => Ok(()),
    }
}
