//! The metadata table of one file: where each value lies, and a sorted index of the keys.

use super::cursor::Cursor;
use super::error::{GgufError, GgufProblem, Quoted};
use super::value::{Value, ValueType};
use bytes::Bytes;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Keys and tensor names may be this long (the GGUF specification's limit for keys), in bytes.
pub const MAX_NAME: u64 = 65_535;
/// A file may have this many metadata keys; models in the wild have fewer than 100.
pub const MAX_METADATA: u64 = 65_536;

/// The fewest bytes of an entry: key length, value type and a value of one byte.
const MIN_ENTRY: u64 = 8 + 4 + 1;

/// The metadata of one file.
pub(super) struct Metadata {
    path: PathBuf,
    bytes: Bytes,
    entries: Vec<Entry>,
    index: NameIndex,
}

struct Entry {
    key: String,
    ty: ValueType,
    value: Range<usize>,
}

impl Metadata {
    /// Reads `count` entries at the cursor, which reads the whole of `bytes`.
    pub(super) fn read(c: &mut Cursor<'_>, count: u64, path: &Path, bytes: &Bytes) -> Result<Self, GgufProblem> {
        limit(format_args!("the number of metadata keys"), count, MAX_METADATA)?;
        c.fits(count, MIN_ENTRY, format_args!("the metadata ({count} keys)"))?;
        let mut entries = Vec::with_capacity(count as usize);
        for i in 0..count {
            let key = name(c, format_args!("metadata key {} of {count}", i + 1))?;
            let ty = ValueType::read(c, key)?;
            let start = c.pos();
            ty.skip(c, key)?;
            entries.push(Entry { key: key.to_owned(), ty, value: start..c.pos() });
        }
        let index = NameIndex::new(entries.len(), |i| &entries[i].key)
            .map_err(|i| GgufProblem::DuplicateKey { key: Quoted::new(&entries[i].key) })?;
        Ok(Metadata { path: path.to_owned(), bytes: bytes.clone(), entries, index })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: &str) -> Option<Value<'_>> {
        let i = self.index.find(key, |i| &self.entries[i].key)?;
        self.decode(&self.entries[i]).ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().filter_map(|e| Some((e.key.as_str(), self.decode(e).ok()?)))
    }

    /// Cannot fail for what the open walked.
    fn decode<'a>(&'a self, e: &'a Entry) -> Result<Value<'a>, GgufProblem> {
        Value::decode(e.ty, &self.bytes[e.value.clone()], &self.path, &e.key)
    }

    /// The value of a key turned into a `T` by `cast`, which gives `None` for a value of the wrong type.
    pub(super) fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        cast: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        cast(value).map(Some).ok_or_else(|| {
            GgufProblem::WrongType { key: Quoted::new(key), expected, found: value.described() }.at(&self.path)
        })
    }

    /// A whole number of any type, or an array of nothing but the same one, in the range of `T`.
    pub(super) fn int<T: TryFrom<i128>>(&self, key: &str, expected: &'static str) -> Result<Option<T>, GgufError> {
        let whole = |v: f64| (v.fract() == 0.0 && v.abs() < 2f64.powi(53)).then_some(v as i128);
        let int = |v: Value<'_>| v.as_int().or_else(|| whole(v.as_number()?));
        let Some(value) = self.typed(key, expected, |v| int(v.single()?))? else { return Ok(None) };
        T::try_from(value).map(Some).map_err(|_| {
            GgufProblem::OutOfRange { key: Quoted::new(key), value: value.to_string(), expected }.at(&self.path)
        })
    }

    pub(super) fn missing(&self, key: &str) -> GgufError {
        GgufProblem::MissingKey { key: Quoted::new(key) }.at(&self.path)
    }
}

/// A key or tensor name at the cursor.
pub(super) fn name<'a>(c: &mut Cursor<'a>, what: std::fmt::Arguments<'_>) -> Result<&'a str, GgufProblem> {
    let start = c.clone();
    let bytes = c.string(what)?;
    limit(format_args!("the length of {what}"), bytes.len() as u64, MAX_NAME)?;
    std::str::from_utf8(bytes).map_err(|_| GgufProblem::NotUtf8 { what: format!("{what}, at offset {},", start.pos()) })
}

/// Checks a count from the file against a fixed limit.
pub(super) fn limit(what: std::fmt::Arguments<'_>, value: u64, limit: u64) -> Result<(), GgufProblem> {
    if value > limit { Err(GgufProblem::Limit { what: what.to_string(), value, limit }) } else { Ok(()) }
}

/// Item numbers in the order of the items' names: four bytes an item, and nothing that crafted names can degrade.
pub(super) struct NameIndex(Vec<u32>);

impl NameIndex {
    /// Indexes `len` names (fewer than 2³²); the error is the number of an item whose name occurs twice.
    pub(super) fn new<'a>(len: usize, name: impl Fn(usize) -> &'a str) -> Result<Self, usize> {
        let mut order: Vec<u32> = (0..len as u32).collect();
        order.sort_unstable_by_key(|&i| name(i as usize));
        match order.windows(2).find(|w| name(w[0] as usize) == name(w[1] as usize)) {
            Some(w) => Err(w[0].max(w[1]) as usize),
            None => Ok(NameIndex(order)),
        }
    }

    /// The number of the item with this name.
    pub(super) fn find<'a>(&self, wanted: &str, name: impl Fn(usize) -> &'a str) -> Option<usize> {
        let at = self.0.binary_search_by(|&i| name(i as usize).cmp(wanted)).ok()?;
        Some(self.0[at] as usize)
    }
}
