//! Hostile bytes: whatever a file holds, opening and walking it ends without a panic and without memory that the file's
//! size does not justify. The test's allocator counts, which is why it has a binary of its own with a single test.

use bytes::Bytes;
use qembed_kernels::formats::Format;
use qembed_models::gguf::{ArrayRef, Gguf, GgufBuilder, GgufProblem, Value};
use qembed_models::synth::Random;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged; the counters do not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise about `layout` is the system allocator's requirement.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `ptr` came from `alloc` above, that is from the system allocator, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `f` and returns the most bytes that were allocated on top of what was there before.
fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = f();
    (result, PEAK.load(Relaxed) - before)
}

/// What opening may allocate. The densest file is a list of the smallest entries: a key takes 13 bytes of file and an
/// entry of at most 64 bytes, an index number of 4 and a heap string of at least 16 in memory; a tensor takes 32 bytes
/// of file and at most twice 144 (raw and placed), 4 and 16. Both stay below 16 bytes a byte, once more for vectors
/// that grow by doubling. An error message quotes at most 80 characters of at most 10 bytes each, a few times.
fn bound(len: usize) -> usize {
    32 * len + 8192
}

/// A small file with most value types; its last tensor ends at the last byte.
fn small() -> Vec<u8> {
    let mut b = GgufBuilder::new();
    b.set("general.architecture", "qwen3").set("general.alignment", 32u32).set("n", 7u64).set("eps", 1e-6f32);
    b.set("flag", true).set("tokens", ["a", "bc", "ü"]).set("types", [1i32, 3, 1]).set("scores", [0.5f32; 3]);
    b.set("nested", vec![vec![1u8, 2], vec![], vec![3]]).set("bools", [true, false]);
    b.add_tensor("a", &[8], Format::F32).unwrap().add_tensor("b", &[32, 16], Format::Q8_0).unwrap();
    b.add_tensor("c", &[256, 2, 2], Format::Q4_K).unwrap();
    let mut w = b.begin(Vec::new()).unwrap();
    for (name, len) in [("a", 32), ("b", 16 * 34), ("c", 4 * 144)] {
        w.write_tensor(name, &vec![0xA5; len]).unwrap();
    }
    w.finish().unwrap()
}

/// Opens a file and touches all of it; `false` when it does not open.
fn walk(bytes: &Bytes) -> bool {
    let Ok(g) = Gguf::from_bytes(bytes.clone()) else { return false };
    for (key, value) in g.metadata() {
        assert_eq!(g.get(key).map(|v| v.value_type()), Some(value.value_type()));
        let _ = (g.u32(key).is_ok(), g.f32(key).is_ok(), g.str(key).is_ok());
        if let Value::Array(a) = value {
            walk_array(a);
        }
    }
    for info in g.tensors() {
        if let Ok(t) = g.tensor(&info.name) {
            let t = t.expect("a listed tensor is there");
            assert_eq!(Some(t.data.len()), t.format.row_bytes(t.shape.row_len()).map(|r| r * t.shape.rows()));
            assert!(bytes.as_ptr_range().contains(&t.data.as_ptr()), "a tensor outside the file");
            assert!(t.data.as_ptr_range().end <= bytes.as_ptr_range().end, "a tensor past the end of the file");
        }
    }
    true
}

fn walk_array(a: ArrayRef<'_>) {
    let mut n = 0;
    for value in a.iter() {
        n += 1;
        match value {
            Ok(Value::Array(inner)) => walk_array(inner),
            Ok(_) => {}
            // The open measures arrays but does not look at their bytes; all else about them it has checked.
            Err(e) => {
                assert!(matches!(e.problem(), GgufProblem::Bool { .. }), "{e}");
                return;
            }
        }
    }
    assert_eq!(n, a.len());
    for n in [
        a.iter_str().map(Iterator::count),
        a.iter_int().map(Iterator::count),
        a.iter_bool().map(Iterator::count),
        a.iter_f32().map(Iterator::count),
    ]
    .into_iter()
    .flatten()
    {
        assert_eq!(n, a.len());
    }
}

fn check(bytes: Vec<u8>, case: &dyn std::fmt::Display) -> bool {
    let bytes = Bytes::from(bytes);
    let (opened, peak) = peak(|| walk(&bytes));
    let bound = bound(bytes.len());
    assert!(peak <= bound, "{case}: {peak} bytes allocated for a file of {}, the bound is {bound}", bytes.len());
    opened
}

