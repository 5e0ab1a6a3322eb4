#!/usr/bin/env python3
"""Ours against llama.cpp: tokens per second by format, workload and instruction set, alternating in one run.

    python3 scripts/compare_llama_cpp.py

One command: it installs llama.cpp into a cache folder (the source that PyPI's llama-cpp-python carries, one CPU library per
instruction set), builds ours, writes random-weight 0.6B files, measures, and writes a table and every sample into
benches/record/. Needs pip, cmake, ninja, a C++ compiler (clang-19 if there is one) and cargo; Linux on x86-64.

Neighbours on a machine move every figure, so a round times both engines, in turn first and second, and the ratio of the
medians is the result. Both are warm: forward passes only. llama.cpp is timed twice: `embed` is what its users get (an
embedding context also multiplies every token by the vocabulary matrix), `prefill` is its bare prompt pass, the hardest
figure to beat. It takes eight texts one after another: its batches across texts are no faster a token at this length.
"""

import argparse
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
# Name -> texts of a batch, tokens of each, passes that make a figure, llama.cpp's sizes of a batch to try.
WORKLOADS = {
    "8x512": (8, 512, 1, (512,)),
    "1x32": (1, 32, 8, (32, 512)),
    "1x4096": (1, 4096, 1, (512, 4096)),
}
FORMATS = ["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"]
PACKAGE = "llama-cpp-python==0.3.36"
ROOT = Path(__file__).resolve().parent.parent
LOADED_LIBRARY = re.compile(r"libggml-cpu-\w+\.so")


class Failed(Exception):
    """An engine did not give a figure; the message says why."""


def run(command, **options):
    """Runs a command whose failure ends the comparison; its output goes to stderr."""
    print("+", *map(str, command), file=sys.stderr)
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr, **options)


def install_llama_cpp(cache):
    """The folder of llama.cpp's programs and libraries, built there if they are not yet."""
    bin_folder = cache / "build" / "bin"
    if (bin_folder / "complete").exists():
        return bin_folder
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob("llama_cpp_python-*/vendor/llama.cpp")):
        run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", PACKAGE, "-d", cache])
        for archive in cache.glob("llama_cpp_python-*.tar.gz"):
            shutil.unpack_archive(archive, cache)
    (source,) = cache.glob("llama_cpp_python-*/vendor/llama.cpp")
    compiler = ["-DCMAKE_C_COMPILER=clang-19", "-DCMAKE_CXX_COMPILER=clang++-19"] if shutil.which("clang-19") else []
    options = "GGML_BACKEND_DL=ON GGML_CPU_ALL_VARIANTS=ON GGML_NATIVE=OFF BUILD_SHARED_LIBS=ON LLAMA_CURL=OFF"
    options += " LLAMA_OPENSSL=OFF LLAMA_BUILD_TESTS=OFF LLAMA_BUILD_SERVER=OFF LLAMA_BUILD_UI=OFF"
    flags = ["-DCMAKE_BUILD_TYPE=Release", *compiler, *(f"-D{option}" for option in options.split())]
    run(["cmake", "-G", "Ninja", "-S", source, "-B", cache / "build", *flags])
    run(["cmake", "--build", cache / "build", "--target", "llama-bench"])
    (bin_folder / "complete").touch()
    return bin_folder


def build_ours(cache, formats):
    """Our program, and a random-weight 0.6B file of each format."""
    run(["cargo", "build", "--release", "--example", "speed", "--example", "synth"], cwd=ROOT)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples"
    files = {name: cache / f"0.6b-{name}.gguf" for name in formats}
    for name, file in files.items():
        if not file.exists():
            run([target / "synth", "--shape", "0.6b", "--type", name, "--out", file])
    return target / "speed", files


class Ours:
    """Our passes, one for each line sent to a warm process."""

    def __init__(self, program, gguf, tier, threads, workload):
        texts, tokens, passes, _ = WORKLOADS[workload]
        command = [program, "--gguf", gguf, "--isa", tier, "--threads", threads]
        command += ["--texts", texts, "--tokens", tokens, "--passes", passes]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def speed(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"our program ends with {self.process.wait()}")
        return float(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class LlamaBench:
    """`llama-bench` tied to one CPU library.

    It loads the best library that it finds beside its executable, and one named by GGML_BACKEND_PATH only comes
    second. So a copy of the executable runs in a folder that holds no other library, and the process's memory map
    is read to see what it really loaded.
    """

    def __init__(self, source, tier, folder):
        self.library = f"libggml-cpu-{TIERS[tier][0]}.so"
        self.folder = Path(folder)
        source = Path(source).resolve()
        for name in ("llama-bench", self.library):
            if not (source / name).is_file():
                raise Failed(f"{source / name} does not exist")
        shutil.copy2(source / "llama-bench", self.folder)
        (self.folder / self.library).symlink_to(source / self.library)
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(source)}
        self.environment.pop("GGML_BACKEND_PATH", None)

    def speeds(self, gguf, tokens, threads, batch, repetitions):
        """Tokens per second as (embed, prefill): for each the median of the repetitions, after a warm-up pass."""
        command = ["./llama-bench", "-m", gguf, "-p", tokens, "-n", 0, "-b", batch, "-ub", batch]
        command += ["-t", threads, "-embd", "0,1", "-r", repetitions, "-o", "json"]
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
            runs = {run["embeddings"]: statistics.median(run["samples_ts"]) for run in json.load(out)}
        return runs[True], runs[False]


