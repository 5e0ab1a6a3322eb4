//! Vectors of passages, kept in a file from one search to the next.
//!
//! One file for each model and source. A vector is found by the SHA-256 of its passage, so an edited file costs the
//! passages that changed. It must never give a wrong vector: a file that is not whole, or not of this form, counts as
//! none; it is replaced as a whole or not at all.

use crate::gguf::AtomicFile;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first bytes of a cache file. The number counts forms of the file.
const MAGIC: &[u8; 8] = b"QEMBVEC1";

/// What a vector is found by: the SHA-256 of its passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

/// The vectors of one model for one source.
#[derive(Debug, Default)]
pub struct VectorCache {
    path: PathBuf,
    dimensions: usize,
    vectors: HashMap<Key, Vec<f32>>,
    /// When they were saved or read; never where no file is kept.
    saved: Option<Instant>,
}

impl VectorCache {
    /// The cache in `folder` for what `identity` describes; empty if there is none.
    ///
    /// `dimensions` is the length of every vector in it.
    pub fn open(folder: &Path, identity: &str, dimensions: usize) -> Self {
        let name: String = Key::of(identity).0[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(name + ".vectors");
        let vectors = read(&path, dimensions);
        Self { path, dimensions, vectors, saved: Some(Instant::now()) }
    }

    /// The vector of a passage.
    pub fn get(&self, key: &Key) -> Option<&[f32]> {
        self.vectors.get(key).map(Vec::as_slice)
    }

    /// Adds a vector.
    pub fn insert(&mut self, key: Key, vector: &[f32]) {
        self.vectors.insert(key, vector.into());
    }

    /// Writes the vectors of these passages to the disk, and forgets all others. Those that are missing here but stand in
    /// the file, since another search has put them there meanwhile, stay and are taken over.
    ///
    /// # Errors
    /// When the folder cannot be made or the file not be written; then an older file is as it was.
    pub fn save(&mut self, passages: &[Key]) -> io::Result<()> {
        let keep: HashSet<&Key> = passages.iter().collect();
        self.vectors.retain(|key, _| keep.contains(key));
        if self.vectors.len() < keep.len() {
            for (key, vector) in read(&self.path, self.dimensions) {
                if keep.contains(&key) {
                    self.vectors.entry(key).or_insert(vector);
                }
            }
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = AtomicFile::create(&self.path)?;
        encode(&self.vectors, &mut file)?;
        file.commit()?;
        self.saved = Some(Instant::now());
        Ok(())
    }

    /// [`Self::save`], when that was last done longer ago than `every`: who calls it often loses no more than so much work
    /// when the program is killed.
    ///
    /// # Errors
    /// As [`Self::save`]; it is tried again after as long.
    pub fn save_now_and_then(&mut self, passages: &[Key], every: Duration) -> io::Result<()> {
        if self.saved.is_none_or(|saved| saved.elapsed() < every) {
            return Ok(());
        }
        self.saved = Some(Instant::now());
        self.save(passages)
    }
}

/// The vectors of a file; none unless it is whole.
fn read(path: &Path, dimensions: usize) -> HashMap<Key, Vec<f32>> {
    fs::read(path).ok().and_then(|bytes| decode(&bytes, dimensions)).unwrap_or_default()
}

/// [`MAGIC`], then a key and a vector of little-endian f32 each, then the SHA-256 of all that.
fn encode(vectors: &HashMap<Key, Vec<f32>>, out: &mut impl Write) -> io::Result<()> {
    let mut sum = Sha256::new();
    let mut write = |bytes: &[u8]| {
        sum.update(bytes);
        out.write_all(bytes)
    };
    write(MAGIC)?;
    for (key, vector) in vectors {
        write(&key.0)?;
        write(&vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    out.write_all(&sum.finalize())
}

/// `None` unless it is a whole file of such vectors.
fn decode(bytes: &[u8], dimensions: usize) -> Option<HashMap<Key, Vec<f32>>> {
    let (bytes, sum) = bytes.split_last_chunk::<32>()?;
    let entries = bytes.strip_prefix(MAGIC)?;
    let size = size_of::<Key>() + 4 * dimensions;
    if Sha256::digest(bytes)[..] != sum[..] || !entries.len().is_multiple_of(size) {
        return None;
    }
    let entry = |entry: &[u8]| {
        let (key, vector) = entry.split_first_chunk::<32>()?;
        let floats = vector.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
        Some((Key(*key), floats.collect()))
    };
    entries.chunks_exact(size).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_file_of_the_same_dimensions_is_read() {
        let vectors = HashMap::from([(Key::of("a"), vec![1.0, -2.5]), (Key::of("b"), vec![0.0, f32::MIN_POSITIVE])]);
        let mut bytes = Vec::new();
        encode(&vectors, &mut bytes).unwrap();
        assert_eq!(decode(&bytes, 2), Some(vectors));
        assert_eq!(decode(&bytes, 3), None);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut], 2), None, "{cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes, 2), None, "{at}");
        }
    }

    #[test]
    fn what_is_saved_is_found_again_and_the_rest_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/on/demand");
        let mut cache = VectorCache::open(&folder, "model and source", 1);
        cache.insert(Key::of("a"), &[1.0]);
        cache.insert(Key::of("b"), &[2.0]);
        cache.save(&[Key::of("b"), Key::of("c")]).unwrap();
        let cache = VectorCache::open(&folder, "model and source", 1);
        assert_eq!((cache.get(&Key::of("a")), cache.get(&Key::of("b"))), (None, Some(&[2.0][..])));
        assert!(VectorCache::open(&folder, "another model", 1).vectors.is_empty());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn it_is_saved_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let open = || VectorCache::open(folder.path(), "model and source", 1);
        let mut cache = open();
        let keys = ["a", "b"].map(Key::of);
        for (count, key) in keys.iter().enumerate() {
            cache.insert(*key, &[1.0]);
            cache.save_now_and_then(&keys, Duration::from_secs(3600)).unwrap();
            assert_eq!(open().vectors.len(), count, "not again within an hour");
            cache.save_now_and_then(&keys, Duration::ZERO).unwrap();
            assert_eq!(open().vectors.len(), count + 1);
        }
        // One that is kept nowhere is written nowhere.
        VectorCache::default().save_now_and_then(&keys, Duration::ZERO).unwrap();
    }

    /// As of two searches at once, of which the one is stopped when the other has ended.
    #[test]
    fn what_others_have_saved_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let open = || VectorCache::open(folder.path(), "model and source", 1);
        let keys = ["a", "b", "c"].map(Key::of);
        let (mut first, mut second) = (open(), open());
        keys.iter().zip([1.0, 2.0, 3.0]).for_each(|(key, x)| first.insert(*key, &[x]));
        first.save(&keys).unwrap();
        second.insert(keys[1], &[2.0]);
        second.save(&keys).unwrap();
        assert_eq!(open().vectors, first.vectors);
        assert_eq!(second.vectors, first.vectors);
        second.save(&keys[..1]).unwrap();
        assert_eq!(open().vectors.len(), 1, "what is not asked for goes");
    }
}