const EXTREMES: [u64; 20] = [
    0,
    1,
    7,
    9,
    13,
    31,
    33,
    255,
    1 << 15,
    65_535,
    65_537,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 60,
    (1 << 61) + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

#[test]
fn hostile_files() {
    let good = small();
    assert!(check(good.clone(), &"the unchanged file"));
    for len in 0..good.len() {
        assert!(!check(good[..len].to_vec(), &format!("cut to {len}")), "a file cut to {len} bytes opened");
    }

    // Every field of the header, whatever its width, overwritten with every extreme value.
    let header = good.len() - 32 - 16 * 34 - 4 * 144;
    for at in 0..header {
        for (i, v) in EXTREMES.iter().enumerate() {
            for width in [1, 4, 8] {
                let mut bytes = good.clone();
                bytes[at..at + width].copy_from_slice(&v.to_le_bytes()[..width]);
                check(bytes, &format!("extreme {i} of {width} bytes at {at}"));
            }
        }
    }

    let mut random = Random(1);
    let mut opened = 0;
    const CASES: usize = 30_000;
    for case in 0..CASES {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(header);
            match random.below(5) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next_u64() as u8,
                2 => {
                    let (v, width) = (EXTREMES[random.below(EXTREMES.len())], [4, 8][random.below(2)]);
                    let end = (at + width).min(bytes.len());
                    bytes[at..end].copy_from_slice(&v.to_le_bytes()[..end - at]);
                }
                3 => {
                    let v = random.next_u64() >> random.below(64);
                    bytes.splice(at.min(bytes.len())..at.min(bytes.len()), v.to_le_bytes());
                }
                _ => {
                    let end = (at + random.below(40)).min(bytes.len());
                    let piece: Vec<u8> = bytes.drain(at.min(end)..end).collect();
                    if random.below(2) == 0 {
                        let to = random.below(bytes.len());
                        bytes.splice(to..to, piece);
                    }
                }
            }
        }
        opened += usize::from(check(bytes, &format!("mutation {case}")));
    }
    // Some mutations are harmless (a letter of a string), so the walk behind the open is exercised as well.
    assert!(opened > CASES / 50 && opened < CASES / 2, "{opened} of {CASES} opened");

    // The densest files: as many of the smallest entries as a file can hold.
    let mut keys = b"GGUF\x03\0\0\0".to_vec();
    keys.extend(0u64.to_le_bytes());
    keys.extend(60_000u64.to_le_bytes());
    for i in 0..60_000u32 {
        keys.extend(3u64.to_le_bytes());
        keys.extend(&[1 + (i % 100) as u8, 1 + (i / 100 % 100) as u8, 1 + (i / 10_000) as u8]);
        keys.extend([0, 0, 0, 0, 9]);
    }
    assert!(check(keys, &"60,000 keys"));
    let mut tensors = b"GGUF\x03\0\0\0".to_vec();
    tensors.extend(60_000u64.to_le_bytes());
    tensors.extend(0u64.to_le_bytes());
    for i in 0..60_000u32 {
        tensors.extend(3u64.to_le_bytes());
        tensors.extend(&[1 + (i % 100) as u8, 1 + (i / 100 % 100) as u8, 1 + (i / 10_000) as u8]);
        tensors.extend(1u32.to_le_bytes());
        tensors.extend(1u64.to_le_bytes());
        tensors.extend([0; 12]);
    }
    tensors.extend([0; 64]);
    assert!(check(tensors, &"60,000 tensors"));
    // One array that claims, and has, a million empty strings: no memory at all beyond the entry.
    let mut strings = b"GGUF\x03\0\0\0".to_vec();
    strings.extend(0u64.to_le_bytes());
    strings.extend(1u64.to_le_bytes());
    strings.extend(1u64.to_le_bytes());
    strings.extend(b"k\x09\0\0\0\x08\0\0\0");
    strings.extend(1_000_000u64.to_le_bytes());
    strings.resize(strings.len() + 8_000_000, 0);
    let strings = Bytes::from(strings);
    let (ok, peak) = peak(|| walk(&strings));
    assert!(ok && peak < 4096, "{peak} bytes for an array of strings");
}
