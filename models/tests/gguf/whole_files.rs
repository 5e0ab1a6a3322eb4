//! What is written is what is read, by us and by candle.

use super::*;

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
fn getters_take_types_for_each_other_and_name_what_is_wrong() {
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
    assert_eq!(g.f32("u8").unwrap(), Some(250.0));
    assert_eq!(g.u32("a.u16").unwrap(), Some(7));
    assert_eq!(g.i64("a.i8").unwrap(), Some(-1));
    says(g.u32("a.u8").unwrap_err(), "\"a.u8\": expected a u32, found array of 2 × u8");
    says(g.u32("a.none").unwrap_err(), "expected a u32, found array of 0 × string");
    says(g.u32("f32").unwrap_err(), "\"f32\": expected a u32, found f32");
    says(g.f32("text").unwrap_err(), "\"text\": expected a number, found string");
    says(g.f32("yes").unwrap_err(), "\"yes\": expected a number, found bool");
    says(g.str("a.str").unwrap_err(), "\"a.str\": expected string, found array of 3 × string");
    says(g.bool("u8").unwrap_err(), "\"u8\": expected bool, found u8");
    assert!(g.require_u32("absent").unwrap_err().to_string().contains("metadata key \"absent\" is missing"));
    assert!(g.require_tensor("absent").unwrap_err().to_string().contains("tensor \"absent\" is missing"));
    assert!(g.tensor("absent").unwrap().is_none());
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
