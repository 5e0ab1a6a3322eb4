#!/usr/bin/env bash
# Runs the fuzz targets (fuzz/) and prints a table of what was run and found:
#
#   scripts/fuzz.sh [TARGET...]      all of them, unless named
#   EXECUTIONS=1000 ...              of each target; by default ten million of a parser in memory, a million requests to a
#                                    server, a hundred thousand of what writes files or runs a model
#   SANITIZER=none ...               without AddressSanitizer, which finds what unsafe code does wrong and takes twice the time
#   NICE=5 ...                       with more of a busy machine than what others leave (19)
#
# Needs Linux, Rust and a C++ compiler; installs cargo-fuzz in fuzz/target. The corpus stays in fuzz/corpus and is where the next run goes
# on from. An input that fails is made smaller and kept in fuzz/artifacts; the exit status is then 1.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
renice -n "${NICE:-19}" $$ > /dev/null
[ $# -gt 0 ] || set -- gguf tokenizer_json passages gguf_pass quantize convert vector_cache requests

export PATH=$PWD/target/tools/bin:$PATH
command -v cargo-fuzz > /dev/null || cargo install --quiet --locked --root target/tools cargo-fuzz@0.13.2
# The flags of sanitizers are not stable; no other toolchain than the one at hand is needed for them.
for target in "$@"; do
    RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer "${SANITIZER:-address}" "$target"
done
cargo run --quiet --example seeds

# The fuzzer ends without a destructor, so what targets write is removed here.
memory=/dev/shm
[ -d $memory ] || memory=${TMPDIR:-/tmp}
QEMBED_FUZZ_SCRATCH=$(mktemp -d -p "$memory")
export QEMBED_FUZZ_SCRATCH
trap 'rm -rf "$QEMBED_FUZZ_SCRATCH"' EXIT
cargo test --quiet --lib

# Freed memory is kept from reuse for as long as an execution lasts, not much longer: the caches would be lost with it.
export ASAN_OPTIONS=quarantine_size_mb=8:malloc_context_size=2:detect_stack_use_after_return=0:allocator_release_to_os_interval_ms=-1
options=(-timeout=300 -report_slow_units=120 -rss_limit_mb=2048 -malloc_limit_mb=1024 -detect_leaks=0)
host=$(rustc -vV | sed -n 's/^host: //p')
failed=0
table='| target | executions | a second | corpus | edges reached | found |
|---|--:|--:|--:|--:|---|'
for target in "$@"; do
    case $target in
        gguf) executions=10000000 of=(-max_len=1024) ;;
        tokenizer_json | passages) executions=10000000 of=(-max_len=512) ;;
        requests) executions=1000000 of=(-max_len=512) ;;
        # These read their input as a list of changes, a few of which are enough, and from the start.
        gguf_pass | quantize) executions=100000 of=(-max_len=128 -len_control=0) ;;
        *) executions=100000 of=(-max_len=256 -len_control=0) ;;
    esac
    [ ! -e "dictionaries/$target.dict" ] || of+=("-dict=dictionaries/$target.dict")
    binary=target/$host/release/$target
    corpus=corpus/$target
    artifacts=artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    folders=("$corpus")
    [ ! -d "seeds/$target" ] || folders+=("seeds/$target")
    log=$artifacts/log
    found=nothing
    if ! "$binary" "${options[@]}" "${of[@]}" -runs="${EXECUTIONS:-$executions}" -print_final_stats=1 \
        -artifact_prefix="$artifacts/" "${folders[@]}" 2> "$log"; then
        failed=1
        tail -n 40 "$log" >&2
        found="see $log"
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        if [ -n "$input" ]; then
            found=$input
            "$binary" "${options[@]}" -minimize_crash=1 -runs=20000 -exact_artifact_path="$input.small" "$input" > "$log.small" 2>&1 || true
            [ ! -e "$input.small" ] || found=$input.small
        fi
    fi
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    edges=$(sed -n 's/.*Loaded .*(\([0-9]*\) inline 8-bit counters).*/\1/p' "$log")
    reached=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    size=$(find "$corpus" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d inputs, %d KiB", NR, sum / 1024 }')
    table+=$'\n'"| $target | $(stat number_of_executed_units) | $(stat average_exec_per_sec) | $size | $reached of $edges | $found |"
done
printf '%s\n' "$table"
exit $failed
