#!/usr/bin/env python3
"""What the engine saves: shared prefixes, start-up, memory, long and mixed texts; beside llama.cpp.

    python3 scripts/compare_engine.py                                      # everything, hours on a processor without AMX
    python3 scripts/compare_engine.py --parts queries start resident --stop-after 60
    python3 scripts/compare_engine.py --parts mixed --mixed-longest 200    # 10,000 texts of 5 to 200 tokens

Whole processes, alternating; the time of a process that embeds one short text is taken off where throughput is asked.
Needs Linux and what compare_llama_cpp.py needs; llama.cpp and the model files (Qwen's vocabulary is in llama.cpp's source)
are made in its cache folder. Each part can be run alone with --parts and says beforehand how long it will take.
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
from typing import NamedTuple

from compare_llama_cpp import ROOT, TARGET, default_cache, install_llama_cpp, machine
from compare_llama_cpp import run as must_run

TASK = "Given a web search query, retrieve relevant passages that answer the query well enough"
WORDS = """river stone light window garden music paper train winter summer bread water mountain city number letter engine
memory vector search query table forest green blue quick small large open close""".split()


# How many times the time of the 0.6B model a token of the 4B model takes.
LARGER = 8.3
SHORT = "The capital of China is Beijing."


class Process(NamedTuple):
    """What a process took."""

    seconds: float
    resident: float  # MB at most, file mapping included
    anonymous: float  # MB at most, seen every 20 ms
    stopped: bool  # before its end, by us


def run(command, stdin=None, limit=None):
    """Runs a process that must succeed or reach `limit` seconds."""
    with open(stdin or os.devnull) as source, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stdin=source, stdout=subprocess.DEVNULL, stderr=err)
        anonymous, stopped, done = 0, False, 0
        while not done:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            elapsed = time.perf_counter() - start
            if not done and limit and elapsed > limit and not stopped:
                stopped = True
                process.kill()
            if not done:
                anonymous = max(anonymous, anonymous_bytes(process.pid))
                time.sleep(0.002 if elapsed < 1 else 0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0 and not stopped:
            err.seek(0)
            sys.exit(f"{command[0]} exits with {process.returncode}: {err.read()[-500:].decode(errors='replace')}")
    return Process(elapsed, usage.ru_maxrss * 1024 / 1e6, anonymous / 1e6, stopped)


def anonymous_bytes(pid):
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
    except OSError:
        return 0


def text_of(tokens, seed):
    """A text of so many tokens, the end included: each of its words is one."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(tokens - 1))


class Engines:
    def __init__(self, args, llama, files, folder):
        self.args, self.files, self.folder = args, files, Path(folder)
        self.llama_embedding = llama / "llama-embedding"

    def ours(self, texts, *options, shape="0.6b"):
        file = self.folder / "texts"
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        command = [TARGET / "qembed-q", "--gguf", self.files[shape], "--threads", self.args.threads, "--format", "raw"]
        return run([*command, *options], file)

    def llama(self, texts, context, shape="0.6b", limit=None):
        """Its best settings: a context that just holds the longest text or 2,048 tokens of short ones."""
        file = self.folder / "prompts"
        file.write_text("\n".join(texts), encoding="utf-8")
        batch = min(context, 2048)
        command = [self.llama_embedding, "-m", self.files[shape], "-t", self.args.threads, "-f", file, "--pooling", "last"]
        return run([*command, "-c", context, "-b", context, "-ub", batch], limit=limit)

    def speed(self):
        """Our tokens a second at 512, roughly, for estimates."""
        if not hasattr(self, "measured"):
            self.measured = 2048 / self.ours([text_of(512, seed) for seed in range(4)]).seconds
        return self.measured


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
            yield "63 queries", name, "texts/s", 63 / (call(64).seconds - call(1).seconds)


def start(engines):
    for _ in range(engines.args.rounds):
        for name, call in {
            "qembed-q": lambda: engines.ours([SHORT]),
            "llama.cpp -c 512": lambda: engines.llama([SHORT], 512),
        }.items():
            process = call()
            yield "one short text", name, "seconds", process.seconds
            yield "one short text", name, "peak resident MB", process.resident


def resident(engines):
    """Peaks of both models, once each. llama.cpp allocates before it computes: its peak is there soon."""
    limit = engines.args.stop_after
    for shape in engines.args.shapes:
        for what, texts, context in [
            ("one short text", [SHORT], 512),
            # A few more than we count: llama.cpp may cut a first word in two.
            ("64 x 512 tokens", [text_of(512, seed) for seed in range(64)], 520),
            ("one text of 32,768 tokens", [text_of(32768, 0)], 32776),
        ]:
            ours = engines.ours(texts, shape=shape)
            theirs = engines.llama(texts, context, shape=shape, limit=limit)
            for name, process in (("qembed-q", ours), ("llama.cpp", theirs)):
                what_of = f"{shape} Q4_K_M, {what}"
                yield what_of, name, "peak resident MB", process.resident
                yield what_of, name, "of which anonymous, MB", process.anonymous
                yield what_of, name, f"seconds{', stopped then' if process.stopped else ''}", process.seconds


def mixed(engines):
    """--mixed texts of 5 to --mixed-longest tokens, a tenth of them, and equal ones of their mean length."""
    args, rng = engines.args, random.Random(2)
    lengths = [rng.randint(5, args.mixed_longest) for _ in range(args.mixed)]
    few = args.mixed // 10
    mean = round(statistics.mean(lengths))
    short = engines.ours([SHORT]).seconds
    for what, sizes in {
        f"{few} texts of {mean} tokens": [mean] * few,
        f"{few} texts of 5 to {args.mixed_longest} tokens": lengths[:few],
        f"{args.mixed} texts of 5 to {args.mixed_longest} tokens": lengths,
    }.items():
        process = engines.ours([text_of(size, seed) for seed, size in enumerate(sizes)])
        yield what, "qembed-q", "tokens/s", sum(sizes) / (process.seconds - short)
        yield what, "qembed-q", "peak anonymous MB", process.anonymous
        yield what, "qembed-q", "peak resident MB", process.resident


