//! Words in places where they mean something else: commands, marks and tokens.

use super::*;

/// A command behind an option would be embedded, and its vector taken for the answer.
#[test]
fn a_command_comes_first() {
    let gguf = &small();
    for words in [
        &["--gguf", gguf, "info"][..],
        &["--gguf", gguf, "verify"],
        &["--gguf", gguf, "similarity", "a", "b"],
        &["--gguf", gguf, "inspect", gguf],
        &["--gguf", gguf, "search", "x", "--in", "."],
        &["--gguf", gguf, "help"],
        &["--gguf", gguf, "--threads=1", "info", "--isa", "scalar"],
        &["--dim", "32", "similarity", "a", "b"],
        &["-v", "bench"],
        &["--type", "Q8_0", "quantize", "a", "b"],
        &["--in", ".", "search", "x"],
    ] {
        let command = words.iter().find(|word| word.chars().all(char::is_alphabetic)).unwrap();
        fails(run(words), 2, &[words[0], &format!("`{command}`"), "comes first", "`--`"]);
    }
    // The word itself, and as a later text.
    let base = ["--gguf", gguf];
    for (words, texts) in [
        (&["--", "search"][..], &["search"][..]),
        (&["--", "info", "similarity"], &["info", "similarity"]),
        (&["hello", "info"], &["hello", "info"]),
    ] {
        assert_eq!(json(&succeeds(run(&[&base[..], words].concat()))), expected(texts));
    }
    assert_eq!(json(&succeeds(run(&["hello", "--gguf", gguf, "info"]))), expected(&["hello", "info"]));
}

#[test]
fn a_misspelt_command_is_a_text_with_a_hint() {
    let gguf = &small();
    for words in [&["serch", "x"][..], &["serch"]] {
        let output = run(&[words, &["--gguf", gguf]].concat());
        let said = stderr(&output);
        assert!(said.contains("hint") && said.contains("`search`") && said.lines().count() == 1, "{said}");
        assert_eq!((output.status.code(), json(&output.stdout)), (Some(0), expected(words)));
    }
    let output = run(&["serch", "x", "--in", "."]);
    let said = stderr(&output);
    assert!(output.status.code() == Some(2) && said.contains("--in") && said.contains("`search`"), "{said}");
    assert_eq!(json(&succeeds(run(&["--gguf", gguf, "--", "serch"]))), expected(&["serch"]));
}

#[test]
fn a_mark_in_front_of_standard_input_is_no_text() {
    let gguf = &small();
    let expected = expected(&["one", "\u{feff}two\u{feff}"]);
    let input = "\u{feff}one\n\u{feff}two\u{feff}\n".as_bytes();
    assert_eq!(json(&succeeds(run_with_input(&["--gguf", gguf], input))), expected);
    let path = scratch("mark").join("lines");
    std::fs::write(&path, input).unwrap();
    let output = command(&["--gguf", gguf, "-"]).stdin(std::fs::File::open(&path).unwrap()).output().unwrap();
    assert_eq!(json(&succeeds(output)), expected);
    // An argument is what its writer made it.
    assert_eq!(json(&succeeds(run(&["--gguf", gguf, "\u{feff}one"]))), self::expected(&["\u{feff}one"]));
}

#[test]
fn the_words_of_the_end_token_are_warned_of_once() {
    let gguf = &small();
    let texts = ["a<|endoftext|>", "b", "<|endoftext|> \n", "<|endoftext|> c"];
    let warned = |output: Output, count: &str| {
        let said = stderr(&output);
        assert!(said.starts_with("qembed-q: warning: ") && said.lines().count() == 1, "{said}");
        assert!(said.contains(count) && said.contains("<|endoftext|>"), "{said}");
        assert_eq!(output.status.code(), Some(0));
        output.stdout
    };
    let out = warned(run(&[&["--gguf", gguf][..], &texts].concat()), "2 texts end");
    assert_eq!(json(&out), expected(&texts));
    let lines = "a<|endoftext|>\nb\n";
    assert_eq!(
        json(&warned(run_with_input(&["--gguf", gguf], lines.as_bytes()), "1 text ends")),
        expected(&texts[..1].iter().copied().chain(["b"]).collect::<Vec<_>>())
    );
    warned(run(&["similarity", "--gguf", gguf, texts[0], texts[1]]), "1 text ends");
}

#[test]
fn an_instruction_is_to_blame_for_itself() {
    let gguf = &small();
    let long = "x".repeat(400);
    for truncate in [&[][..], &["--truncate", "left"]] {
        let output = run(&[&["--gguf", gguf, "--instruct", &long][..], truncate, &["a"]].concat());
        assert!(!stderr(&output).contains("text 1"), "{}", stderr(&output));
        fails(output, 1, &["instruction", "417 tokens", "400"]);
    }
}

#[test]
fn help_names_the_instruction_sets_of_this_architecture() {
    for arguments in [&["--help"][..], &["search", "--help"]] {
        let help = String::from_utf8(succeeds(run(arguments))).unwrap();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(&format!("Instruction set: {} [", Isa::names().join(", "))), "{help}");
    }
}
