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
