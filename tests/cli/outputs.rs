//! What the command writes, and where.

use super::common::Parts;
use super::*;

#[test]
fn every_format_holds_the_same_floats() {
    let texts = ["one", "zwei 二", "three\nlines\n"];
    let expected = expected(&texts);
    let run = |format: &str| succeeds(run(&[&["--gguf", &small(), "--format", format][..], &texts].concat()));

    let out = run("json");
    assert_eq!(json(&out), expected);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);

    let out = String::from_utf8(run("jsonl")).unwrap();
    assert!(out.ends_with("}\n") && out.lines().count() == 3);
    for (i, line) in out.lines().enumerate() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (object["index"].as_u64(), json_vector(&object["embedding"])),
            (Some(i as u64), expected[i].clone())
        );
    }

    assert_eq!(raw(&run("raw")), expected.concat());

    // NumPy Enhancement Proposal 1.
    let out = run("npy");
    assert_eq!(out[..8], *b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([out[8], out[9]]));
    let header = std::str::from_utf8(&out[10..start]).unwrap();
    assert!(start.is_multiple_of(64) && header.ends_with('\n'));
    assert_eq!(header.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 64), }");
    assert_eq!(raw(&out[start..]), expected.concat());
}

#[test]
fn json_is_the_default_and_one_text_is_an_array_of_one() {
    assert_eq!(json(&succeeds(run(&["--gguf", &small(), "one"]))), expected(&["one"]));
}

#[test]
fn lines_of_standard_input_are_texts() {
    let gguf = &small();
    let expected = expected(&["one", "zwei 二", " three ", "-"]);
    for input in ["one\nzwei 二\n three \n-", "one\nzwei 二\n three \n-\n", "one\r\nzwei 二\r\n three \r\n-\r\n"] {
        assert_eq!(json(&succeeds(run_with_input(&["--gguf", gguf], input.as_bytes()))), expected, "{input:?}");
        assert_eq!(json(&succeeds(run_with_input(&["--gguf", gguf, "-"], input.as_bytes()))), expected, "{input:?}");
    }
    // Between texts of the command line, in place of the `-`.
    let mixed = succeeds(run_with_input(&["--gguf", gguf, "one", "-"], b"zwei \xe4\xba\x8c\n three \n"));
    assert_eq!(json(&mixed), expected[..3]);
    let mixed = succeeds(run_with_input(&["--gguf", gguf, "-", "three"], b"one\n"));
    assert_eq!(json(&mixed), self::expected(&["one", "three"]));
    fails(run_with_input(&["--gguf", gguf, "-", "-"], b"one\n"), 2, &["`-` only once"]);
}

#[test]
fn a_newline_inside_an_argument_never_splits_it() {
    let texts = ["a\nb", "a\r\nb\n", "\n"];
    let out = json(&succeeds(run(&[&["--gguf", &small()][..], &texts].concat())));
    assert_eq!(out, expected(&texts));
    // A carriage return that ends no line is text too.
    let out = json(&succeeds(run_with_input(&["--gguf", &small()], b"a\rb\n\rc\r\r\n")));
    assert_eq!(out, expected(&["a\rb", "\rc\r"]));
}

#[test]
fn instructions_stand_before_the_text() {
    let gguf = &small();
    let by_hand = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:what?";
    assert_eq!(succeeds(run(&["--gguf", gguf, "--query", "what?"])), succeeds(run(&["--gguf", gguf, by_hand])));
    let by_hand = "Instruct: Find it\nQuery:what?";
    let by_option = succeeds(run(&["--gguf", gguf, "--instruct", "Find it", "what?"]));
    assert_eq!(by_option, succeeds(run(&["--gguf", gguf, by_hand])));
    assert_ne!(by_option, succeeds(run(&["--gguf", gguf, "what?"])));
    fails(run(&["--gguf", gguf, "--query", "--instruct", "x", "what?"]), 2, &["--query", "--instruct"]);
}

