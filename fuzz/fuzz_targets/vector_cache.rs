//! The file in which `search` keeps vectors.
#![no_main]

use arbitrary::Arbitrary;
use qembed_fuzz::scratch;
use qembed_q::search::{Key, VectorCache};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

#[derive(Arbitrary, Debug)]
struct Input {
    dimensions: u8,
    /// Of passages named by a number.
    entries: Vec<(u8, f32)>,
    /// Bytes of the file, from some byte on; with this the checksum is right all the same.
    damage: Option<(u16, Vec<u8>, bool)>,
    cut: Option<u16>,
    added: Vec<(u8, f32)>,
    kept: Vec<u8>,
}

const IDENTITY: &str = "a model and a source";

/// The one file of an empty cache.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    VectorCache::open(&folder(), IDENTITY, 1).save(&[]).expect("room for a small file");
    fs::read_dir(folder()).expect("a folder").next().expect("a file").expect("its name").path()
});

fn folder() -> PathBuf {
    scratch().join("vectors")
}

fn key(passage: u8) -> Key {
    Key::of(&passage.to_string())
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|x| x.to_bits()).collect()
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let dimensions = usize::from(input.dimensions % 5);
    let vector = |x: f32| (0..dimensions).map(|i| x + i as f32).collect::<Vec<f32>>();
    let mut bytes = b"QEMBVEC1".to_vec();
    let mut expected = HashMap::new();
    for (passage, x) in &input.entries {
        bytes.extend_from_slice(&Sha256::digest(passage.to_string()));
        vector(*x).iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        expected.insert(*passage, vector(*x));
    }
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    let (mut whole, mut known) = (true, true);
    if let Some((at, damage, mended)) = &input.damage {
        let before = bytes.clone();
        bytes.iter_mut().skip(usize::from(*at)).zip(damage).for_each(|(to, from)| *to = *from);
        known = bytes == before;
        whole = known;
        if *mended {
            let end = bytes.len() - 32;
            let sum = Sha256::digest(&bytes[..end]);
            bytes[end..].copy_from_slice(&sum);
            whole = bytes.starts_with(b"QEMBVEC1");
        }
    }
    if let Some(at) = input.cut.map(usize::from).filter(|at| *at < bytes.len()) {
        bytes.truncate(at);
        whole = false;
    }
    fs::write(&*FILE, &bytes).expect("room for a small file");

    let mut cache = VectorCache::open(&folder(), IDENTITY, dimensions);
    for (passage, vector) in &expected {
        let found = cache.get(&key(*passage));
        match (whole, known) {
            (true, true) => assert_eq!(found.map(bits), Some(bits(vector))),
            (true, false) => assert!(found.is_none_or(|found| found.len() == dimensions)),
            (false, _) => assert_eq!(found, None),
        }
    }
    for (passage, x) in &input.added {
        cache.insert(key(*passage), &vector(*x));
    }
    let before: Vec<Option<Vec<u32>>> = input.kept.iter().map(|passage| cache.get(&key(*passage)).map(bits)).collect();
    cache.save(&input.kept.iter().map(|passage| key(*passage)).collect::<Vec<_>>()).expect("room for a small file");
    let cache = VectorCache::open(&folder(), IDENTITY, dimensions);
    let after: Vec<Option<Vec<u32>>> = input.kept.iter().map(|passage| cache.get(&key(*passage)).map(bits)).collect();
    assert_eq!(before, after);
});