def available_tiers(cpuinfo):
    """Tiers whose flags all stand in /proc/cpuinfo."""
    flags = set(re.search(r"^flags\s*: (.*)$", cpuinfo, re.MULTILINE).group(1).split())
    return [tier for tier, (_, needed) in TIERS.items() if needed <= flags]


def table(samples):
    """Markdown rows of {(format, workload): {engine: [tokens/s]}}; ratios are of our median to theirs."""
    lines = ["| format | workload | qembed-q | llama.cpp embed | prefill | ours / embed | ours / prefill |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for (name, workload), engines in samples.items():
        ours, embed, prefill = (engines[engine] for engine in ("ours", "embed", "prefill"))
        cells = [f"{statistics.median(x):.0f} ({min(x):.0f}–{max(x):.0f})" for x in (ours, embed, prefill)]
        ratios = [f"{statistics.median(ours) / statistics.median(x):.2f}" for x in (embed, prefill)]
        lines.append(f"| {name} | {workload} | {' | '.join(cells + ratios)} |")
    return "\n".join(lines) + "\n"


def measure(llama, program, gguf, tier, threads, workload, rounds):
    """Samples of one format and workload: {engine: [tokens/s]}."""
    _, tokens, _, batches = WORKLOADS[workload]
    repetitions = 5 if tokens < 512 else 1
    # Its better size of a batch, found once.
    batch = max(batches, key=lambda size: llama.speeds(gguf, tokens, threads, size, 1)[0] if len(batches) > 1 else 0)
    samples = {"ours": [], "embed": [], "prefill": []}
    ours = Ours(program, gguf, tier, threads, workload)
    for index in range(rounds):
        if index % 2 == 0:
            samples["ours"].append(ours.speed())
        embed, prefill = llama.speeds(gguf, tokens, threads, batch, repetitions)
        samples["embed"].append(embed)
        samples["prefill"].append(prefill)
        if index % 2 == 1:
            samples["ours"].append(ours.speed())
        last = ", ".join(f"{name} {figures[-1]:.1f}" for name, figures in samples.items())
        print(f"{gguf.name} {tier} {workload} {index + 1}/{rounds}: {last}", file=sys.stderr)
    ours.close()
    return samples


def main():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "qembed-q" / "llama.cpp"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=Path, default=cache, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--llama-bin", type=Path, metavar="DIR", help="an existing build with one library per tier")
    parser.add_argument("--tiers", nargs="+", choices=TIERS, help="default: all of this machine")
    parser.add_argument("--formats", nargs="+", default=FORMATS, metavar="TYPE")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--record", type=Path, default=ROOT / "benches" / "record", metavar="DIR")
    args = parser.parse_args()

    cpuinfo = Path("/proc/cpuinfo").read_text()
    tiers = args.tiers or available_tiers(cpuinfo)
    processor = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE).group(1)
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
        binaries = args.llama_bin or install_llama_cpp(args.cache)
        program, files = build_ours(args.cache, args.formats)
        for tier in tiers:
            load = os.getloadavg()[0]
            with tempfile.TemporaryDirectory() as folder:
                llama = LlamaBench(binaries, tier, folder)
                samples = {
                    (name, workload): measure(llama, program, files[name], tier, args.threads, workload, args.rounds)
                    for name in args.formats
                    for workload in args.workloads
                }
            day = datetime.date.today().isoformat()
            text = f"# {tier} against llama.cpp ({PACKAGE}), {day}\n\n`python3 scripts/compare_llama_cpp.py`: "
            text += f"{processor}, {os.cpu_count()} CPUs, load {load:.1f} before, {args.threads} threads, {args.rounds} "
            text += "alternating rounds; 0.6B shapes, random weights. Tokens a second: median (lowest–highest).\n\n"
            text += table(samples)
            print(text)
            args.record.mkdir(parents=True, exist_ok=True)
            (args.record / f"{day}-llama.cpp-{tier}.md").write_text(text, encoding="utf-8")
            with open(args.record / f"{day}-llama.cpp-{tier}.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["tier", "format", "workload", "engine", "round", "tokens_per_s"])
                for (name, workload), engines in samples.items():
                    for engine, figures in engines.items():
                        for index, figure in enumerate(figures, start=1):
                            writer.writerow([tier, name, workload, engine, index, f"{figure:.2f}"])
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"compare_llama_cpp.py: {error}")


if __name__ == "__main__":
    main()
