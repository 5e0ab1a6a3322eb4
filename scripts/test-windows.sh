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
debian_rust_std "$home" $triple
export RUSTC=$home/bin/rustc RUSTDOC=$home/bin/rustdoc CARGO_INCREMENTAL=0

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

# compare: the vectors of the built-in model, on each instruction set that both programs offer. Texts in many languages, a line
# each, and one that fills the context.
compare() {
    # Those that the tests run.
    cargo test --quiet --workspace --no-run --target $triple
    (unset RUSTC RUSTDOC CARGO_TARGET_DIR CARGO_INCREMENTAL && cargo test --quiet --workspace --no-run)
    local linux=("$target/debug/qembed-q") windows=($wine "$CARGO_TARGET_DIR/$triple/debug/qembed-q.exe")
    local isa compared=0
    { cat src/cli/bench/texts.tsv && tr '\n' ' ' < docs/kernels.md; } > "$home/texts"
    for isa in amx avx512vnni avxvnni avx2 sse41 scalar; do
        local arguments=(--format raw --isa "$isa" --truncate right)
        if ! "${linux[@]}" "${arguments[@]}" x > /dev/null 2>&1; then
            echo "$isa: not on this machine"
        elif ! "${windows[@]}" "${arguments[@]}" x > /dev/null 2>&1; then
            echo "$isa: not offered on Windows"
        else
            "${linux[@]}" "${arguments[@]}" < "$home/texts" > "$home/linux.raw" 2> /dev/null
            "${windows[@]}" "${arguments[@]}" < "$home/texts" > "$home/windows.raw" 2> /dev/null
            cmp "$home/linux.raw" "$home/windows.raw"
            echo "$isa: the bits of Linux in $(stat -c %s "$home/linux.raw") bytes of vectors"
            compared=$((compared + 1))
        fi
    done
    [ $compared != 0 ]
}

if [ ! "${BITS:-}" ]; then
    # One asks the cargo at hand, which is a Linux program.
    whole=(--workspace --no-fail-fast -- --skip offline)
    [ $# != 0 ] || set -- "${whole[@]}"
    cargo test --target $triple "$@"
    [ "$*" = "${whole[*]}" ] || exit 0
fi
compare
