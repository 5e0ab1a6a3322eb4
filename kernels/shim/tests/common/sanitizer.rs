//! The same tests with kernels that AddressSanitizer watches: no kernel reads or writes beyond a buffer, its threadgroup's memory or
//! an array of its own.

use super::FAULT;
use std::process::Command;

/// The library that has to be loaded before all else: of clang, or of GCC, which has the same interface.
fn library() -> String {
    let candidates = [("clang++-19", "libclang_rt.asan-x86_64.so"), ("cc", "libasan.so.8"), ("cc", "libasan.so")];
    let found = candidates.into_iter().find_map(|(compiler, library)| {
        let output = Command::new(compiler).arg(format!("-print-file-name={library}")).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?.trim().to_string();
        path.starts_with('/').then_some(path)
    });
    found.expect("AddressSanitizer's library is not here: apt-get install libclang-rt-19-dev, or gcc")
}

/// Runs tests of the program that is running, with an end that its buffers have to the byte.
fn run(arguments: &[&str], fault: Option<&str>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env("SHIM_SANITIZE", "1").env("LD_PRELOAD", library());
    // The test program itself does not clean up before it ends.
    command.env("ASAN_OPTIONS", "detect_leaks=0").env("RUST_BACKTRACE", "0");
    fault.map(|fault| command.env(FAULT, fault));
    let output = command.output().unwrap();
    let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), words)
}

/// Runs all tests, but those that run others, and the long ones in one order of threads alone: what they read and write is the same in
/// every one.
pub(crate) fn all_again() {
    let skipped = ["faults_", "under_address_sanitizer", "every_format_forward", "every_format_in_reverse"];
    let (passed, words) = run(&skipped.map(|name| ["--skip", name]).concat(), None);
    assert!(passed, "{words}");
}

/// Runs the test of this name with a fault that shows in no result.
pub(crate) fn sees(test: &str, fault: &str) {
    let (passed, words) = run(&[test, "--exact"], Some(fault));
    assert!(!passed && words.contains("AddressSanitizer: heap-buffer-overflow"), "{words}");
}
