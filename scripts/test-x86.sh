#!/usr/bin/env bash
# Runs the tests of the kernels, and whole models of mixed formats (models/tests/mixed.rs), on the instruction sets that the
# machine at hand may lack, in an emulated one:
#
#   scripts/test-x86.sh [TIER...]      avxvnni, avx512vnni and amx, unless named; the same run sees that detection is right
#   TESTS="matmul bits" ...            only the kernels' tests of these names; "models" for the models
#
# Needs Debian or Ubuntu on x86-64 (apt, g++, make, patch, python3 with venv), and installs nothing: Bochs, built from
# Debian's source with what x86-emulator/bochs.patch adds, a Debian kernel and a boot loader go to target/x86-emulator.
# QEMU has neither AVX-512 nor AMX.
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
cd "$scripts/.."
home=${CARGO_TARGET_DIR:-$PWD/target}/x86-emulator
mkdir -p "$home"
cd "$home"

# Debian's stable release of 2025, in a package state of its own.
if [ ! -e kernel ]; then
    mkdir -p apt/lists/partial apt/archives/partial packages
    : > apt/status
    # The mirror that this machine uses.
    mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/$')}
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    for kind in deb deb-src; do
        echo "$kind [signed-by=$keys] $mirror trixie main"
    done > apt/sources.list
    cat > apt/apt.conf <<CONF
APT::Architecture "amd64";
APT::Sandbox::User "root";
Dir::State "$home/apt";
Dir::State::status "$home/apt/status";
Dir::Cache "$home/apt";
Dir::Etc::sourcelist "$home/apt/sources.list";
Dir::Etc::sourceparts "-";
CONF
    export APT_CONFIG=$home/apt/apt.conf
    apt-get -qq update
    image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: //p' | grep '^linux-image-[0-9]' | head -n 1)
    (cd packages && apt-get -qq download "$image" busybox-static isolinux syslinux-common bochsbios vgabios)
    for package in packages/*.deb; do dpkg-deb -x "$package" root; done
    read -r uri file _ hash < <(apt-get --print-uris source bochs 2> /dev/null | tr -d "'" | grep 'orig\.tar')
    /usr/lib/apt/apt-helper -qq download-file "$uri" "$file" "$hash"
    rm -rf bochs && mkdir bochs
    tar xf "$file" -C bochs --strip-components=1
    python3 -m venv python
    python/bin/pip -q install pycdlib==1.22.0
    cp root/boot/vmlinuz-* kernel
fi
if [ ! -e bochs.built ] || [ "$scripts/x86-emulator/bochs.patch" -nt bochs.built ]; then
    [ ! -e bochs.built ] || { echo "the patch has changed: remove $home" >&2; exit 1; }
    echo "building Bochs (minutes; $home/bochs.log)" >&2
    (
        cd bochs
        patch -p1 < "$scripts/x86-emulator/bochs.patch"
        ./configure --with-nogui --enable-cpu-level=6 --enable-x86-64 --enable-avx --enable-evex --enable-amx --enable-cet \
            --enable-memtype --enable-protection-keys --enable-all-optimizations --disable-docbook --disable-plugins \
            CFLAGS=-O2 CXXFLAGS="-O2 -fomit-frame-pointer"
        make -j"$(nproc)"
    ) > bochs.log 2>&1
    touch bochs.built
fi

# The test binaries, and the libraries that they are linked to.
rm -rf guest
mkdir -p guest/bin guest/proc guest/dev guest/tmp
# add NAME TARGET CRATE: a test target of the workspace, of this crate.
add() {
    local name=$1 binary
    binary=$(cd "$scripts/.." && cargo test --workspace "${@:2:$#-2}" --no-run --message-format=json |
        sed -n "/\"name\":\"${*: -1}\"/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p")
    strip -o "guest/bin/$name" "$binary"
    ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "guest$(dirname "$library")"
        cp -L "$library" "guest$library"
    done
}
add kernels --lib qembed_kernels
add models --test mixed mixed
busybox=$(find root -path '*bin/busybox')
cp "$busybox" guest/bin/busybox
cp "$scripts/x86-emulator/init" guest/init
(cd guest && find . | "../$busybox" cpio -o -H newc 2> /dev/null) > initrd

# emulate NAME MODEL TIERS [KERNEL ARGUMENT...]: a run on a CPU model that must offer exactly these tiers.
emulate() {
    local name=$1 model=$2 tiers=$3
    shift 3
    mkdir -p "$name"
    rm -f "$name/serial"
    python/bin/python "$scripts/x86-emulator/iso.py" root/usr/lib/ISOLINUX/isolinux.bin \
        root/usr/lib/syslinux/modules/bios/ldlinux.c32 kernel initrd "$name/boot.iso" \
        console=ttyS0 loglevel=1 reboot=t acpi=off mitigations=off nokaslr tsc=reliable random.trust_cpu=on "require=$tiers" "$@"
    # Messages are ignored, as Bochs waits for itself forever when its timer has one while it writes another.
    cat > "$name/bochsrc" <<CONF
display_library: nogui
romimage: file=$home/root/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=$home/root/usr/share/vgabios/vgabios.bin
megs: 1024
cpu: model=$model, count=1, ips=50000000, reset_on_triple_fault=0
clock: sync=none
ata0-master: type=cdrom, path=$home/$name/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$home/$name/serial
log: /dev/null
info: action=ignore
error: action=ignore
panic: action=fatal
CONF
    bochs/bochs -q -f "$name/bochsrc" > "$name/bochs.out" 2>&1 < /dev/null || true
    tr -d '\r' < "$name/serial" | sed "s/^/$name: /" | grep -E 'test |tiers that|panicked|expected|assertion|exit status'
    grep -q '^exit status: 0' "$name/serial" &&
        tr -d '\r' < "$name/serial" | grep -q "tiers that the tests run on: ${tiers//,/, }\$"
}

all=amx,avx512vnni,avxvnni,avx2,sse41,scalar
running=()
if [ $# = 0 ]; then
    # What the CPU has and the operating system has not enabled is not there.
    emulate amx-disabled sapphire_rapids avx512vnni,avxvnni,avx2,sse41,scalar clearcpuid=amx_tile & running+=($!)
    emulate avx-disabled sapphire_rapids sse41,scalar noxsave & running+=($!)
    set -- avxvnni avx512vnni amx
fi
for tier in "$@"; do
    case $tier in
        avxvnni) model=arrow_lake tiers=avxvnni,avx2,sse41,scalar ;;
        avx512vnni) model=tigerlake tiers=avx512vnni,avx2,sse41,scalar ;;
        amx) model=sapphire_rapids tiers=$all ;;
        *) echo "no such tier: $tier" >&2; exit 2 ;;
    esac
    tests=${TESTS:-cpu:: models}
    emulate "$tier" $model $tiers "only=$tier" "tests=${tests// /,}" & running+=($!)
done
failed=0
for run in "${running[@]}"; do wait "$run" || failed=1; done
[ $failed = 0 ] && echo "passed: $*" || echo "FAILED (consoles: $home/*/serial)" >&2
exit $failed
