#!/usr/bin/env python3
"""Ours against llama.cpp: tokens per second by instruction set, format and workload, alternating in one run.

    python3 scripts/compare_llama_cpp.py            # everything that has a target: about 25 minutes once all is built
    python3 scripts/compare_llama_cpp.py --quick    # one round of less: about 4 minutes, no record
    python3 scripts/compare_llama_cpp.py --plan amx:Q4_K_M:8x512,1x4096:5 avx2:Q8_0:8x512:3

One command: it installs llama.cpp into a cache folder (the source that PyPI's llama-cpp-python carries, one CPU library per
instruction set), builds ours, writes random-weight 0.6B files, measures, and writes a table and every sample into
benches/record/, after each line of the table anew. Needs pip, cmake, ninja, a C++ compiler (clang-19 if there is one) and
cargo; Linux on x86-64.

Neighbours on a machine move every figure, so a round times both engines, in turn first and second, and the ratio of the
medians is the result. Both are warm: forward passes only. llama.cpp is timed twice: `embed` is what its users get (an
embedding context also multiplies every token by the vocabulary matrix), and what the targets are about; `prefill` is its
bare prompt pass, the hardest figure to beat. It takes eight texts one after another: its batches across texts are no faster
a token at this length. Beside them, products from registers alone are timed (examples/peak.rs): the share of that peak is
0.88 billion operations a token, the weights' products of the 0.6B model, over it.
"""

import argparse
import contextlib
import csv
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Our name of an instruction-set tier -> llama.cpp's library of the same tier, and the flags of /proc/cpuinfo it needs.
TIERS = {
    "avx2": ("haswell", {"avx2", "fma"}),
    "avxvnni": ("alderlake", {"avx_vnni"}),
    "avx512vnni": ("icelake", {"avx512_vnni"}),
    "amx": ("sapphirerapids", {"amx_bf16", "amx_int8"}),
}
# Name -> texts of a batch, tokens of each, passes that make a figure of ours, llama.cpp's repetitions, and whether its
# prefill is timed and each of its figures warmed up, which a text of minutes does without. Its batches are 512 tokens, its
# default; sizes from 32 to 4,096 were no better.
WORKLOADS = {
    "8x512": (8, 512, 1, 1, True),
    "1x32": (1, 32, 8, 5, True),
    "1x4096": (1, 4096, 1, 1, False),
}
FORMATS = ["Q4_K_M", "Q8_0", "Q5_K_M", "Q6_K"]
# tiers:formats:workloads:rounds
PLAN = ["*:Q4_K_M,Q8_0:8x512,1x32:3", "*:Q5_K_M,Q6_K:8x512:2", "avx512vnni,amx:Q4_K_M:1x4096:2"]
QUICK = ["*:Q4_K_M:8x512,1x32:1"]
# The ratios to `embed` and the share of the peak to be reached.
TARGETS = {
    "avx2": {("Q4_K_M", "8x512"): 2.0, ("Q8_0", "8x512"): 3.0, "peak": 0.60},
    "avxvnni": {("Q4_K_M", "8x512"): 3.0, ("Q8_0", "8x512"): 4.5, "peak": 0.50},
    "avx512vnni": {("Q4_K_M", "8x512"): 3.5, ("Q8_0", "8x512"): 6.0, ("Q4_K_M", "1x4096"): 5.0, "peak": 0.45},
    "amx": {("Q4_K_M", "8x512"): 8.0, ("Q8_0", "8x512"): 9.0, ("Q4_K_M", "1x4096"): 12.0, "peak": 0.35},
}
SHORT_TARGET = 2.0  # of 1x32
# Operations of a token, in billions.
COST = 0.88
# llama.cpp's tokens a second, to say beforehand how long it will take.
USUAL = {"avx2": 130, "avxvnni": 140, "avx512vnni": 160, "amx": 230}
PACKAGE = "llama-cpp-python==0.3.36"
ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
# What is built of it; the other comparisons use the last two, and compare_server.py its server.
PROGRAMS = ["llama-bench", "llama-embedding", "llama-quantize"]
LOADED_LIBRARY = re.compile(r"libggml-cpu-\w+\.so")


