#!/usr/bin/env bash
# Runs the tests of the kernels on ARM64 by way of QEMU, on three CPU models:
#
#   scripts/test-arm64.sh [TIER...]      i8mm, dotprod and neon, unless named: the CPU model whose best tier it is
#   TESTS="cpu::tests::matmul" ...       only tests of these names
#   GOLDEN=1 ...                         the vectors of small models too (builds tokenizers and candle, many minutes)
#   CHECK=1 ...                          no tests: clippy for ARM64, of the kernels
#
# Each run must find exactly the tiers that its CPU model has. Needs Debian 12 on x86-64 and a cargo. Clang, LLD and LLVM 19
# are installed if they are missing (as root); everything else is unpacked below target/arm64: Debian's own Rust compiler
# with its ARM64 library, ARM64's C library, and QEMU.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
home=$target/arm64
mkdir -p "$home"

if ! { command -v clang-19 && command -v llvm-ar-19 && command -v ld.lld-19; } > /dev/null; then
    apt-get -qq update
    apt-get -qq install --no-install-recommends clang-19 llvm-19 lld-19
fi

# Packages are downloaded with a package state of its own, which knows both architectures, and unpacked, not installed.
if [ ! -e "$home/ready" ]; then
    rm -rf "$home"
    mkdir -p "$home"/{bin,packages,x86,arm,apt/lists/partial,apt/archives/partial}
    : > "$home/apt/status"
    cat > "$home/apt/apt.conf" << CONF
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Dir::State "$home/apt";
Dir::State::status "$home/apt/status";
Dir::Cache "$home/apt";
CONF
    (
        export APT_CONFIG=$home/apt/apt.conf
        cd "$home/packages"
        apt-get -qq update
        # What Debian builds web browsers with: newer than its `rustc`.
        needs() { apt-cache depends "$1" | sed -n 's/ *Depends: //p' | grep "$2"; }
        library=$(needs libstd-rust-web-dev '^libstd-rust-web-[0-9]')
        apt-get -qq download rustc-web rust-web-clippy libstd-rust-web-dev "$library" "$(needs "$library" '^libllvm')" \
            qemu-user-static
        apt-get -qq download libstd-rust-web-dev:arm64 libc6:arm64 libc6-dev:arm64 libgcc-s1:arm64 libgcc-12-dev:arm64 \
            linux-libc-dev:arm64
    )
    for package in "$home"/packages/*_{amd64,all}.deb; do [ ! -e "$package" ] || dpkg-deb -x "$package" "$home/x86"; done
    for package in "$home"/packages/*_arm64.deb; do dpkg-deb -x "$package" "$home/arm"; done
    rm -r "$home/packages" "$home/apt"
    ln -s "$home/arm/usr/lib/rustlib/aarch64-unknown-linux-gnu" "$home/x86/usr/lib/rustlib/"
    for tool in rustc rustdoc; do
        cat > "$home/bin/$tool" << TOOL
#!/bin/sh
LD_LIBRARY_PATH=$home/x86/usr/lib/x86_64-linux-gnu exec $home/x86/usr/bin/$tool "\$@"
TOOL
    done
    cat > "$home/bin/linker" << TOOL
#!/bin/sh
exec clang-19 --target=aarch64-linux-gnu --sysroot=$home/arm -fuse-ld=lld-19 -Wno-unused-command-line-argument "\$@"
TOOL
    chmod +x "$home"/bin/*
    touch "$home/ready"
fi

export RUSTC=$home/bin/rustc RUSTDOC=$home/bin/rustdoc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$home/bin/linker
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$home/x86/usr/bin/qemu-aarch64-static -L $home/arm"
export CC_aarch64_unknown_linux_gnu=$home/bin/linker AR_aarch64_unknown_linux_gnu=llvm-ar-19
# Apart from what another compiler built.
export CARGO_TARGET_DIR=$home/build CARGO_INCREMENTAL=0

if [ "${CHECK:-}" ]; then
    LD_LIBRARY_PATH=$home/x86/usr/lib/x86_64-linux-gnu exec "$home/x86/usr/bin/cargo-clippy" clippy \
        --target aarch64-unknown-linux-gnu -p qembed-kernels --lib -- -D warnings
fi

# run MODEL TIERS: a run on a CPU model that must offer exactly these tiers.
failed=0
run() {
    export QEMU_CPU=$1 QEMBED_REQUIRE_ISA=$2
    echo "== $1: $2"
    local log=$home/$1.log
    local kernels=(cargo test --quiet --target aarch64-unknown-linux-gnu -p qembed-kernels --lib --)
    # shellcheck disable=SC2086
    "${kernels[@]}" ${TESTS:-} 2>&1 | tee "$log" || return 1
    "${kernels[@]}" required_tiers_run --nocapture 2>&1 | grep -x "tiers that the tests run on: ${2//,/, }, scalar" || return 1
    [ ! "${GOLDEN:-}" ] || cargo test --quiet --target aarch64-unknown-linux-gnu -p qembed-models --test golden || return 1
}

[ $# != 0 ] || set -- i8mm dotprod neon
for tier in "$@"; do
    case $tier in
        i8mm) run max i8mm,dotprod,neon ;;
        dotprod) run cortex-a76 dotprod,neon ;;
        neon) run cortex-a53 neon ;;
        *) echo "no such tier: $tier" >&2; exit 2 ;;
    esac || failed=1
done
[ $failed = 0 ] && echo "passed: $*" || echo "FAILED" >&2
exit $failed
