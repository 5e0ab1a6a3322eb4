#!/usr/bin/env bash
# Runs the tests on ARM64 by way of QEMU, on three CPU models:
#
#   scripts/test-arm64.sh [TIER...]      i8mm, dotprod and neon, unless named: the CPU model whose best tier it is
#   FAST=1 ...                           only those of the kernels
#   TESTS="matmul bits" ...              only tests of these names
#   CHECK=1 ...                          no tests: clippy for ARM64, of the kernels
#
# Each run must find exactly the tiers that its CPU model has. Needs Debian 12 on x86-64, a cargo, and Linux 6.7 or newer, which
# starts ARM64 programs by QEMU in a namespace of their own. Clang, LLD and LLVM 19 are installed if they are missing (as
# root); everything else is unpacked below target/arm64: Debian's Rust compiler, ARM64's libraries, and QEMU.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
home=$target/arm64

if ! { command -v clang-19 && command -v llvm-ar-19 && command -v ld.lld-19; } > /dev/null; then
    apt-get -qq update
    apt-get -qq install --no-install-recommends clang-19 llvm-19 lld-19
fi
. scripts/debian-rust.sh
debian_rust "$home" qemu-user-static {libstd-rust-web-dev,libc6,libc6-dev,libgcc-s1,libgcc-12-dev,linux-libc-dev}:arm64
triple=aarch64-unknown-linux-gnu
ln -sfn "$home/arm/usr/lib/rustlib/$triple" "$home/x86/usr/lib/rustlib/$triple"
cat > "$home/bin/linker" << TOOL
#!/bin/sh
exec clang-19 --target=aarch64-linux-gnu --sysroot=$home/arm -fuse-ld=lld-19 -Wno-unused-command-line-argument "\$@"
TOOL
chmod +x "$home/bin/linker"

export RUSTC=$home/bin/rustc RUSTDOC=$home/bin/rustdoc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$home/bin/linker
export CC_aarch64_unknown_linux_gnu=$home/bin/linker AR_aarch64_unknown_linux_gnu=llvm-ar-19

if [ "${CHECK:-}" ]; then
    export CARGO_TARGET_DIR=$home/build
    exec "$home/bin/cargo-clippy" clippy --target $triple -p qembed-kernels --lib -- -D warnings
fi

# From here on the kernel hands ARM64 programs to QEMU, also those that tests start, until this script ends.
export QEMU_LD_PREFIX=$home/arm
if ! "$home"/arm/lib/ld-linux-aarch64.so.1 --version > /dev/null 2>&1; then
    [ ! "${NAMESPACE:-}" ] || { echo "ARM64 programs cannot be started" >&2; exit 1; }
    mkdir -p "$home/binfmt"
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    export NAMESPACE="$home/binfmt" RULE=":qemu:M::$magic:$mask:$home/x86/usr/bin/qemu-aarch64-static:F"
    exec unshare --user --map-root-user --mount bash -c '
        mount -t binfmt_misc none "$NAMESPACE" && printf %s "$RULE" > "$NAMESPACE/register" && exec "$@"
    ' namespace scripts/test-arm64.sh "$@"
fi

# Apart from what another compiler built.
export CARGO_TARGET_DIR=$home/build CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only
packages=(-p qembed-kernels)
[ "${FAST:-}" ] || packages=(--workspace)

# run MODEL TIERS: a run on a CPU model that must offer exactly these tiers.
run() {
    export QEMU_CPU=$1 QEMBED_REQUIRE_ISA=$2
    echo "== $1: $2"
    local tests=(cargo test --quiet --no-fail-fast --target $triple)
    "${tests[@]}" "${packages[@]}" --lib required_tiers_run -- --nocapture 2>&1 |
        grep -x "tiers that the tests run on: ${2//,/, }, scalar" &&
        # shellcheck disable=SC2086
        "${tests[@]}" "${packages[@]}" ${FAST:+--lib} -- ${TESTS:-} 2>&1 | tee "$home/$1.log"
}

[ $# != 0 ] || set -- i8mm dotprod neon
failed=0
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
