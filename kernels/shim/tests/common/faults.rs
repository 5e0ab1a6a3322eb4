//! Faults that are planted in the kernels on purpose, to see the tests fail.

use super::{ARROW, FAULT};
use qembed_kernels::metal::SOURCE;
use std::process::Command;

/// Runs the test of this name, of the program that is running, with each fault in turn, and wants it to fail.
pub(crate) fn are_seen(test: &str, faults: &[&str]) {
    let run = |fault: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        // Nobody reads where it failed.
        command.args([test, "--exact", "--test-threads", "1"]).env("RUST_BACKTRACE", "0");
        fault.map(|fault| command.env(FAULT, fault));
        command.output().unwrap()
    };
    // It does pass without.
    assert!(run(None).status.success(), "{test} fails without a fault");
    for fault in faults {
        let (right, _) = fault.split_once(ARROW).unwrap();
        assert_eq!(SOURCE.matches(right).count(), 1, "a fault has one place: {right}");
        let output = run(Some(fault));
        let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success(), "not seen: {fault}\n{words}");
        // A wrong value, by the test itself or the probe before it, or a signal; not source that does not compile.
        let failed = words.contains("test result: FAILED. 0 passed; 1 failed") || output.status.code().is_none();
        assert!(failed && !words.contains("Source {") && !words.contains("fault: Other"), "{fault}\n{words}");
    }
}
