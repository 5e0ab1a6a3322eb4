//! Each kind of bad file gets its own words, and parts that do not belong together; the smallest good ones do not.

use super::*;

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

    for (id, name, instead) in [
        (16, "IQ2_XXS", "Q2_K"),
        (21, "IQ3_S", "Q3_K_S or Q3_K_M"),
        (34, "TQ1_0", "Q2_K"),
        (40, "NVFP4", "Q4_0 or Q4_K_M"),
        (28, "F64", "F32"),
        (777, "unknown", "Q4_K_M or Q8_0"),
    ] {
        let g = parse(one_tensor(&[256], id, 0, 64)).unwrap();
        assert_eq!(g.tensors().next().unwrap().bytes(), None);
        let message = g.tensor("w").unwrap_err().to_string();
        assert!(message.contains(&format!("tensor \"w\" has ggml type {id} ({name})")), "{message}");
        assert!(message.ends_with(&format!("take a file of this model at {instead} instead")), "{message}");
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
