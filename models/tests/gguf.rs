//! The GGUF layer from outside: what is written is what is read, and each kind of bad file gets its own words.

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
    for (i, f) in Format::ALL.into_iter().enumerate() {
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

#[test]
fn round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, tensors) = everything();
    let path = dir.path().join("all.gguf");
    let mut out = AtomicFile::create(&path).unwrap();
    out.write_all(&bytes).unwrap();
    assert!(!path.exists());
    out.commit().unwrap();
    drop(AtomicFile::create(dir.path().join("abandoned.gguf")).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let g = Gguf::open(&path).unwrap();
    assert_eq!((g.version(), g.alignment(), g.part_count(), g.file_size()), (3, 32, 1, bytes.len() as u64));
    assert_eq!(g.path(), path);
    let scalars = [
        ("u8", Value::U8(250)),
        ("i8", Value::I8(-5)),
        ("u16", Value::U16(65_000)),
        ("i16", Value::I16(-300)),
        ("u32", Value::U32(u32::MAX)),
        ("i32", Value::I32(i32::MIN)),
        ("f32", Value::F32(1.5)),
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("u64", Value::U64(u64::MAX)),
        ("i64", Value::I64(i64::MIN)),
        ("f64", Value::F64(0.1)),
        ("empty", Value::Str("")),
        ("text", Value::Str("naïve\0\n")),
        ("replaced", Value::Str("later")),
    ];
    for (key, value) in scalars {
        assert_eq!(g.get(key), Some(value), "{key}");
    }
    assert_eq!((g.get("gone"), g.get("")), (None, None));
    let array = |key| g.require_array(key).unwrap();
    assert!(array("a.u8").iter_u8().unwrap().eq([1, 2]));
    assert!(array("a.i8").iter_i8().unwrap().eq([-1]));
    assert!(array("a.u16").iter_u16().unwrap().eq([7; 3]));
    assert!(array("a.i16").iter_i16().unwrap().eq([-7; 3]));
    assert!(array("a.u32").iter_u32().unwrap().eq([1, u32::MAX]));
    assert!(array("a.i32").iter_i32().unwrap().eq([i32::MIN, 3]));
    assert!(array("a.f32").iter_f32().unwrap().eq([0.5, f32::INFINITY]));
    assert!(array("a.bool").iter_bool().unwrap().eq([true, false, true]));
    assert!(array("a.u64").iter_u64().unwrap().eq([u64::MAX]));
    assert!(array("a.i64").iter_i64().unwrap().eq([i64::MIN]));
    assert!(array("a.f64").iter_f64().unwrap().eq([0.1]));
    assert!(array("a.str").iter_str().unwrap().map(Result::unwrap).eq(["", "Ġhello", "日本"]));
    assert!(array("a.i32").iter_int().unwrap().eq([i32::MIN.into(), 3]));
    assert!(array("a.u64").iter_int().unwrap().eq([u64::MAX.into()]));
    assert!(array("a.none").is_empty() && array("a.none").iter_str().unwrap().next().is_none());
    let nested: Vec<Vec<&str>> = array("a.nested")
        .iter()
        .map(|a| match a.unwrap() {
            Value::Array(a) => a.iter_str().unwrap().map(Result::unwrap).collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(nested, [vec!["x"], vec![], vec!["y", "z"]]);
    assert_eq!(array("a.f32").iter_i32().map(|_| ()).unwrap_err().to_string().split(": ").last(), {
        Some("expected array of i32, found array of 2 × f32")
    });

    assert_eq!(g.tensors().len(), tensors.len());
    let held: Vec<Tensor> = tensors.iter().map(|(name, ..)| g.require_tensor(name).unwrap()).collect();
    let keys: Vec<String> = g.metadata().map(|(k, _)| k.to_owned()).collect();
    assert_eq!((keys[0].as_str(), keys.last().unwrap().as_str()), ("general.architecture", "replaced"));
    assert_eq!(keys.len(), g.metadata_len());
    drop(g); // the tensors keep the mapping alive
    for (i, (t, (name, shape, f))) in held.iter().zip(&tensors).enumerate() {
        assert_eq!((&t.name, &t.shape[..], t.format), (name, &shape[..], *f));
        assert_eq!(t.data, pattern(i, t.data.len()), "{name}");
        assert_eq!(t.data.len(), f.row_bytes(t.shape.row_len()).unwrap() * t.shape.rows());
        assert_eq!(t.data.as_ptr() as usize % 32, 0, "{name} is not aligned in memory");
    }
}

#[test]
fn copies_are_identical() {
    let (bytes, tensors) = everything();
    let g = parse(bytes.clone()).unwrap();
    let mut b = GgufBuilder::new();
    b.copy_metadata(&g);
    for t in g.tensors() {
        b.add_tensor(&t.name, &t.shape, t.format.unwrap()).unwrap();
    }
    let mut w = b.begin(Vec::new()).unwrap();
    for (name, ..) in &tensors {
        w.write_tensor(name, &g.require_tensor(name).unwrap().data).unwrap();
    }
    assert!(w.finish().unwrap() == bytes);
}

#[test]
fn candle_reads_what_is_written() {
    use candle_core::quantized::gguf_file::{Content, Value as V};
    let mut b = GgufBuilder::new();
    b.set("general.alignment", 64u32).set("name", "x").set("n", 7u64).set("tokens", ["a", "ü"]).set("flag", true);
    b.add_tensor("a", &[3, 5], Format::F32).unwrap().add_tensor("b", &[64, 2], Format::Q8_0).unwrap();
    b.add_tensor("c", &[256, 3], Format::Q4_K).unwrap();
    let mut w = b.begin(Vec::new()).unwrap();
    let values: Vec<f32> = (0..15).map(|i| i as f32 / 4.0).collect();
    w.write_tensor("a", &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let (q8, q4) = (pattern(1, 4 * 34), pattern(2, 3 * 144));
    w.write_tensor("b", &q8).unwrap();
    w.write_tensor("c", &q4).unwrap();
    let mut file = std::io::Cursor::new(w.finish().unwrap());

    let content = Content::read(&mut file).unwrap();
    assert_eq!(content.metadata["name"].to_string().unwrap(), "x");
    assert_eq!(content.metadata["n"].to_u64().unwrap(), 7);
    assert!(content.metadata["flag"].to_bool().unwrap());
    let V::Array(tokens) = &content.metadata["tokens"] else { panic!("not an array") };
    assert_eq!(tokens[1].to_string().unwrap(), "ü");
    let cpu = candle_core::Device::Cpu;
    let a = content.tensor(&mut file, "a", &cpu).unwrap().dequantize(&cpu).unwrap();
    assert_eq!(a.dims(), [5, 3]); // candle's order is the reverse of ggml's
    assert_eq!(a.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values);
    assert_eq!(content.tensor(&mut file, "b", &cpu).unwrap().data().unwrap().as_ref(), q8);
    assert_eq!(content.tensor(&mut file, "c", &cpu).unwrap().data().unwrap().as_ref(), q4);
}

#[test]
fn alignment_and_version() {
    for alignment in [1u32, 8, 64, 4096] {
        let mut b = GgufBuilder::new();
        b.set("general.alignment", alignment);
        b.add_tensor("a", &[3], Format::F16).unwrap().add_tensor("b", &[5], Format::F32).unwrap();
        let mut w = b.begin(Vec::new()).unwrap();
        w.write_tensor("a", &[1; 6]).unwrap();
        w.write_tensor("b", &[2; 20]).unwrap();
        let mut bytes = w.finish().unwrap();
        for version in [3u32, 2] {
            bytes[4..8].copy_from_slice(&version.to_le_bytes());
            let g = parse(bytes.clone()).unwrap();
            assert_eq!((g.version(), g.alignment()), (version, alignment));
            assert_eq!(g.require_tensor("a").unwrap().data, [1; 6].as_slice());
            assert_eq!(g.require_tensor("b").unwrap().data, [2; 20].as_slice());
        }
    }
    // Any integer type will do, as long as it is a power of two.
    for (ty, value, ok) in
        [(0, &[64u8][..], true), (4, &[0; 4], false), (4, &[48, 0, 0, 0], false), (4, &[255; 4], false)]
    {
        let mut out = header(3, 0, 1);
        entry(&mut out, b"general.alignment", ty, value);
        match ok {
            true => assert_eq!(parse(out).unwrap().alignment(), 64),
            false => fails(out, &["general.alignment", "power of two"]),
        }
    }
    let mut out = header(3, 0, 1);
    entry(&mut out, b"general.alignment", 5, &(-32i32).to_le_bytes());
    fails(out, &["\"general.alignment\"", "-32 does not fit a u32"]);
    for bad in [0u32, 3] {
        let mut b = GgufBuilder::new();
        b.set("general.alignment", bad);
        assert!(b.begin(Vec::new()).unwrap_err().to_string().contains("power of two"));
    }
}

#[test]
fn getters_coerce_integers_and_name_what_is_wrong() {
    let g = parse(everything().0).unwrap();
    assert_eq!(g.u32("u8").unwrap(), Some(250));
    assert_eq!(g.u64("u16").unwrap(), Some(65_000));
    assert_eq!(g.usize("u16").unwrap(), Some(65_000));
    assert_eq!(g.i64("i8").unwrap(), Some(-5));
    assert_eq!(g.f32("f64").unwrap(), Some(0.1));
    assert!(g.require_bool("yes").unwrap());
    assert_eq!(g.require_str("general.architecture").unwrap(), "qwen3");
    assert_eq!(g.u32("absent").unwrap(), None);
    let says = |e: GgufError, words: &str| assert!(e.to_string().ends_with(words), "{e}");
    says(g.u32("i8").unwrap_err(), "metadata key \"i8\": -5 does not fit a u32");
    says(g.u32("u64").unwrap_err(), "\"u64\": 18446744073709551615 does not fit a u32");
    says(g.i64("u64").unwrap_err(), "\"u64\": 18446744073709551615 does not fit an i64");
    says(g.u32("text").unwrap_err(), "\"text\": expected a u32, found string");
    says(g.f32("u32").unwrap_err(), "\"u32\": expected f32, found u32");
    says(g.str("a.str").unwrap_err(), "\"a.str\": expected string, found array of 3 × string");
    says(g.bool("u8").unwrap_err(), "\"u8\": expected bool, found u8");
    assert!(g.require_u32("absent").unwrap_err().to_string().contains("metadata key \"absent\" is missing"));
    assert!(g.require_tensor("absent").unwrap_err().to_string().contains("tensor \"absent\" is missing"));
    assert!(g.tensor("absent").unwrap().is_none());
}

#[test]
fn not_gguf() {
    fails(*b"", &["empty (0 bytes)"]);
    fails(*b"hello world", &["not a GGUF file: starts with \"hello wo\" (hex 68 65 6c"]);
    fails(*b"GGUX\x03\0\0\0", &["not a GGUF file"]);
    fails(*b"x", &["not a GGUF file: starts with \"x\""]);
    fails(*b"<!DOCTYPE html><html>", &["web page"]);
    fails(*b"version https://git-lfs.github.com/spec/v1\n", &["Git LFS pointer", "git lfs pull"]);
    fails(*b"PK\x03\x04....", &["ZIP archive"]);
    fails(*b"\x10\x01\0\0\0\0\0\0{\"__metadata__\"", &["safetensors"]);
    fails(*b"tjgg\x03\0\0\0", &["old GGML file"]);
    fails(header(1, 0, 0), &["version 1 is too old", "2 and 3"]);
    fails(header(4, 0, 0), &["version 4 is not known"]);
    fails(header(3u32.swap_bytes(), 0, 0), &["big-endian"]);
    fails(*b"FUGG\0\0\0\x03", &["big-endian"]);
    fails(
        &header(3, 0, 0)[..10],
        &["ends inside the header", "8 bytes are needed at offset 8, 2 are left", "truncated"],
    );
    assert_eq!(parse(header(3, 0, 0)).unwrap().tensors().len(), 0);
}

#[test]
fn bad_paths() {
    let dir = tempfile::tempdir().unwrap();
    open_fails(&dir.path().join("absent.gguf"), &["no such file"]);
    open_fails(dir.path(), &["directory"]);
    open_fails(&save(dir.path(), "empty.gguf", b""), &["empty (0 bytes)"]);
    #[cfg(unix)]
    open_fails(Path::new("/dev/null"), &["not a regular file"]);
}

#[test]
fn bad_metadata() {
    let with = |n: u64, f: &dyn Fn(&mut Vec<u8>)| {
        let mut out = header(3, 0, n);
        f(&mut out);
        out.extend([0; 64]);
        out
    };
    fails(header(3, 0, 1 << 60), &["the number of metadata keys", "limit is 65536"]);
    fails(header(3, 0, 60_000), &["the metadata (60000 keys)"]);
    fails(with(1, &|o| entry(o, b"k", 13, &[0; 8])), &["\"k\" has value type 13"]);
    fails(with(1, &|o| entry(o, b"k\n", 7, &[2])), &["\"k\\n\" has a bool of 2"]);
    fails(with(1, &|o| entry(o, b"\xff", 0, &[2])), &["metadata key 1 of 1", "not valid UTF-8"]);
    fails(with(2, &|o| (0..2).for_each(|_| entry(o, b"k", 0, &[1]))), &["\"k\" occurs twice"]);
    fails(with(1, &|o| entry(o, b"k", 8, &u64::MAX.to_le_bytes())), &["the value of metadata key \"k\"", "truncated"]);
    fails(with(1, &|o| string(o, &[b'k'; 70_000])), &["the length of metadata key 1 of 1 is 70000", "65535"]);
    let array = |elem: u32, len: u64| [&elem.to_le_bytes()[..], &len.to_le_bytes()].concat();
    for elem in 0..13 {
        fails(
            with(1, &|o| entry(o, b"k", 9, &array(elem, 1 << 61))),
            &["the value of metadata key \"k\"", "truncated"],
        );
        fails(with(1, &|o| entry(o, b"k", 9, &array(elem, 100))), &["the value of metadata key \"k\"", "truncated"]);
    }
    fails(with(1, &|o| entry(o, b"k", 9, &array(99, 1))), &["value type 99"]);
    fails(with(1, &|o| entry(o, b"k", 9, &array(9, 1).repeat(100_000))), &["nests arrays deeper than 8"]);
    let deepest = [array(9, 1).repeat(MAX_ARRAY_DEPTH - 1), array(0, 1), vec![5]].concat();
    assert!(parse(with(1, &|o| entry(o, b"k", 9, &deepest))).is_ok());

    // A mangled string is only an error for who asks for it.
    let mut mangled = Vec::new();
    string(&mut mangled, b"\xe9t\xe9");
    let g = parse(with(2, &|o| {
        entry(o, b"author", 8, &mangled);
        entry(o, b"list", 9, &[&array(8, 1)[..], &mangled].concat());
    }))
    .unwrap();
    assert_eq!(g.get("author"), Some(Value::BadStr(b"\xe9t\xe9")));
    assert!(
        g.str("author")
            .unwrap_err()
            .to_string()
            .contains("\"author\": expected string, found string that is not valid UTF-8")
    );
    let error = g.require_array("list").unwrap().iter_str().unwrap().next().unwrap().unwrap_err();
    assert!(error.to_string().contains("element 0 of metadata key \"list\" is not valid UTF-8"), "{error}");
}

#[test]
fn bad_tensors() {
    assert!(parse(one_tensor(&[8, 2], 0, 0, 64)).is_ok());
    fails(header(3, u64::MAX, 0), &["the number of tensors", "limit is 65536"]);
    fails(header(3, 1000, 0), &["the list of tensors (1000 entries)"]);
    fails(one_tensor(&[], 0, 0, 64), &["tensor \"w\" has 0 dimensions"]);
    fails(one_tensor(&[1; 5], 0, 0, 64), &["tensor \"w\" has 5 dimensions"]);
    fails(one_tensor(&[8, 0], 0, 0, 64), &["tensor \"w\"", "dimension 1 is 0"]);
    fails(one_tensor(&[1 << 32, 1 << 32], 0, 0, 64), &["tensor \"w\"", "overflows"]);
    fails(one_tensor(&[u64::MAX / 2], 0, 0, 64), &["tensor \"w\"", "overflows"]);
    fails(one_tensor(&[48], 8, 0, 64), &["rows of 48 values are not whole Q8_0 blocks of 32"]);
    fails(one_tensor(&[8, 2], 0, 8, 96), &["tensor \"w\"", "offset 8 is not a multiple of the alignment 32"]);
    // 24 bytes of header and 41 of entry (8 + 1 + 4 + 16 + 4 + 8) end at 65, so data starts at 96.
    fails(one_tensor(&[8, 2], 0, 0, 63), &["tensor \"w\" needs bytes 96 to 160, the file has 159; truncated?"]);
    fails(one_tensor(&[8, 2], 0, 1 << 40, 64), &["tensor \"w\" needs bytes 1099511627872"]);
    fails(one_tensor(&[8, 2], 0, u64::MAX - 31, 64), &["tensor \"w\" needs bytes"]);
    let mut twice = header(3, 2, 0);
    (0..2).for_each(|_| tensor_entry(&mut twice, "w", &[1], 0, 0));
    twice.resize(256, 0);
    fails(twice, &["tensor \"w\" occurs twice"]);

    for (id, name) in [(16, "IQ2_XXS"), (34, "TQ1_0"), (39, "MXFP4"), (777, "unknown")] {
        let g = parse(one_tensor(&[256], id, 0, 64)).unwrap();
        assert_eq!(g.tensors().next().unwrap().bytes(), None);
        let message = g.tensor("w").unwrap_err().to_string();
        assert!(message.contains(&format!("tensor \"w\" has ggml type {id} ({name})")), "{message}");
    }
}

/// Part `no` of a split model, holding one tensor `t{no}`.
fn split_part(no: u16, count: u16, total: i32) -> Vec<u8> {
    let mut b = GgufBuilder::new();
    if no == 0 {
        b.set("general.architecture", "qwen3");
    }
    b.set("split.no", no).set("split.count", count).set("split.tensors.count", total);
    b.add_tensor(&format!("t{no}"), &[8], Format::F32).unwrap();
    let mut w = b.begin(Vec::new()).unwrap();
    w.write_tensor(&format!("t{no}"), &[no as u8; 32]).unwrap();
    w.finish().unwrap()
}

#[test]
fn split_models() {
    let dir = tempfile::tempdir().unwrap();
    let name = |no: u16| format!("m-{:05}-of-00003.gguf", no + 1);
    let path = |no: u16| dir.path().join(name(no));
    (0..3).for_each(|no| drop(save(dir.path(), &name(no), &split_part(no, 3, 3))));
    let size: u64 = (0..3).map(|no| fs::metadata(path(no)).unwrap().len()).sum();
    for opened in 0..3 {
        let g = Gguf::open(path(opened)).unwrap();
        assert_eq!((g.part_count(), g.file_size(), g.path()), (3, size, path(0).as_path()));
        assert_eq!(g.require_str("general.architecture").unwrap(), "qwen3");
        assert!(g.tensors().map(|t| t.name.as_str()).eq(["t0", "t1", "t2"]));
        for no in 0..3u8 {
            assert_eq!(g.require_tensor(&format!("t{no}")).unwrap().data, [no; 32].as_slice());
        }
        let mut whole = GgufBuilder::new();
        whole.copy_metadata(&g);
        let whole = parse(whole.begin(Vec::new()).unwrap().finish().unwrap()).unwrap();
        assert!(whole.metadata().map(|(k, _)| k).eq(["general.architecture"]));
    }

    fails(split_part(1, 3, 3), &["one part of 3", "open it by its path"]);
    open_fails(&save(dir.path(), "renamed.gguf", &split_part(1, 3, 3)), &["part 2 of 3", "-00002-of-00003.gguf"]);
    let put = |no: u16, bytes: Vec<u8>| drop(save(dir.path(), &name(no), &bytes));
    put(2, split_part(1, 3, 3));
    open_fails(&path(2), &["part 2 of 3", "rename it back"]);
    assert!(Gguf::open(path(0)).unwrap_err().to_string().contains("split.no is 1, expected 2"));
    put(2, split_part(2, 4, 3));
    assert!(Gguf::open(path(0)).unwrap_err().to_string().contains("split.count is 4, expected 3"));
    put(2, split_part(2, 3, 9));
    assert!(Gguf::open(path(0)).unwrap_err().to_string().contains("split.tensors.count is 9, expected 3"));
    put(2, split_part(2, 3, 3)[..40].to_vec());
    let error = Gguf::open(path(0)).unwrap_err();
    assert_eq!(error.path(), path(2));
    put(2, everything().0);
    assert!(Gguf::open(path(0)).unwrap_err().to_string().contains("\"split.no\" is missing"));
    fs::remove_file(path(2)).unwrap();
    open_fails(&path(0), &["part 3 of 3", "is missing", &path(2).display().to_string()]);
    (0..3).for_each(|no| put(no, split_part(no, 3, 5)));
    open_fails(&path(0), &["hold 3 tensors", "says 5"]);
    put(0, split_part(7, 3, 3));
    open_fails(&path(0), &["split.no is 7"]);
}

#[test]
fn the_writer_checks_order_and_sizes() {
    let begin = || {
        let mut b = GgufBuilder::new();
        b.add_tensor("a", &[4], Format::F32).unwrap().add_tensor("b", &[2], Format::F32).unwrap();
        b.begin(Vec::new()).unwrap()
    };
    let says = |r: Result<(), GgufWriteError>, words: &str| {
        let message = r.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    let mut w = begin();
    says(w.write("b", &[]), "tensor \"b\" given where \"a\" is due");
    says(w.write("a", &[0; 17]), "tensor \"a\" has 16 bytes, 17 were given");
    says(w.write_tensor("a", &[0; 15]), "tensor \"a\" is unfinished: 15 of 16");
    w.write("a", &[0; 10]).unwrap();
    says(w.write("b", &[0; 8]), "given where \"a\" is due");
    says(w.finish().map(drop), "tensor \"a\" is unfinished: 10 of 16");
    let mut w = begin();
    w.write("a", &[0; 16]).unwrap();
    assert_eq!(w.due(), Some(("b", 8)));
    w.write("b", &[0; 8]).unwrap();
    assert_eq!(w.due(), None);
    says(w.write("b", &[]), "where no more data is due");
    assert!(parse(w.finish().unwrap()).is_ok());

    // A finished file is written, whatever buffers it, and a key that is set anew after another was removed is the same.
    let mut b = GgufBuilder::new();
    b.set("one", 1u32).set("two", 2u32).set("three", 3u32).remove("one").set("three", 33u32).set("two", 22u32);
    let file = tempfile::NamedTempFile::new().unwrap();
    let kept = b.begin(std::io::BufWriter::with_capacity(1 << 16, file.as_file())).unwrap().finish().unwrap();
    let g = parse(fs::read(file.path()).unwrap()).unwrap();
    assert_eq!(g.metadata().collect::<Vec<_>>(), [("two", Value::U32(22)), ("three", Value::U32(33))]);
    drop(kept);

    let mut b = GgufBuilder::new();
    b.add_tensor("a", &[4], Format::F32).unwrap();
    assert!(b.add_tensor("a", &[4], Format::F32).unwrap_err().to_string().contains("occurs twice"));
    assert!(b.add_tensor("x", &[48], Format::Q8_0).unwrap_err().to_string().contains("not whole Q8_0 blocks"));
    assert!(b.add_tensor("x", &[], Format::F32).is_err() && b.add_tensor("x", &[0], Format::F32).is_err());
    b.set(&"k".repeat(65_536), 1u8);
    assert!(b.begin(Vec::new()).unwrap_err().to_string().contains("65536, the limit of a GGUF file is 65535"));
}

/// The checks of counts against what is left must not refuse the smallest items that there can be.
#[test]
fn the_smallest_items_are_accepted() {
    let mut out = header(3, 0, 1);
    entry(&mut out, b"", 0, &[9]);
    assert_eq!(parse(out).unwrap().u32("").unwrap(), Some(9));
    for (elem, size) in [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8].into_iter().enumerate() {
        let mut out = header(3, 0, 1);
        let array = [&(elem as u32).to_le_bytes()[..], &3u64.to_le_bytes(), &vec![0; 3 * size]].concat();
        entry(&mut out, b"k", 9, &array);
        let g = parse(out.clone()).unwrap();
        assert_eq!(g.require_array("k").unwrap().iter().filter(Result::is_ok).count(), 3);
        fails(&out[..out.len() - 1], &["\"k\"", "truncated"]);
    }
    let mut out = header(3, 1, 1);
    entry(&mut out, b"general.alignment", 0, &[1]);
    tensor_entry(&mut out, "", &[1], 777, 0);
    assert!(parse(out).unwrap().tensor_info("").is_some());
}
