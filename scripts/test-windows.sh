#!/usr/bin/env bash
# Runs the tests as Windows programs (x86_64-pc-windows-gnu) under Wine, then compares vectors with those of Linux:
#
#   scripts/test-windows.sh [ARGUMENT...]    of `cargo test`; the whole workspace and the comparison unless there are any
#   BITS=1 ...                               only the comparison
#   CHECK=1 ...                              no tests: clippy for Windows, of everything
#
# Needs Debian 12 on x86-64, a cargo, and root where MinGW and Wine have to be installed. Everything else goes below
# target/windows: Debian's Rust compiler, the standard library that it builds of its source, and Wine's drive C.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
home=$target/windows
triple=x86_64-pc-windows-gnu
wine=/usr/lib/wine/wine64

if ! { command -v x86_64-w64-mingw32-gcc && [ -x $wine ]; } > /dev/null; then
    apt-get -qq update
    apt-get -qq install --no-install-recommends gcc-mingw-w64-x86-64-win32 wine64
fi
. scripts/debian-rust.sh
debian_rust "$home" rust-web-src
export RUSTC=$home/bin/rustc RUSTDOC=$home/bin/rustdoc CARGO_INCREMENTAL=0

# The standard library, as the dependency of a crate that holds nothing.
library=$home/x86/usr/lib/rustlib/$triple/lib
if [ ! -e "$library" ]; then
    rm -rf "$home/std"
    mkdir -p "$home/std"
    touch "$home/std/nothing.rs"
    cat > "$home/std/Cargo.toml" << TOML
[package]
name = "nothing"
edition = "2024"
[lib]
path = "nothing.rs"
[workspace]
TOML
    (
        cd "$home/std"
        export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$home/std/build
        cargo build --quiet --release --target $triple -Zbuild-std=std,panic_unwind,proc_macro,test
    )
    rm "$home"/std/build/$triple/release/deps/libnothing*
    mkdir -p "$library.new"
    cp "$home"/std/build/$triple/release/deps/*.rlib "$library.new"
    mv "$library.new" "$library"
fi

# Windows has this library since Vista, Wine since 9. Rust's takes random numbers from it, for hash maps.
if [ ! -e "$home/dll/bcryptprimitives.dll" ]; then
    mkdir -p "$home/dll"
    cat > "$home/dll/random.c" << C
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count) { return RtlGenRandom(bytes, (ULONG)count); }
C
    x86_64-w64-mingw32-gcc -shared -o "$home/dll/bcryptprimitives.dll" "$home/dll/random.c" -ladvapi32
fi

export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$wine
export WINEPREFIX=$home/prefix WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml= LC_ALL=C.UTF-8
WINEPATH=$(printf 'Z:%s/dll' "$home" | tr / '\\')
export WINEPATH

# Apart from what another compiler built.
export CARGO_TARGET_DIR=$home/build
if [ "${CHECK:-}" ]; then
    exec "$home/bin/cargo-clippy" clippy --workspace --all-targets --target $triple -- -D warnings
fi

# compare: the vectors of the built-in model, on each instruction set that both programs offer.
compare() {
    cargo build --quiet --target $triple
    (unset RUSTC RUSTDOC CARGO_TARGET_DIR CARGO_INCREMENTAL && cargo build --quiet)
    local isa compared=0
    for isa in scalar avx2 avxvnni avx512vnni; do
        local arguments=(--format raw --isa "$isa" "The capital of China is Beijing." "import { useState } from 'react';")
        "$target/debug/qembed-q" "${arguments[@]}" > "$home/linux.raw" 2> /dev/null || continue
        $wine "$CARGO_TARGET_DIR/$triple/debug/qembed-q.exe" "${arguments[@]}" > "$home/windows.raw" 2> /dev/null
        cmp "$home/linux.raw" "$home/windows.raw" || return 1
        echo "$isa: the bits of Linux"
        compared=$((compared + 1))
    done
    [ $compared != 0 ]
}

if [ ! "${BITS:-}" ]; then
    [ $# != 0 ] || set -- --workspace --no-fail-fast
    cargo test --target $triple "$@"
    [ "$*" = "--workspace --no-fail-fast" ] || exit 0
fi
compare
