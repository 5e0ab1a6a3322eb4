#!/usr/bin/env python3
"""What Python adds to the engine: time of many short texts, time of one, memory of the result.

    cargo build --release --example lists
    scripts/build_wheel.sh && python3 -m venv target/venv && target/venv/bin/pip install target/wheels/*.whl
    target/venv/bin/python scripts/python_speed.py target/release/qembed-q target/release/examples/lists
    …                                                                                             --record

Many: 10,000 lines by the program (its own figure, start-up left out) and by `Embedder.encode`, by turns; medians of the ratios of neighbours.
One: a short text by the library (examples/lists.rs) and by `encode`, by turns, medians of 200 calls one after another; the median of the differences of neighbours.
Memory: how much the process grows for the vectors of 200,000 texts of one token, as a multiple of the array.

All with the small built-in model, of which a text costs least, so that what Python adds weighs most. Exit status 1 when many is below 0.97, one above
50 µs, or memory above 1.5 (twice would be 2; the tokens of all texts wait in memory, some 100 bytes a text).
"""

import argparse
import datetime
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/builtin/qembed-builtin-q8_0.gguf"
SHORT = "What is the capital of China?"
# Calls of which a median is made.
CALLS = 200


def status(field):
    """A size of this process, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("lists", type=Path, help="the example of that name")
    parser.add_argument("--pairs", type=int, default=15, metavar="N")
    parser.add_argument("--record", action="store_true", help="write a record to benches/record")
    args = parser.parse_args()
    began = time.monotonic()
    from qembed_q import Embedder, __version__

    imported = time.monotonic() - began
    embedder, draw = Embedder(MODEL), random.Random(1)
    words = (ROOT / "docs/kernels.md").read_text(encoding="utf-8").split()
    texts = [" ".join(draw.choices(words, k=draw.randint(6, 18))) for _ in range(10_000)]

    def by_program(file):
        said = subprocess.run(
            [args.program, "--gguf", MODEL, "--format", "raw", "--verbose"], stdin=file, capture_output=True, check=True
        ).stderr.decode()
        line = next(line for line in said.splitlines() if line.endswith("(model file included)"))
        return float(line.split(", ")[2].removesuffix(" s"))

    def by_python():
        began = time.perf_counter()
        embedder.encode(texts)
        return time.perf_counter() - began

    ratios = []
    with tempfile.TemporaryFile() as file:
        file.write("".join(text + "\n" for text in texts).encode())
        for pair in range(args.pairs):
            file.seek(0)
            both = [lambda: by_program(file), by_python]
            took = [work() for work in (both if pair % 2 else both[::-1])]
            program, python = took if pair % 2 else took[::-1]
            ratios.append(program / python)

    library = subprocess.Popen([args.lists, "--gguf", MODEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    line = json.dumps({"texts": [SHORT]}) + "\n"

    def one_by_library():
        library.stdin.write(line * CALLS)
        library.stdin.flush()
        return statistics.median(float(library.stdout.readline()) for _ in range(CALLS))

    def one_by_python():
        took = []
        for _ in range(CALLS):
            began = time.perf_counter()
            embedder.encode(SHORT)
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    added, alone = [], []
    for pair in range(args.pairs):
        both = [one_by_library, one_by_python]
        medians = [work() for work in (both if pair % 2 else both[::-1])]
        by_library, by_python_alone = medians if pair % 2 else medians[::-1]
        alone.append(by_library)
        added.append(by_python_alone - by_library)
    library.stdin.close()
    library.wait()

    many = ["a"] * 200_000
    embedder.encode(many[:1000])
    before = status("VmRSS")
    vectors = embedder.encode(many)
    grown = (status("VmHWM") - before) / vectors.nbytes

    ratio, overhead = statistics.median(ratios), statistics.median(added) * 1e6
    found = [
        f"- 10,000 short texts: {ratio:.3f} of the program's rate ({min(ratios):.3f} to {max(ratios):.3f}, {args.pairs} pairs; asked: 0.97)",
        f"- one short text: {overhead:.0f} µs over the library's {statistics.median(alone) * 1e6:.0f} µs "
        f"({min(added) * 1e6:.0f} to {max(added) * 1e6:.0f}; asked: 50)",
        f"- memory for the vectors of 200,000 texts: {grown:.2f} times the array of {vectors.nbytes >> 20} MiB (asked: once, not twice)",
        f"- import: {imported * 1e3:.0f} ms, NumPy included",
    ]
    print(*found, sep="\n")
    if args.record:
        today = datetime.date.today().isoformat()
        title = f"# What Python adds to the engine, {today}"
        said = f"`scripts/python_speed.py`: the built-in model, {embedder.isa}, {embedder.threads} threads, Python {sys.version.split()[0]}, qembed-q {__version__}; load {os.getloadavg()[0]:.1f} at the end."
        record = ROOT / f"benches/record/{today}-python.md"
        record.write_text("\n".join([title, "", said, "", *found, ""]), encoding="utf-8")
    return ratio < 0.97 or overhead > 50 or grown > 1.5


if __name__ == "__main__":
    sys.exit(main())