class Failed(Exception):
    """An engine did not give a figure; the message says why."""


def run(command, **options):
    """Runs a command whose failure ends the comparison; its output goes to stderr."""
    print("+", *map(str, command), file=sys.stderr)
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr, **options)


def install_llama_cpp(cache, programs=PROGRAMS):
    """The folder of llama.cpp's programs and libraries, built there if they are not yet."""
    bin_folder = cache / "build" / "bin"
    # Programs are linked last, when the libraries are there.
    if all((bin_folder / name).exists() for name in programs):
        return bin_folder
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob("llama_cpp_python-*/vendor/llama.cpp")):
        run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE.split("=")[0], PACKAGE, "-d", cache])
        for archive in cache.glob("llama_cpp_python-*.tar.gz"):
            shutil.unpack_archive(archive, cache)
    (source,) = cache.glob("llama_cpp_python-*/vendor/llama.cpp")
    # Of its many libraries the four of our tiers: an hour's build becomes a quarter of one.
    lists = source / "ggml" / "src" / "CMakeLists.txt"
    wanted = "|".join(library for library, _ in TIERS.values())
    variant = re.compile(rf"^( *)(ggml_add_cpu_backend_variant\((?!({wanted})\b))", re.MULTILINE)
    lists.write_text(variant.sub(r"\1# \2", lists.read_text(encoding="utf-8")), encoding="utf-8")
    compiler = ["-DCMAKE_C_COMPILER=clang-19", "-DCMAKE_CXX_COMPILER=clang++-19"] if shutil.which("clang-19") else []
    options = "GGML_BACKEND_DL=ON GGML_CPU_ALL_VARIANTS=ON GGML_NATIVE=OFF BUILD_SHARED_LIBS=ON LLAMA_CURL=OFF"
    options += " LLAMA_OPENSSL=OFF LLAMA_BUILD_TESTS=OFF LLAMA_BUILD_UI=OFF"
    flags = ["-DCMAKE_BUILD_TYPE=Release", *compiler, *(f"-D{option}" for option in options.split())]
    run(["cmake", "-G", "Ninja", "-S", source, "-B", cache / "build", *flags])
    run(["cmake", "--build", cache / "build", "--target", *programs])
    return bin_folder


def build_ours(cache, formats):
    """The folder of our programs, and a random-weight 0.6B file of each format."""
    run(["cargo", "build", "--release", "--example", "speed", "--example", "synth", "--example", "peak"], cwd=ROOT)
    files = {name: cache / f"0.6b-{name}.gguf" for name in formats}
    for name, file in files.items():
        if not file.exists():
            run([TARGET / "examples" / "synth", "--shape", "0.6b", "--type", name, "--out", file.with_suffix(".part")])
            file.with_suffix(".part").rename(file)
    return TARGET / "examples", files


class Ours:
    """Our passes, one for each line sent to a warm process."""

    def __init__(self, program, gguf, tier, threads, workload):
        texts, tokens, passes, *_ = workload
        command = [program, "--gguf", gguf, "--isa", tier, "--threads", threads]
        command += ["--texts", texts, "--tokens", tokens, "--passes", passes]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def speed(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.process.args[0]} ends with {self.process.wait()}")
        return float(line)

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def tie(source, tier, folder, name):
    """Puts one of llama.cpp's programs into a folder, to be run there as ./name: the CPU library of the tier, and the environment.

    It loads the best library that it finds beside its executable, and one named by GGML_BACKEND_PATH only comes second. So
    a copy of the executable lies in a folder that holds no other library.
    """
    library = f"libggml-cpu-{TIERS[tier][0]}.so"
    source, folder = Path(source).resolve(), Path(folder)
    for file in (name, library):
        if not (source / file).is_file():
            raise Failed(f"{source / file} does not exist")
    shutil.copy2(source / name, folder)
    (folder / library).symlink_to(source / library)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(source)}
    environment.pop("GGML_BACKEND_PATH", None)
    return library, environment


