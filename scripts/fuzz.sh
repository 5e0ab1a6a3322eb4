#!/usr/bin/env bash
# Runs the fuzz targets (fuzz/) and prints a table of what was run and found:
#
#   scripts/fuzz.sh [TARGET...]      all of them, unless named
#   EXECUTIONS=1000 ...              of each target; by default ten million of a parser in memory, a hundred thousand of what
#                                    writes files or runs a model
#   SANITIZER=none ...               without AddressSanitizer, which finds what unsafe code does wrong and takes twice the time
#
# Needs Linux, Rust and a C++ compiler; installs cargo-fuzz in fuzz/target. The corpus stays in fuzz/corpus and is where the next run
# goes on from. An input that fails is made smaller and kept in fuzz/artifacts; the exit status is then 1.
set -euo pipefail
cd "$(dirname "$0")/.."
renice -n 19 $$ > /dev/null
# The sanitizers' flags are not stable; no other toolchain than the repository's is needed for them.
export RUSTC_BOOTSTRAP=1
sanitizer=${SANITIZER:-address}
all="gguf tokenizer_json passages gguf_pass quantize convert vector_cache"
[ $# -gt 0 ] || set -- $all

tools=$PWD/fuzz/target/tools
export PATH=$tools/bin:$PATH
command -v cargo-fuzz > /dev/null || cargo install --quiet --locked --root "$tools" cargo-fuzz@0.13.2
(cd fuzz && cargo run --quiet --example seeds)
for target in "$@"; do
    cargo fuzz build --sanitizer "$sanitizer" "$target"
done
host=$(rustc -vV | sed -n 's/^host: //p')

# The fuzzer ends without a destructor, so what targets write is removed here.
memory=/dev/shm
[ -d $memory ] || memory=$(mktemp -d)
QEMBED_FUZZ_SCRATCH=$(mktemp -d -p $memory)
export QEMBED_FUZZ_SCRATCH
trap 'rm -rf "$QEMBED_FUZZ_SCRATCH"' EXIT
# Freed memory that is kept from reuse: all that one execution frees, and no more, since caches would be lost with it.
export ASAN_OPTIONS=quarantine_size_mb=8:detect_odr_violation=0:allocator_release_to_os_interval_ms=-1

failed=0
table="| target | executions | a second | corpus | edges reached | found |
|---|--:|--:|--:|--:|---|"
cd fuzz
for target in "$@"; do
    case $target in
        gguf | tokenizer_json | passages) executions=10000000 ;;
        *) executions=100000 ;;
    esac
    executions=${EXECUTIONS:-$executions}
    binary=target/$host/release/$target
    corpus=corpus/$target
    artifacts=artifacts/$target/
    mkdir -p "$corpus" "$artifacts"
    options=(-max_len=4096 -timeout=30 -rss_limit_mb=2048 -malloc_limit_mb=1024 -detect_leaks=0)
    [ ! -e "dictionaries/$target.dict" ] || options+=("-dict=dictionaries/$target.dict")
    folders=("$corpus")
    [ ! -d "seeds/$target" ] || folders+=("seeds/$target")
    log=$artifacts/log
    found=nothing
    if ! "$binary" "${options[@]}" -runs="$executions" -print_final_stats=1 -artifact_prefix="$artifacts" "${folders[@]}" 2> "$log"; then
        failed=1
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        found=${input:-"see $log"}
        tail -n 40 "$log" >&2
        if [ -n "$input" ]; then
            "$binary" "${options[@]}" -minimize_crash=1 -runs=20000 -exact_artifact_path="$input.small" "$input" > "$log.small" 2>&1 || true
            [ ! -e "$input.small" ] || found=$input.small
        fi
    fi
    number() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    reached=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    edges=$(sed -n 's/.*Loaded .*(\([0-9]*\) inline 8-bit counters).*/\1/p' "$log" | tail -n 1)
    files=$(find "$corpus" -type f | wc -l)
    size=$(find "$corpus" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d KiB", sum / 1024 }')
    table+=$'\n'"| $target | $(number number_of_executed_units) | $(number average_exec_per_sec) | $files files, $size | $reached of $edges | $found |"
done
printf '%s\n' "$table"
exit $failed