def long(engines):
    """Texts of 512 tokens, as many as 8,192 hold, and one of each --long: time a token, and anonymous memory a token."""
    for _ in range(min(engines.args.rounds, 2)):
        one = engines.ours([SHORT])
        for count, texts in [(512, 16), *((count, 1) for count in engines.args.long)]:
            process = engines.ours([text_of(count, seed) for seed in range(texts)])
            what = f"{texts} x {count} tokens"
            yield what, "qembed-q", "ms/token", 1000 * (process.seconds - one.seconds) / (count * texts)
            yield what, "qembed-q", "peak resident MB", process.resident
            if texts == 1:
                more = (process.anonymous - one.anonymous) * 1e6 / 1024
                yield what, "qembed-q", "anonymous KiB/token over one short text", more / count


# Part -> about how many seconds it takes at so many of our tokens a second.
PARTS = {
    queries: lambda args, speed: args.rounds * (10 + 5 * 2000 / speed),
    start: lambda args, speed: args.rounds * 3,
    # 32,768 tokens of one text take about four times as long as those of 64.
    resident: lambda args, speed: sum(
        3 * args.stop_after + (1 if shape == "0.6b" else LARGER) * 5 * 32768 / speed for shape in args.shapes
    ),
    mixed: lambda args, speed: 1.2 * args.mixed * (5 + args.mixed_longest) / 2 / speed,
    long: lambda args, speed: min(args.rounds, 2) * sum(count * (1 + count / 10000) / speed for count in [8192, *args.long]),
}


def word_models(cache, shapes):
    """{shape: model file} of random weights with Qwen's vocabulary, which is in llama.cpp's source."""
    (vocabulary,) = cache.glob("llama_cpp_python-*/vendor/llama.cpp/models/ggml-vocab-qwen2.gguf")
    files = {shape: cache / f"{shape}-words-Q4_K_M.gguf" for shape in shapes}
    for shape, file in files.items():
        if not file.exists():
            part = file.with_suffix(".part")
            synth = [TARGET / "examples" / "synth", "--shape", shape, "--type", "Q4_K_M"]
            must_run([*synth, "--vocab", vocabulary, "--out", part])
            part.rename(file)
    return files


def prepare(args):
    """The folder of llama.cpp's programs, and {shape: model file}."""
    must_run(["cargo", "build", "--release", "--bin", "qembed-q", "--example", "synth"], cwd=ROOT)
    llama = install_llama_cpp(args.cache)
    shapes = args.shapes if resident in args.parts else ["0.6b"]
    return llama, word_models(args.cache, {"0.6b", *shapes})


def main():
    names = {part.__name__: part for part in PARTS}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=names, default=list(names))
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--shapes", nargs="+", choices=["0.6b", "4b"], default=["0.6b", "4b"], help="of the part resident")
    parser.add_argument("--stop-after", type=float, default=120, metavar="SECONDS", help="of llama.cpp in that part")
    parser.add_argument("--mixed", type=int, default=10000, metavar="TEXTS")
    parser.add_argument("--mixed-longest", type=int, default=900, metavar="TOKENS")
    parser.add_argument("--long", type=int, nargs="+", default=[8192, 32768], metavar="TOKENS")
    parser.add_argument("--cache", type=Path, default=default_cache("llama.cpp"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--record", type=Path, default=ROOT / "benches" / "record", metavar="DIR")
    parser.add_argument("--no-record", action="store_true", help="only print the table")
    args = parser.parse_args()
    args.parts = [names[name] for name in args.parts]
    llama, files = prepare(args)
    day = datetime.date.today().isoformat()
    head = f"# The engine, {day}\n\n`python3 scripts/compare_engine.py {' '.join(sys.argv[1:])}`: "
    head += f"{machine(Path('/proc/cpuinfo').read_text(), args.threads)}; random weights, Q4_K_M.\n\n"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        engines = Engines(args, llama, files, folder)
        for part in args.parts:
            minutes = PARTS[part](args, engines.speed()) / 60
            print(f"{part.__name__}: about {minutes:.1f} minutes", file=sys.stderr)
            for row in part(engines):
                print(*row, file=sys.stderr)
                rows.append(row)
            if not args.no_record:
                # A run of some parts leaves the record of another in place.
                done = [] if len(args.parts) == len(PARTS) else [part.__name__ for part in args.parts]
                write(args.record / "-".join([day, "engine", *done]), head, rows)
    print(head + table(rows))


def table(rows):
    samples = {}
    for *key, value in rows:
        samples.setdefault(tuple(key), []).append(value)
    lines = ["| what | engine | | median (lowest–highest) |", "|---|---|---|---:|"]
    for (what, engine, unit), values in samples.items():
        spread = f"{statistics.median(values):.4g} ({min(values):.4g}–{max(values):.4g})"
        lines.append(f"| {what} | {engine} | {unit} | {spread} |")
    return "\n".join(lines) + "\n"


def write(path, head, rows):
    Path(f"{path}.md").write_text(head + table(rows), encoding="utf-8")
    with open(f"{path}.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["what", "engine", "unit", "value"], *rows])


if __name__ == "__main__":
    main()
