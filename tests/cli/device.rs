//! Where a model runs, and whether that computes what it should.

use super::*;

/// Whether this program may find a GPU on this machine.
const METAL: bool = cfg!(all(feature = "metal", target_os = "macos"));

#[test]
fn a_device_that_is_not_there_is_an_error_that_names_another() {
    let gguf = &small();
    fails(run(&["--gguf", gguf, "--device", "gpu", "a"]), 2, &["gpu", "cpu", "metal", "auto"]);
    assert_eq!(run(&["--gguf", gguf, "--device", "cpu", "a"]).stdout, run(&["--gguf", gguf, "a"]).stdout);
    if METAL {
        return println!("SKIPPED: no Metal; this machine may have it");
    }
    let why = if cfg!(feature = "metal") { "only macOS has it" } else { "without the feature `metal`" };
    for command in [&["a"][..], &["info"], &["similarity", "a", "b"], &["selftest"], &["search", "a", "--in", "."]] {
        let model: &[&str] = if command == ["selftest"] { &[] } else { &["--gguf", gguf] };
        fails(run(&[command, model, &["--device", "metal"]].concat()), 1, &["Metal", why, "--device cpu"]);
    }
    #[cfg(feature = "serve")]
    fails(run(&["serve", "--check", "--gguf", gguf, "--device", "metal"]), 1, &["Metal", why, "--device cpu"]);
}

#[test]
fn auto_is_the_cpu_where_metal_is_not_and_says_so() {
    if METAL {
        return println!("SKIPPED: no Metal; this machine may have it");
    }
    let gguf = &small();
    let output = run(&["--gguf", gguf, "--device", "auto", "a"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(&output.stdout), expected(&["a"]));
    let said = stderr(&output);
    assert!(said.starts_with("qembed-q: warning: the CPU computes, not Metal") && said.lines().count() == 1, "{said}");
}

/// On plain code beside itself, which takes the least time. Every error is zero then, which shows that the two are compared.
#[test]
fn the_self_test_says_what_it_looked_at() {
    let report = scratch("selftest").join("report.txt");
    let output = run(&["selftest", "--isa", "scalar", "--report", text_of(&report)]);
    let shown = String::from_utf8(output.stdout.clone()).unwrap();
    let model = cfg!(feature = "builtin");
    assert_eq!(output.status.code(), Some(if model { 0 } else { 1 }), "{shown}{}", stderr(&output));
    assert_eq!(shown, std::fs::read_to_string(&report).unwrap());
    let passed = shown.lines().filter(|line| line.starts_with("pass  ")).count();
    assert!(passed > 80 && !shown.contains("FAIL"), "{shown}");
    for what in ["product Q4_K", "rows of Q6_K, finely, bits", "attention of 4 on 2 heads of 128", "spoilt memory"] {
        assert!(shown.contains(what), "{what}: {shown}");
    }
    if model {
        for what in ["built-in model, vectors", "built-in model, bits", "cpu (scalar)", "tokens/s"] {
            assert!(shown.contains(what), "{what}: {shown}");
        }
    } else {
        assert!(shown.contains("skip  built-in model") && stderr(&output).contains("1 of"), "{shown}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let folder = scratch("no_report");
    let output = run(&["selftest", "--isa", "scalar", "--report", text_of(&folder)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no_report"), "{}", stderr(&output));
}
