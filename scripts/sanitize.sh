#!/usr/bin/env bash
# Runs tests of our own crates under AddressSanitizer, then the kernels' unit tests with a page without access behind each piece
# of memory: an access beyond its end ends the run.
#
#   scripts/sanitize.sh                           the kernels' unit tests, and models of all formats on all tiers of this machine
#   scripts/sanitize.sh --workspace --test NAME   what `cargo test` is told: other tests, under AddressSanitizer alone
#
# Needs Linux and Rust. Crates of others are not compiled anew: their generic code is watched where it is ours, and so is all
# memory that is taken from the system. AddressSanitizer does not see into assembly, which is the inner loop of some tiers; the
# pages do (kernels/tests/common/guard.rs), and tell of it as a segmentation fault.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target"

# The flags of sanitizers are not stable; no other toolchain than the one at hand is needed for them.
wrapper=$target/sanitizer
printf '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address\n' > "$wrapper"
chmod +x "$wrapper"
sanitized() { RUSTC_WORKSPACE_WRAPPER=$wrapper cargo test "$@"; }

if [ $# -gt 0 ]; then
    sanitized "$@"
else
    sanitized --workspace --test mixed
    # The other libraries' tests have no such names.
    sanitized --workspace --lib -- cpu:: pool:: formats:: quantize::
    QEMBED_GUARD=1 cargo test --workspace --lib -- cpu:: pool:: formats::
fi
