#!/usr/bin/env python3
"""Ours against llama.cpp: speed of one embedded text, both at the same instruction set, alternating in one run.

Neighbours on a machine move every figure, so a round times both engines, in turn first and second, and the ratio of
the medians is the result. llama.cpp is timed twice: `embed` is what its users get (an embedding context also
multiplies every token by the vocabulary matrix), `prefill` is its bare prompt pass, the hardest figure to beat.
llama.cpp is warmed up before it is timed; our command is one pass of a fresh process, page faults included.

`--llama-bin` is the `bin` folder of a llama.cpp build that has one CPU library per instruction set:

    cmake -S llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \\
          -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DGGML_NATIVE=OFF
    cmake --build build --target llama-bench

    compare_llama_cpp.py --llama-bin build/bin --gguf model.gguf --ours target/release/qembed-q --tier avx2

Needs only Python's standard library, on Linux.
"""

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Our name of an instruction-set tier -> llama.cpp's library of the same tier.
TIERS = {"avx2": "haswell", "avx512vnni": "icelake"}
OURS_COMMAND = "{ours} --gguf {gguf} --threads {threads} --isa {tier} --verbose {text}"
OURS_TOKENS = re.compile(r"([0-9]+) tokens\b")
OURS_SPEED = re.compile(r"([0-9]+(?:\.[0-9]+)?) *tokens/s")
LOADED_LIBRARY = re.compile(r"libggml-cpu-\w+\.so")


class Failed(Exception):
    """An engine did not give a figure; the message says why."""


class LlamaBench:
    """`llama-bench` tied to one CPU library.

    It loads the best library that it finds beside its executable, and one named by GGML_BACKEND_PATH only comes
    second. So a copy of the executable runs in a folder that holds no other library, and the process's memory map
    is read to see what it really loaded.
    """

    def __init__(self, source, tier, folder):
        self.library = f"libggml-cpu-{TIERS[tier]}.so"
        self.folder = Path(folder)
        source = Path(source).resolve()
        for name in ("llama-bench", self.library):
            if not (source / name).is_file():
                raise Failed(f"{source / name} does not exist")
        shutil.copy2(source / "llama-bench", self.folder)
        (self.folder / self.library).symlink_to(source / self.library)
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(source)}
        self.environment.pop("GGML_BACKEND_PATH", None)

    def speeds(self, gguf, tokens, threads, repetitions):
        """Tokens per second as (embed, prefill): for each the median of the repetitions, after a warm-up pass."""
        command = ["./llama-bench", "-m", gguf, "-p", tokens, "-n", 0, "-b", tokens, "-ub", tokens]
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


def our_speed(command, tokens):
    """Tokens per second that our command reports: the last `N tokens/s` on its stderr.

    If it also says how many tokens it saw (`N tokens`), it must be as many as llama.cpp is given.
    """
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed(f"{command[0]} exits with {done.returncode}: {done.stderr.strip()[-500:]}")
    speeds = OURS_SPEED.findall(done.stderr)
    if not speeds:
        raise Failed(f"{command[0]} printed no `tokens/s` on stderr: {done.stderr.strip()[-500:]}")
    seen = set(OURS_TOKENS.findall(OURS_SPEED.sub("", done.stderr)))
    if seen - {str(tokens)}:
        raise Failed(f"{command[0]} saw {', '.join(seen)} tokens, not {tokens}: the file's tokenizer is not Qwen's?")
    return float(speeds[-1])


def text_of(tokens):
    """A text that a Qwen tokenizer cuts into `tokens` tokens, the end-of-text token included."""
    return "the" + " the" * (tokens - 2)


def summary(samples):
    """(name, median, lowest, highest, ratio) of each engine; the ratio is our median over its median."""
    ours = statistics.median(samples["qembed-q"])
    for name, values in samples.items():
        median = statistics.median(values)
        yield name, median, min(values), max(values), ours / median


def processor():
    """The processor's name and the number of logical CPUs."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} CPUs"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama-bin", required=True, metavar="DIR", help="holds llama-bench and libggml-cpu-*.so")
    parser.add_argument("--gguf", required=True, metavar="FILE", type=Path)
    parser.add_argument("--ours", required=True, metavar="FILE", help="our executable")
    parser.add_argument("--tier", required=True, choices=TIERS)
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--tokens", type=int, default=512, metavar="N", help="length of the text")
    parser.add_argument("--repetitions", type=int, default=2, metavar="N", help="of llama-bench within a round")
    parser.add_argument("--ours-cmd", default=OURS_COMMAND, metavar="TEMPLATE", help="default: %(default)s")
    parser.add_argument("--csv", metavar="FILE", help="every sample, one a line")
    args = parser.parse_args()

    gguf = args.gguf.resolve()
    values = {"ours": args.ours, "gguf": gguf, "threads": args.threads, "tier": args.tier, "text": text_of(args.tokens)}
    ours = [word.format(**values) for word in shlex.split(args.ours_cmd)]
    samples = {"qembed-q": [], "llama.cpp embed": [], "llama.cpp prefill": []}
    load_before = os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory() as folder:
            llama = LlamaBench(args.llama_bin, args.tier, folder)
            for index in range(args.rounds):
                if index % 2 == 0:
                    samples["qembed-q"].append(our_speed(ours, args.tokens))
                embed, prefill = llama.speeds(gguf, args.tokens, args.threads, args.repetitions)
                samples["llama.cpp embed"].append(embed)
                samples["llama.cpp prefill"].append(prefill)
                if index % 2 == 1:
                    samples["qembed-q"].append(our_speed(ours, args.tokens))
                last = ", ".join(f"{name} {figures[-1]:.1f}" for name, figures in samples.items())
                print(f"round {index + 1}/{args.rounds}: {last}", file=sys.stderr)
    except (Failed, OSError) as error:
        sys.exit(f"compare_llama_cpp.py: {error}")

    print(f"{processor()}, load {load_before:.1f} before; {gguf.name}, {gguf.stat().st_size / 1e6:.0f} MB;")
    print(f"{args.tier}, {args.threads} threads, {args.tokens} tokens, {args.rounds} rounds\n")
    print("| Engine | tokens/s, median | lowest | highest | ours / its |\n|---|---:|---:|---:|---:|")
    for name, median, lowest, highest, ratio in summary(samples):
        print(f"| {name} | {median:.1f} | {lowest:.1f} | {highest:.1f} | {ratio:.2f} |")
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["engine", "tier", "threads", "tokens", "round", "tokens_per_s"])
            for name, figures in samples.items():
                for index, figure in enumerate(figures, start=1):
                    writer.writerow([name, args.tier, args.threads, args.tokens, index, f"{figure:.2f}"])


if __name__ == "__main__":
    main()
