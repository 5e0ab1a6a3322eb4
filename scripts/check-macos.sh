#!/usr/bin/env bash
# Checks that everything compiles for macOS on ARM64 (aarch64-apple-darwin), with every feature, tests and benchmarks included:
#
#   scripts/check-macos.sh [ARGUMENT...]    of `cargo check`; the whole workspace, all targets and features unless there are any
#
# This shows types and names, and no more: nothing is linked and nothing runs. Needs Debian 12 on x86-64 and a cargo.
# Everything goes below target/macos: Debian's Rust compiler and the standard library that it builds of its source.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${CARGO_TARGET_DIR:-$PWD/target}/macos
triple=aarch64-apple-darwin

. scripts/debian-rust.sh
debian_rust "$home" rust-web-src
debian_rust_std "$home" $triple

# Dependencies that hold C (SQLite, ring, zstd, …) want Apple's headers, which may not be had here. A check links nothing, so that a
# compiler will do that writes empty objects, and says that it is a clang where it is asked for its name.
cat > "$home/bin/cc" << 'TOOL'
#!/usr/bin/env bash
set -euo pipefail
case " $* " in
    *" -E "*) echo clang ;;
esac
while [ $# != 0 ]; do
    [ "$1" != -o ] || : > "$2"
    shift
done
TOOL
# ar OPERATION ARCHIVE OBJECT...: an archive of nothing.
cat > "$home/bin/ar" << 'TOOL'
#!/usr/bin/env bash
set -euo pipefail
printf '!<arch>\n' > "$2"
TOOL
chmod +x "$home/bin/cc" "$home/bin/ar"
export CC_aarch64_apple_darwin=$home/bin/cc CXX_aarch64_apple_darwin=$home/bin/cc AR_aarch64_apple_darwin=$home/bin/ar
# Else Apple's tools are asked for these.
export SDKROOT=$home/sdk MACOSX_DEPLOYMENT_TARGET=11.0

# Apart from what another compiler built.
export RUSTC=$home/bin/rustc RUSTDOC=$home/bin/rustdoc CARGO_TARGET_DIR=$home/build CARGO_INCREMENTAL=0
[ $# != 0 ] || set -- --workspace --all-targets --all-features --locked
cargo check --target $triple "$@"
echo "checked for $triple: $*"
