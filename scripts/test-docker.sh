#!/usr/bin/env bash
# Takes the steps of deploy/Dockerfile where there is no Docker, runs the image that they make, and asks it for its health and for vectors:
#
#   scripts/test-docker.sh           # or SKIP_BUILD=1, with the image of the last run
#
# The build stage runs in a clean root of Debian (debootstrap) instead of rust:alpine: in it are a C compiler, musl, cargo, and Debian's Rust
# compiler with a standard library for musl, built of its source. The image is a folder, and runs as its PID 1, as its user, with no
# file system but that folder, read-only, in namespaces of its own (bwrap). Needs Debian 12 on x86-64, a cargo, and root.
# Everything goes below target/docker.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${CARGO_TARGET_DIR:-$PWD/target}/docker
triple=x86_64-unknown-linux-musl
most=50000000

if ! command -v bwrap debootstrap nsenter setpriv curl > /dev/null; then
    apt-get -qq update
    apt-get -qq install --no-install-recommends bubblewrap debootstrap util-linux curl
fi
. scripts/debian-rust.sh
debian_rust "$home/rust" rust-web-src

root=$home/root
if [ ! -e "$root/complete" ]; then
    rm -rf "$root"
    # The last are libraries of the compiler.
    debootstrap --variant=minbase --include=gcc,libc6-dev,musl-tools,libedit2,libffi8,libxml2,libz3-4,libzstd1,zlib1g bookworm "$root" > "$home/debootstrap.log"
    touch "$root/complete"
fi

# The standard library, as the dependency of a crate that holds nothing, and what it is linked with.
library=$home/rust/x86/usr/lib/rustlib/$triple/lib
if [ ! -e "$library" ]; then
    rm -rf "$home/std" "$library.new"
    mkdir -p "$home/std" "$library.new/self-contained"
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
        # With what it takes to optimize it together with the program, as the profile of releases does.
        export RUSTC=$home/rust/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$home/std/build
        cargo build --quiet --release --target $triple -Zbuild-std=std,panic_unwind
    )
    rm "$home"/std/build/$triple/release/deps/libnothing*
    cp "$home"/std/build/$triple/release/deps/*.rlib "$library.new"
    gcc=("$root"/usr/lib/gcc/x86_64-linux-gnu/*/)
    cp "$root"/usr/lib/x86_64-linux-musl/{crt1,rcrt1,Scrt1,crti,crtn}.o "$root/usr/lib/x86_64-linux-musl/libc.a" "$library.new/self-contained"
    cp "${gcc[0]}"crt{begin,beginS,beginT,end,endS}.o "$library.new/self-contained"
    # Debian's unwinder asks glibc in which of the files that are mapped an address lies; here there is but one. And it takes what
    # it needs of threads only where something else is there that does.
    cp "${gcc[0]}libgcc_eh.a" "$library.new/self-contained/libunwind.a"
    cat > "$root/tmp/find.c" << C
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
void *const threads[] __attribute__((used)) = { pthread_once, pthread_mutex_lock, pthread_mutex_unlock, pthread_key_create,
                                                pthread_getspecific, pthread_setspecific };
struct found { unsigned long long flags; void *start, *end; struct link_map *map; void *eh_frame; unsigned long long reserved[7]; };
static int look(struct dl_phdr_info *info, size_t size, void *data) {
    struct found *found = data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = info->dlpi_phdr + i;
        char *start = (char *)info->dlpi_addr + part->p_vaddr, *end = start + part->p_memsz;
        if (part->p_type == PT_GNU_EH_FRAME) found->eh_frame = start;
        if (part->p_type == PT_LOAD && start < (char *)found->start) found->start = start;
        if (part->p_type == PT_LOAD && end > (char *)found->end) found->end = end;
    }
    return 1;
}
int _dl_find_object(void *address, struct found *found) {
    *found = (struct found){ .start = (void *)-1 };
    dl_iterate_phdr(look, found);
    return found->eh_frame && address >= found->start && address < found->end ? 0 : -1;
}
C
    chroot "$root" sh -c 'cd /tmp && musl-gcc -O2 -c find.c'
    ar q "$library.new/self-contained/libunwind.a" "$root/tmp/find.o"
    mv "$library.new" "$library"
fi

# in_build_root COMMAND: as RUN would.
in_build_root() {
    bwrap --bind "$root" / --dev /dev --proc /proc --tmpfs /tmp --unshare-pid --unshare-net --unshare-ipc --clearenv \
        --ro-bind "$home/rust" "$home/rust" --ro-bind "$cargo" /usr/local/bin/cargo --bind "$home/cargo" /cargo --bind "$home/build" /src/target \
        --setenv PATH /usr/local/bin:/usr/bin:/bin --setenv HOME /root --setenv RUSTC "$home/rust/bin/rustc" --setenv CARGO_HOME /cargo \
        --setenv CARGO_NET_OFFLINE true --setenv CARGO_BUILD_JOBS "${CARGO_BUILD_JOBS:-$(nproc)}" --chdir "$workdir" /bin/sh -c "$1"
}