class LlamaBench:
    """`llama-bench` tied to one CPU library; the process's memory map is read to see what it really loaded."""

    def __init__(self, source, tier, folder):
        self.folder = Path(folder)
        self.library, self.environment = tie(source, tier, folder, "llama-bench")

    def speeds(self, gguf, workload, threads):
        """{engine: tokens per second, the median of the repetitions}."""
        _, tokens, _, repetitions, whole = WORKLOADS[workload]
        command = ["./llama-bench", "-m", gguf, "-p", tokens, "-n", 0, "-b", 512, "-ub", 512, "-t", threads]
        command += ["-r", repetitions, "-o", "json", "-embd", *(["0,1"] if whole else ["1", "--no-warmup"])]
        with open(self.folder / "out", "w+") as out, open(self.folder / "err", "w+") as err:
            process = subprocess.Popen(
                list(map(str, command)), cwd=self.folder, env=self.environment, stdout=out, stderr=err
            )
            loaded = set()
            while process.poll() is None:
                try:
                    loaded |= set(LOADED_LIBRARY.findall(Path(f"/proc/{process.pid}/maps").read_text()))
                except OSError:
                    pass  # It has just ended.
                time.sleep(0.1)
            out.seek(0)
            err.seek(0)
            if process.returncode != 0:
                raise Failed(f"llama-bench exits with {process.returncode}: {err.read().strip()[-500:]}")
            if loaded != {self.library}:
                raise Failed(f"llama-bench loaded {sorted(loaded)} instead of {self.library}")
            runs = json.load(out)
        return {"embed" if run["embeddings"] else "prefill": statistics.median(run["samples_ts"]) for run in runs}


def available_tiers(cpuinfo):
    """Tiers whose flags all stand in /proc/cpuinfo."""
    flags = set(re.search(r"^flags\s*: (.*)$", cpuinfo, re.MULTILINE).group(1).split())
    return [tier for tier, (_, needed) in TIERS.items() if needed <= flags]


def cells(plan, tiers):
    """(tier, format, workload, rounds) of what is to be measured, tier by tier."""
    parts = [part.split(":") for part in plan]
    for tier in tiers:
        for of, formats, workloads, rounds in parts:
            if of == "*" or tier in of.split(","):
                yield from ((tier, name, load, int(rounds)) for name in formats.split(",") for load in workloads.split(","))


def seconds(tier, _, workload, rounds):
    """About how long a cell takes."""
    texts, tokens, passes, repetitions, whole = WORKLOADS[workload]
    theirs = (repetitions + 1) * 2 if whole else 1
    return 5 + rounds * (6 + (theirs * tokens + texts * tokens * passes / 3) / USUAL[tier])


def measure(llama, programs, gguf, tier, threads, workload, rounds):
    """Samples of a cell: {engine: [tokens/s]}, and [billions of operations a second] as "peak"."""
    samples = {}
    ours = Ours(programs / "speed", gguf, tier, threads, WORKLOADS[workload])
    for index in range(rounds):
        figures = {"ours": ours.speed()} if index % 2 == 0 else {}
        figures |= llama.speeds(gguf, workload, threads)
        figures |= {"ours": ours.speed()} if index % 2 == 1 else {}
        figures["peak"] = float(subprocess.check_output([programs / "peak", tier, str(threads)]))
        for engine, figure in figures.items():
            samples.setdefault(engine, []).append(figure)
        print(f"{tier} {gguf.name} {workload} {index + 1}/{rounds}: {figures}", file=sys.stderr)
    ours.close()
    return samples


def spread(figures):
    return f"{statistics.median(figures):.0f} ({min(figures):.0f}–{max(figures):.0f})" if figures else "–"


def verdict(figure, target):
    """A target and whether it is met."""
    return f"{target:g} {'met' if figure >= target else '**short**'}" if target else "–"


