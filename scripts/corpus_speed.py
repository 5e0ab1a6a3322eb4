#!/usr/bin/env python3
"""What `qembed-q embed` costs over the engine alone, and what memory it takes of how many rows.

    corpus_speed.py target/release/qembed-q              15 pairs of 20,000 short rows, the built-in model; then 2,000,000 wide rows
    corpus_speed.py target/release/qembed-q --record     and a record in benches/record/

Pairs: the lines of a file by the command without a subcommand (`--format raw`), which is the engine and nothing else, and by `embed` to NumPy and to
Parquet, by turns; medians of the ratios of neighbours. Both take the whole process, start-up included.

Memory: rows of a short text and a wide other column, of which there are --rows and a hundredth of that; the difference of their peaks is what the number of
rows costs. Texts are a few tokens, so that it ends today; every row is read, embedded, kept in the journal and written.

Exit status 1 when the median is below 0.95 or the difference above 100 MiB.
"""

import argparse
import datetime
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def timed(arguments, **more):
    """Seconds of a process, and its peak of memory in bytes."""
    began = time.monotonic()
    process = subprocess.Popen([str(part) for part in arguments], stderr=subprocess.DEVNULL, **more)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"status {status}: {arguments}")
    return time.monotonic() - began, usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--pairs", type=int, default=15, metavar="N")
    parser.add_argument("--rows", type=int, default=2_000_000, metavar="N")
    parser.add_argument("--record", action="store_true", help="write a record to benches/record")
    args = parser.parse_args()
    program, draw = args.program.resolve(), random.Random(1)
    words = (ROOT / "docs/kernels.md").read_text(encoding="utf-8").split()
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = folder / "in.txt"
        source.write_text("".join(" ".join(draw.choices(words, k=draw.randint(6, 18))) + "\n" for _ in range(20_000)), encoding="utf-8")
        ratios = {"npy": [], "parquet": []}
        for _ in range(args.pairs):
            with open(source, "rb") as stdin, open(folder / "out.raw", "wb") as stdout:
                alone, _ = timed([program, "--format", "raw"], stdin=stdin, stdout=stdout)
            for form, found in ratios.items():
                took, _ = timed([program, "embed", "--input", source, "--output", folder / f"out.{form}", "--force"])
                found.append(alone / took)
        for form, found in ratios.items():
            lines.append(f"- 20,000 short rows to {form}: {statistics.median(found):.3f} of the engine's own rate ({min(found):.3f} to {max(found):.3f}, {args.pairs} pairs)")
            print(lines[-1], flush=True)
        peaks = {}
        for rows in (args.rows // 100, args.rows):
            wide = folder / "wide.csv"
            with open(wide, "w", encoding="utf-8") as file:
                file.write("text,other\n")
                file.writelines(f"t{i % 1000},{'x' * 500}{i}\n" for i in range(rows))
            took, peaks[rows] = timed([program, "embed", "--input", wide, "--keep", "all", "--dim", "32", "--output", folder / "wide.parquet", "--force"])
            lines.append(f"- {rows:,} rows with another column of 500 bytes, 32 dimensions, to Parquet: peak {peaks[rows] / 2**20:.0f} MiB, {took:.0f} s")
            print(lines[-1], flush=True)
    more = (peaks[args.rows] - peaks[args.rows // 100]) / 2**20
    lines.append(f"- what {args.rows:,} rows take more than a hundredth of them: {more:.0f} MiB (asked: 100)")
    print(lines[-1])
    if args.record:
        day = datetime.date.today().isoformat()
        cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
        head = f"# Corpora: speed and memory, {day}\n\n`scripts/corpus_speed.py target/release/qembed-q --record`: {cpu}, {os.cpu_count()} processors, the built-in model.\n\n"
        (ROOT / "benches/record" / f"{day}-corpus-speed.md").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    if min(statistics.median(found) for found in ratios.values()) < 0.95 or more > 100:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
