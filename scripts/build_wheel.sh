#!/usr/bin/env bash
# The wheel of the package for Python, with the program in it: target/wheels/qembed_q-*.whl
#   build_wheel.sh            the program is built as well
#   build_wheel.sh PROGRAM    the program that goes in, built elsewhere
# Needs a Rust toolchain and Python with venv; installs maturin in target/maturin.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
program=${1:-$CARGO_TARGET_DIR/release/qembed-q}
[ $# -gt 0 ] || cargo build --release
mkdir -p python/data/scripts
cp "$program" python/data/scripts/qembed-q
[ -x "$CARGO_TARGET_DIR/maturin/bin/maturin" ] || {
    python3 -m venv "$CARGO_TARGET_DIR/maturin"
    "$CARGO_TARGET_DIR/maturin/bin/pip" install --quiet 'maturin>=1.9,<2'
}
rm -rf "$CARGO_TARGET_DIR/wheels"
"$CARGO_TARGET_DIR/maturin/bin/maturin" build --release --locked --manifest-path python/Cargo.toml --out "$CARGO_TARGET_DIR/wheels"
