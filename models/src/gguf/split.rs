//! Split models: `name-00001-of-00003.gguf` and its siblings, opened together whichever one is named.
//!
//! The parts' own metadata decides (`split.no`, counted from 0, `split.count` and `split.tensors.count`); file names only
//! say where the siblings lie. Metadata of the model comes from the first part.

use super::error::{GgufError, GgufProblem};
use super::map::Access;
use super::part::Part;
use std::path::{Path, PathBuf};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// The number of parts that a file says the model has; 1 for an ordinary file.
pub(super) fn count(part: &Part) -> Result<u32, GgufError> {
    Ok(part.metadata.int::<u16>(COUNT, "a u16")?.unwrap_or(1).max(1).into())
}

/// Opens all parts of the model that `part`, opened from `path`, belongs to, in their order.
pub(super) fn with_siblings(path: &Path, part: Part, access: Access) -> Result<Vec<Part>, GgufError> {
    let count = count(&part)?;
    if count == 1 {
        return Ok(vec![part]);
    }
    let no = part.metadata.int::<u32>(NO, "a u16")?.ok_or_else(|| part.metadata.missing(NO))?;
    if no >= count {
        return Err(GgufProblem::SplitMismatch { key: NO, found: no.into(), expected: (count - 1).into() }.at(path));
    }
    let expected = suffix(no, count);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some(stem) = name.strip_suffix(&expected) else {
        return Err(GgufProblem::SplitName { part: no + 1, count, expected }.at(path));
    };

    let sibling = |i: u32| -> PathBuf { path.with_file_name(format!("{stem}{}", suffix(i, count))) };
    // All names before any part: the user hears of a missing part at once, and an absurd count ends here.
    for i in 0..count {
        let missing = sibling(i);
        if i != no && !missing.exists() {
            return Err(GgufProblem::SplitMissing { part: i + 1, count, missing }.at(path));
        }
    }
    let total = require(&part, TENSORS)?;
    let mut this = Some(part);
    let mut parts = Vec::new();
    for i in 0..count {
        let opened = match this.take_if(|_| i == no) {
            Some(part) => part,
            None => Part::open(&sibling(i), access)?,
        };
        for (key, expected) in [(NO, i.into()), (COUNT, count.into()), (TENSORS, total)] {
            let found = require(&opened, key)?;
            if found != expected {
                return Err(GgufProblem::SplitMismatch { key, found, expected }.at(opened.metadata.path()));
            }
        }
        parts.push(opened);
    }
    let found = parts.iter().map(|p| p.tensors.len() as u64).sum();
    if found != total {
        return Err(GgufProblem::SplitTensors { found, expected: total }.at(path));
    }
    Ok(parts)
}

fn require(part: &Part, key: &str) -> Result<u64, GgufError> {
    part.metadata.int::<u64>(key, "a u64")?.ok_or_else(|| part.metadata.missing(key))
}

/// The end of the name of part `no` (from 0) of `count`.
fn suffix(no: u32, count: u32) -> String {
    format!("-{:05}-of-{count:05}.gguf", no + 1)
}