def table(samples):
    """Markdown rows of {(tier, format, workload): {engine: [figure]}}; ratios are of our median to theirs."""
    lines = ["| tier | format | workload | qembed-q | of its Q4_K_M | llama.cpp embed | prefill | ours / embed | target |"]
    lines[0] += " ours / prefill | share of peak | target | peak, GOP/s |"
    lines.append("|---|---|---|" + "---:|" * 10)
    for (tier, name, workload), engines in samples.items():
        ours, embed, prefill, peak = (engines.get(engine, []) for engine in ("ours", "embed", "prefill", "peak"))
        middle = statistics.median(ours)
        basis = samples.get((tier, "Q4_K_M", workload), {}).get("ours")
        ratio = middle / statistics.median(embed)
        target = SHORT_TARGET if workload == "1x32" else TARGETS[tier].get((name, workload))
        share = COST * middle / statistics.median(peak)
        row = [tier, name, workload, spread(ours), f"{middle / statistics.median(basis):.2f}" if basis else "–"]
        row += [spread(embed), spread(prefill), f"{ratio:.2f}", verdict(ratio, target)]
        row += [f"{middle / statistics.median(prefill):.2f}" if prefill else "–", f"{share:.0%}"]
        row += [verdict(share, TARGETS[tier]["peak"] if workload == "8x512" else None), spread(peak)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def write_record(folder, name, text, samples, key):
    """The text as Markdown, and every sample of {key: {engine: [figure]}} as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*key, "engine", "round", "figure"])
        for cell, engines in samples.items():
            for engine, figures in engines.items():
                writer.writerows([*cell, engine, i, f"{figure:.2f}"] for i, figure in enumerate(figures, start=1))


def machine(cpuinfo, threads):
    """What it runs on, in words."""
    processor = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE).group(1)
    return f"{processor}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before, {threads} threads"


def default_cache(name):
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "qembed-q" / name


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = "TIERS:FORMATS:WORKLOADS:ROUNDS"
    parser.add_argument("--plan", nargs="+", default=PLAN, metavar=parts, help="default: %(default)s")
    parser.add_argument("--quick", action="store_const", dest="plan", const=QUICK, help="--plan %(const)s, no record")
    parser.add_argument("--tiers", nargs="+", choices=TIERS, help="default: all of this machine")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--cache", type=Path, default=default_cache("llama.cpp"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--llama-bin", type=Path, metavar="DIR", help="an existing build with one library per tier")
    parser.add_argument("--record", type=Path, default=ROOT / "benches" / "record", metavar="DIR")
    parser.add_argument("--name", default=f"{datetime.date.today()}-llama.cpp", help="of the record; default: %(default)s")
    parser.add_argument("--no-record", action="store_true", help="only print the table")
    args = parser.parse_args()

    cpuinfo = Path("/proc/cpuinfo").read_text()
    todo = list(cells(args.plan, args.tiers or available_tiers(cpuinfo)))
    print(f"{len(todo)} cells, about {sum(seconds(*cell) for cell in todo) / 60:.0f} minutes", file=sys.stderr)
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
        binaries = args.llama_bin or install_llama_cpp(args.cache)
        programs, files = build_ours(args.cache, {name for _, name, *_ in todo})
        head = f"# Against llama.cpp ({PACKAGE}), {datetime.date.today()}\n\n`python3 scripts/compare_llama_cpp.py`: "
        head += f"{machine(cpuinfo, args.threads)}; 0.6B shapes, random weights. Tokens a second: median (lowest–highest) of "
        head += "alternating rounds.\n\n"
        samples = {}
        for tier, name, workload, rounds in todo:
            with tempfile.TemporaryDirectory() as folder:
                llama = LlamaBench(binaries, tier, folder)
                figures = measure(llama, programs, files[name], tier, args.threads, workload, rounds)
            samples[tier, name, workload] = figures
            if not args.no_record and args.plan != QUICK:
                key = ["tier", "format", "workload"]
                write_record(args.record, args.name, head + table(samples), samples, key)
        print(head + table(samples))
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"compare_llama_cpp.py: {error}")


if __name__ == "__main__":
    main()
