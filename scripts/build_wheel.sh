#!/usr/bin/env bash
# The wheel of the package for Python, with the program in it: target/wheels/qembed_q-*.whl
#   build_wheel.sh                        for this machine; the program is built as well
#   build_wheel.sh PROGRAM [OPTION ...]   with a program that is built, and more options of `maturin build`
# Needs a Rust toolchain and Python with venv; installs maturin in target/maturin.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
end=
bin=bin
[ "${OS:-}" != Windows_NT ] || end=.exe bin=Scripts
program=${1:-$CARGO_TARGET_DIR/release/qembed-q$end}
[ $# -gt 0 ] || cargo build --release
mkdir -p python/data/scripts
cp "$program" "python/data/scripts/qembed-q$end"
maturin=$CARGO_TARGET_DIR/maturin
[ -e "$maturin/$bin/maturin$end" ] || {
    python3 -m venv "$maturin"
    "$maturin/$bin/python" -m pip install --quiet 'maturin[zig]>=1.9,<2'
}
"$maturin/$bin/maturin" build --release --locked --manifest-path python/Cargo.toml --out "$CARGO_TARGET_DIR/wheels" "${@:2}"