# Lines of the Dockerfile, each an instruction.
image=$home/image stage='' workdir=/ user=0:0 entrypoint='[]' command='[]' health='[]'
if [ ! "${SKIP_BUILD:-}" ]; then
    rm -rf "$image" "$root/src" "$root/image"
    mkdir -p "$image" "$home/build" "$home/cargo"
    cargo=$(rustup which cargo 2> /dev/null || command -v cargo)
    # In the root is no network, so what Cargo.lock names is fetched before.
    CARGO_HOME=$home/cargo cargo fetch --locked --target $triple
fi
while read -r instruction rest; do
    [ "${SKIP_BUILD:-}" ] || echo "== $instruction $rest"
    case "$instruction $rest" in
        'FROM scratch') stage=image ;;
        'FROM '*' AS build') stage=build ;;
        'WORKDIR '*) workdir=$rest ;;
        'COPY . .')
            [ ! "${SKIP_BUILD:-}" ] || continue
            mkdir -p "$root$workdir/target"
            git ls-files -ci -X deploy/Dockerfile.dockerignore | sort > "$home/ignored"
            git ls-files | sort | comm -23 - "$home/ignored" | tar -c -T - | tar -x -C "$root$workdir"
            ;;
        'COPY --from=build --chown='*)
            [ ! "${SKIP_BUILD:-}" ] || continue
            read -r _ owner from to <<< "$rest"
            cp -R "$root$from." "$image$to"
            chown -R "${owner#--chown=}" "$image"
            ;;
        'RUN '*) [ "${SKIP_BUILD:-}" ] || in_build_root "$rest" ;;
        'USER '*) user=$rest ;;
        'ENTRYPOINT '*) entrypoint=$rest ;;
        'CMD '*) command=$rest ;;
        'HEALTHCHECK '*' CMD '*) health=${rest#* CMD } ;;
        'EXPOSE '*) port=$rest ;;
        *) echo "not understood: $instruction $rest" >&2 && exit 1 ;;
    esac
done < <(grep -v -e '^#' -e '^$' deploy/Dockerfile)
[ $stage = image ]

echo "== the image"
find "$image" -mindepth 1 -printf '%10s bytes  %u:%g  %M  /%P\n'
size=$(du -sb "$image" | cut -f1)
echo "$size bytes, at most $most"
[ "$size" -le $most ]
if readelf -l "$image/qembed-q" | grep INTERP; then
    echo "not static" >&2 && exit 1
fi

# Docker makes these too.
mkdir -p "$image"/{dev,proc}

# array JSON: the words of a JSON array, a line each.
array() { python3 -c 'import json, sys; print(*json.loads(sys.argv[1]), sep="\n")' "$1"; }
mapfile -t entrypoint < <(array "$entrypoint")
mapfile -t command < <(array "$command")
mapfile -t health < <(array "$health")

# start CACHE WORD...: the image's program with these arguments, as its PID 1; `pid` is its number out here, `parent` who waits for it.
start() {
    local cache=$1
    shift
    rm -f "$home/started"
    setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --no-new-privs --inh-caps=-all \
        bwrap --ro-bind "$image" / --dev /dev --proc /proc --bind "$cache" /cache --unshare-all --as-pid-1 --die-with-parent --clearenv \
        --chdir / --info-fd 3 "${entrypoint[@]}" "$@" 3> "$home/started" 2> "$home/log" &
    parent=$!
    for _ in {1..600}; do
        ! grep -q 'qembed-q: listening on' "$home/log" || break
        kill -0 $parent 2> /dev/null || { cat "$home/log" >&2 && exit 1; }
        sleep 0.1
    done
    pid=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["child-pid"])' "$home/started")
}
# In the program's network, which is its own: what a published port would reach, or what another container would.
ask() { nsenter -t "$pid" -n curl -sS --fail-with-body --max-time 60 "http://127.0.0.1:$port$1" "${@:2}"; }
# The health check, as Docker runs it: inside.
healthy() { nsenter -t "$pid" -a -S "${user%:*}" -G "${user#*:}" "${health[@]}"; }
stop() {
    kill -TERM "$pid"
    local status=0
    wait "$parent" || status=$?
    echo "stopped: exit status $status"
    [ $status = 0 ]
}

for what in "as CMD says" "as docker-compose.yml says"; do
    echo "== $what"
    rm -rf "$home/cache"
    install -d -o "${user%:*}" -g "${user#*:}" "$home/cache"
    words=("${command[@]}")
    [ "$what" = "as CMD says" ] || mapfile -t words < <(python3 - << 'PYTHON'
import re
line = re.search(r"^ +command: \[(.*)\]$", open("deploy/docker-compose.yml").read(), re.MULTILINE)
print(*line[1].split(", "), sep="\n")
PYTHON
)
    echo "${entrypoint[*]} ${words[*]}"
    start "$home/cache" "${words[@]}"
    cat "$home/log"
    grep -E '^(Uid|NoNewPrivs|CapEff):' "/proc/$pid/status"
    grep -qE "^Uid:\s${user%:*}\s" "/proc/$pid/status"
    ask /health && echo
    healthy
    echo "the health check: 0"
    ask /v1/embeddings -d '{"input": ["one", "two"], "dimensions": 32, "encoding_format": "base64"}' && echo
    ls "$home/cache"
    stop
done
echo "all passed"
