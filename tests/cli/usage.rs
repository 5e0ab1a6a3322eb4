//! Wrong command lines, input that is no text, output that cannot be written.

use super::*;

#[test]
fn help_and_version_succeed() {
    for option in ["--help", "--version", "-h", "-V"] {
        let out = String::from_utf8(succeeds(run(&[option]))).unwrap();
        assert!(out.contains("qembed-q"), "{out}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let gguf = &small();
    #[cfg(not(feature = "builtin"))]
    for arguments in [&["text"][..], &[], &["similarity", "a", "b"], &["search", "a", "--in", "."]] {
        fails(run(arguments), 2, &["--gguf", "qembed-q pull 0.6b", "builtin"]);
    }
    fails(run(&["--gguf", gguf, "--format", "xml", "a"]), 2, &["xml", "jsonl"]);
    fails(run(&["--gguf", gguf, "--threads", "0", "a"]), 2, &["--threads"]);
    fails(run(&["--gguf", gguf, "--threads", "1025", "a"]), 2, &["--threads"]);
    fails(run(&["--gguf", gguf, "--dim=-1", "a"]), 2, &["--dim"]);
    fails(run(&["--gguf", gguf, "--dim", "x", "a"]), 2, &["--dim"]);
    fails(run(&["--gguf", gguf, "--truncate", "middle", "a"]), 2, &["middle", "left"]);
    fails(run(&["--gguf", gguf, "--no-such", "a"]), 2, &["--no-such"]);
    fails(run(&["--gguf"]), 2, &["--gguf"]);
    // A text that starts like an option goes behind `--`.
    assert_eq!(json(&succeeds(run(&["--gguf", gguf, "--", "--no-such"]))), expected(&["--no-such"]));
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let gguf = small();
    let bad = OsStr::from_bytes(b"a\xffb");
    fails(command(&[OsStr::new("--gguf"), OsStr::new(&gguf), bad]).output().unwrap(), 2, &["UTF-8"]);
    // The path of a model may be anything.
    let path = scratch("not_utf8").join(bad);
    std::fs::copy(&gguf, &path).unwrap();
    let output = command(&[OsStr::new("--gguf"), path.as_os_str(), OsStr::new("one")]).output().unwrap();
    assert_eq!(json(&succeeds(output)), expected(&["one"]));
}

#[test]
fn dimensions_texts_and_instruction_sets_that_cannot_be_had() {
    let gguf = &small();
    for dim in ["0", "31", "65", "18446744073709551615"] {
        fails(run(&["--gguf", gguf, "--dim", dim, "a"]), 1, &[dim, "32 … 64"]);
    }
    fails(run(&["--gguf", gguf, ""]), 1, &["text 1 is empty"]);
    fails(run(&["--gguf", gguf, "a", ""]), 1, &["text 2 is empty"]);
    fails(run(&["--gguf", gguf, "a", &"x".repeat(400)]), 1, &["text 2", "401 tokens", "limit is 400"]);
    fails(run(&["--gguf", gguf, "--isa", "mmx", "a"]), 1, &["mmx", "scalar"]);
    fails(command(&["--gguf", gguf, "a"]).env("QEMBED_ISA", "mmx").output().unwrap(), 1, &["mmx", "scalar"]);
    let available = Isa::available();
    match Isa::names().into_iter().find(|name| !available.contains(name)) {
        Some(name) => fails(run(&["--gguf", gguf, "--isa", name, "a"]), 1, &[name, "does not offer", "scalar"]),
        None => println!("SKIPPED: an instruction set that this CPU lacks; it has them all"),
    }
}

#[test]
fn standard_input_that_is_no_text() {
    let gguf = &small();
    fails(run_with_input(&["--gguf", gguf], b""), 1, &["standard input is empty"]);
    fails(run_with_input(&["--gguf", gguf], b"ab\xff\n"), 1, &["line 1", "UTF-8", "byte 3"]);
    fails(run_with_input(&["--gguf", gguf, "-"], b"\xe4\xba"), 1, &["line 1", "UTF-8", "byte 1"]);
    for utf16 in [&b"\xff\xfeo\0n\0e\0\n\0"[..], b"\xfe\xff\0o\0n\0e"] {
        fails(run_with_input(&["--gguf", gguf], utf16), 1, &["standard input", "UTF-16", "iconv"]);
    }
    #[cfg(unix)]
    {
        let directory = std::fs::File::open(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let output = command(&["--gguf", gguf]).stdin(directory).output().unwrap();
        fails(output, 1, &["cannot read standard input"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for format in ["json", "jsonl", "raw", "npy"] {
        let output = command(&["--gguf", &small(), "--format", format, "a"]).stdout(full()).output().unwrap();
        fails(output, 1, &["cannot write the output", "No space left"]);
    }
    // Nobody can be told, which is no reason to panic (101) or to lose data.
    let output = command(&["--gguf", "nowhere.gguf", "a"]).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let output = command(&["--gguf", &small(), "--verbose", "one"]).stderr(full()).output().unwrap();
    assert_eq!((output.status.code(), json(&output.stdout)), (Some(0), expected(&["one"])));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    // Far more than a pipe holds, and nobody reads.
    let texts: Vec<_> = (0..3000).map(|i| format!("{i}\n")).collect();
    let path = scratch("pipe").join("texts");
    std::fs::write(&path, texts.concat()).unwrap();
    let mut child = command(&["--gguf", &small()]).stdin(std::fs::File::open(&path).unwrap()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}
