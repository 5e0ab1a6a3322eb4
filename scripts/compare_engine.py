#!/usr/bin/env python3
"""What the engine saves: shared prefixes, start-up, memory, long texts; beside llama.cpp.

    python3 scripts/compare_engine.py --gguf 0.6b-Q4_K_M.gguf --llama-embedding PATH --record benches/record

Whole processes, alternating; the time of a process that embeds one short text is taken off where throughput is asked.
Needs Linux (peak resident set by wait4) and `cargo build --release`. Each part can be run alone with --parts.
"""

import argparse
import csv
import datetime
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ROOT / "target" / "release" / "qembed-q"
TASK = "Given a web search query, retrieve relevant passages that answer the query well enough"
WORDS = """river stone light window garden music paper train winter summer bread water mountain city number letter engine
memory vector search query table forest green blue quick small large open close""".split()


def run(command, stdin=None):
    """(seconds, peak resident MB) of a process that must succeed."""
    with open(stdin or os.devnull) as source, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stdin=source, stdout=subprocess.DEVNULL, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            err.seek(0)
            sys.exit(f"{command[0]} exits with {process.returncode}: {err.read()[-500:].decode(errors='replace')}")
    return seconds, usage.ru_maxrss / 1000


class Engines:
    def __init__(self, args, folder):
        self.args, self.folder = args, Path(folder)

    def ours(self, texts, *options):
        file = self.folder / "texts"
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        command = [OURS, "--gguf", self.args.gguf, "--threads", self.args.threads, "--format", "raw", *options]
        return run(command, file)

    def llama(self, texts, tokens, *options):
        """Its best settings: a context and batches no larger than the longest text or 2,048 tokens."""
        file = self.folder / "prompts"
        file.write_text("\n".join(texts), encoding="utf-8")
        size = max(tokens, 512)
        command = [self.args.llama_embedding, "-m", self.args.gguf, "-t", self.args.threads, "-f", file]
        return run([*command, "-c", size, "-b", size, "-ub", size, "--pooling", "last", *options])


def queries(engines):
    """64 queries of about ten tokens under one instruction of about twenty."""
    rng = random.Random(1)
    texts = [" ".join(rng.choice(WORDS) for _ in range(9)) for _ in range(64)]
    prompts = [f"Instruct: {TASK} Query:{text}" for text in texts]  # llama.cpp splits the file at line breaks
    for _ in range(engines.args.rounds):
        for name, call in {
            "shared": lambda n: engines.ours(texts[:n], "--instruct", TASK),
            "not shared": lambda n: engines.ours(texts[:n], "--instruct", TASK, "--no-sharing"),
            "llama.cpp": lambda n: engines.llama(prompts[:n], 2048),
        }.items():
            seconds = call(64)[0] - call(1)[0]
            yield "63 queries", name, "texts/s", 63 / seconds


def start(engines):
    for _ in range(engines.args.rounds):
        for name, call in {
            "qembed-q": lambda: engines.ours(["The capital of China is Beijing."]),
            "llama.cpp -c 512": lambda: engines.llama(["The capital of China is Beijing."], 512),
        }.items():
            seconds, resident = call()
            yield "one short text", name, "seconds", seconds
            yield "one short text", name, "peak resident MB", resident


def long(engines):
    """One text of 512 tokens and one of --long: milliseconds a token, and anonymous memory a token."""
    tokens = engines.args.long
    for _ in range(min(engines.args.rounds, 2)):
        one, resident = engines.ours(["a"])
        for count in (512, tokens):
            # Each word of this text is one token, and each full stop.
            text = " ".join(WORDS[i * 7 % len(WORDS)] for i in range(count - 1))
            seconds, peak = engines.ours([text])
            yield f"one text of {count} tokens", "qembed-q", "ms/token", 1000 * (seconds - one) / count
            yield f"one text of {count} tokens", "qembed-q", "peak resident MB", peak
            yield f"one text of {count} tokens", "qembed-q", "KiB/token over one short text", (peak - resident) * 1e6 / 1024 / count


PARTS = {"queries": queries, "start": start, "long": long}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--llama-embedding", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--long", type=int, default=8192, metavar="TOKENS")
    parser.add_argument("--record", type=Path, metavar="DIR", help="write a table and every sample there")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for part in args.parts:
            for row in PARTS[part](Engines(args, folder)):
                print(*row, file=sys.stderr)
                rows.append(row)
    samples = {}
    for *key, value in rows:
        samples.setdefault(tuple(key), []).append(value)
    lines = ["| what | engine | | median (lowest–highest) |", "|---|---|---|---:|"]
    for (what, engine, unit), values in samples.items():
        lines.append(f"| {what} | {engine} | {unit} | {statistics.median(values):.4g} ({min(values):.4g}–{max(values):.4g}) |")
    table = "\n".join(lines) + "\n"
    print(table)
    if args.record:
        day = datetime.date.today().isoformat()
        text = f"# The engine, {day}\n\n`python3 scripts/compare_engine.py`: {args.gguf.name}, {args.threads} threads, "
        (args.record / f"{day}-engine.md").write_text(text + f"{args.rounds} rounds.\n\n{table}", encoding="utf-8")
        with open(args.record / f"{day}-engine.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["what", "engine", "unit", "value"], *rows])


if __name__ == "__main__":
    main()