#[test]
fn tasks_have_names() {
    let gguf = &small();
    let embed = |options: &[&str]| succeeds(run(&[&["--gguf", gguf], options, &["what?"]].concat()));
    let by_hand = embed(&["--instruct", "Given a sentence, retrieve sentences that say the same"]);
    assert_eq!(embed(&["--task", "sts"]), by_hand);
    assert_eq!(embed(&["--task", "Text-Matching"]), by_hand, "another name of it");
    assert_eq!(embed(&["--task", "retrieval"]), embed(&["--query"]));
    assert_eq!(embed(&["--task", "document"]), embed(&[]));

    let list = succeeds(run(&["--task", "list"]));
    let lines: Vec<_> = std::str::from_utf8(&list).unwrap().lines().collect();
    assert_eq!(lines.len(), 1 + qembed_q::Task::ALL.len(), "{lines:?}");
    let legal = lines.iter().find(|line| line.starts_with("legal ")).unwrap();
    for part in ["1024", "Cases that are compared with cases", "Given the facts of a legal case"] {
        assert!(legal.contains(part), "{legal}");
    }

    fails(run(&["--gguf", gguf, "--task", "poetry", "what?"]), 2, &["poetry", "retrieval", "--task list"]);
    fails(run(&["--gguf", gguf, "--task", "sts", "--query", "what?"]), 2, &["--task", "--query"]);
}

#[test]
fn options_reach_the_library() {
    let gguf = &small();
    let options = EmbedOptions::default().dimensions(32).prompt(Prompt::Query);
    let expected: Vec<_> = embedder().embed(&["a"], &options).unwrap().iter().map(bits).collect();
    assert_eq!(json(&succeeds(run(&["--gguf", gguf, "--dim", "32", "--query", "a"]))), expected);

    let path = model(SHAPE_K, "Q4_K_M");
    for isa in Isa::all() {
        let load = LoadOptions::default().threads(1).isa(isa.name.to_owned());
        let embedder = Embedder::open_with(&path, &load).unwrap();
        let expected: Vec<_> = embedder.embed(&["abc"], &EmbedOptions::default()).unwrap().iter().map(bits).collect();
        let arguments = ["--gguf", text_of(&path), "--threads", "3", "abc"];
        let by_option = [&["--isa", isa.name][..], &arguments].concat();
        assert_eq!(json(&succeeds(run(&by_option))), expected, "{}", isa.name);
        let by_variable = command(&arguments).env("QEMBED_ISA", isa.name).output().unwrap();
        assert_eq!(json(&succeeds(by_variable)), expected, "{}", isa.name);
    }

    let long = "x".repeat(500);
    let cut = json(&succeeds(run(&["--gguf", gguf, "--truncate", "right", &long])));
    assert_eq!(cut, self::expected(&[&long[..399]]));
}

#[test]
fn what_is_said_goes_to_standard_error() {
    let arguments = ["--gguf", &small(), "--threads", "2", "--isa", "scalar", "one", "two"];
    let quiet = succeeds(run(&arguments));
    let verbose = run(&[&["--verbose"][..], &arguments].concat());
    assert_eq!((verbose.status.code(), &verbose.stdout), (Some(0), &quiet));
    let said = stderr(&verbose);
    for words in ["scalar on 2 threads", "2 texts, 8 tokens", "tokens/s", "MB resident"] {
        assert!(said.contains(words), "{said}");
    }
    // A warning of the model is words as well.
    let path = scratch("warning").join("model.gguf");
    let mut parts = Parts::of(Path::new(&small()));
    parts.metadata.set("tokenizer.ggml.add_bos_token", true).set("tokenizer.ggml.eos_token_id", 258u32);
    parts.write(&path);
    let warned = run(&["--gguf", text_of(&path), "one", "two"]);
    assert_eq!(json(&warned.stdout), json(&quiet_default()));
    let said = stderr(&warned);
    assert!(said.lines().count() == 2 && said.lines().all(|line| line.starts_with("qembed-q: warning: ")), "{said}");
    assert!(said.contains("starts a text") && said.contains("<|im_end|>"), "{said}");
}

fn quiet_default() -> Vec<u8> {
    succeeds(run(&["--gguf", &small(), "one", "two"]))
}
