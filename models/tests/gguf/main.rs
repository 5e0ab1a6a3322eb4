//! The GGUF layer from outside: what is written is what is read, and each kind of bad file gets its own words.

mod bad_files;
mod whole_files;

use bytes::Bytes;
use qembed_kernels::formats::Format;
use qembed_models::gguf::*;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A header for hand-made files: version, tensor count, metadata count.
fn header(version: u32, tensors: u64, metadata: u64) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend(tensors.to_le_bytes());
    out.extend(metadata.to_le_bytes());
    out
}

fn string(out: &mut Vec<u8>, s: &[u8]) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s);
}

/// A metadata entry with an already encoded value.
fn entry(out: &mut Vec<u8>, key: &[u8], ty: u32, value: &[u8]) {
    string(out, key);
    out.extend(ty.to_le_bytes());
    out.extend(value);
}

fn tensor_entry(out: &mut Vec<u8>, name: &str, dims: &[u64], ty: u32, offset: u64) {
    string(out, name.as_bytes());
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
    out.extend(ty.to_le_bytes());
    out.extend(offset.to_le_bytes());
}

/// One tensor with this entry, and `data` bytes behind the padded header.
fn one_tensor(dims: &[u64], ty: u32, offset: u64, data: usize) -> Vec<u8> {
    let mut out = header(3, 1, 0);
    tensor_entry(&mut out, "w", dims, ty, offset);
    out.resize(out.len().next_multiple_of(32) + data, 7);
    out
}

fn parse(bytes: impl Into<Vec<u8>>) -> Result<Gguf, GgufError> {
    Gguf::from_bytes(Bytes::from(bytes.into()))
}

#[track_caller]
fn fails(bytes: impl Into<Vec<u8>>, words: &[&str]) {
    let message = parse(bytes).expect_err("a bad file opened").to_string();
    for w in words {
        assert!(message.contains(w), "{message:?} does not say {w:?}");
    }
}

/// The message of an open that must fail; it names the path.
#[track_caller]
fn open_fails(path: &Path, words: &[&str]) {
    let message = Gguf::open(path).expect_err("a bad file opened").to_string();
    assert!(message.contains(&path.display().to_string()), "{message:?} does not name the file");
    for w in words {
        assert!(message.contains(w), "{message:?} does not say {w:?}");
    }
}

fn save(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Data that differs from byte to byte and tensor to tensor.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + seed * 17) % 251) as u8).collect()
}

/// Name, shape and format of a tensor.
type Listed = (String, Vec<usize>, Format);

/// A file with every metadata type and every format.
fn everything() -> (Vec<u8>, Vec<Listed>) {
    let mut b = GgufBuilder::new();
    b.set("general.architecture", "qwen3").set("u8", 250u8).set("i8", -5i8).set("u16", 65_000u16).set("i16", -300i16);
    b.set("u32", u32::MAX).set("i32", i32::MIN).set("f32", 1.5f32).set("yes", true).set("no", false);
    b.set("u64", u64::MAX).set("i64", i64::MIN).set("f64", 0.1f64).set("empty", "").set("text", "naïve\0\n");
    b.set("a.u8", [1u8, 2]).set("a.i8", [-1i8]).set("a.u16", [7u16; 3]).set("a.i16", [-7i16; 3]);
    b.set("a.u32", [1u32, u32::MAX]).set("a.i32", [i32::MIN, 3]).set("a.f32", [0.5f32, f32::INFINITY]);
    b.set("a.bool", [true, false, true]).set("a.str", ["", "Ġhello", "日本"]).set("a.u64", [u64::MAX]);
    b.set("a.i64", [i64::MIN]).set("a.f64", [0.1f64]).set("a.none", Vec::<String>::new());
    b.set("a.nested", vec![vec!["x"], vec![], vec!["y", "z"]]).set("replaced", 1u8).set("gone", 1u8);
    b.set("replaced", "later").remove("gone");
    let mut tensors = Vec::new();
    for (i, f) in Format::ALL.iter().copied().enumerate() {
        let shape = [f.block_len() * 2, 3, 2, 1][..1 + i % 4].to_vec();
        b.add_tensor(&format!("t.{f}"), &shape, f).unwrap();
        tensors.push((format!("t.{f}"), shape, f));
    }
    let mut w = b.begin(Vec::new()).unwrap();
    for (i, (name, shape, f)) in tensors.iter().enumerate() {
        let len = f.row_bytes(shape[0]).unwrap() * shape[1..].iter().product::<usize>();
        assert_eq!(w.due(), Some((name.as_str(), len as u64)));
        let data = pattern(i, len);
        if i % 2 == 0 {
            w.write_tensor(name, &data).unwrap();
        } else {
            data.chunks(7).for_each(|piece| w.write(name, piece).unwrap());
        }
    }
    (w.finish().unwrap(), tensors)
}
