#!/usr/bin/env python3
"""Opens files that `qembed-q embed` has written with what people have, and compares what is found in them, bit for bit.

    check_corpora.py [PROGRAM] [--record FILE.md] [OPTIONS OF PYTEST]

PROGRAM is `target/release/qembed-q` by default. pyarrow, pandas, polars, DuckDB and LanceDB read Parquet; NumPy and FAISS `.npy`; SQLite
with sqlite-vec databases; pgvector and the former CSV; OpenAI's types answers to batches. Vectors of int8 and of bits are those of
sentence-transformers. `--record` writes which versions passed what.

Everything is installed in `target/corpora` (about 1 GB), anew when what is asked for changes; remove the folder to get newer versions.
Needs Python 3.10 with pip.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

from check_clients import environment, passed, run, versions

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = REPOSITORY / "scripts" / "corpora"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
FOLDER = TARGET / "corpora"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", type=Path, default=TARGET / "release" / "qembed-q")
    parser.add_argument("--record", type=Path, help="write which versions passed what")
    options, others = parser.parse_known_args()
    python = environment(FOLDER, TESTS / "requirements.txt")
    # One function of it, which needs nothing but NumPy.
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "sentence-transformers")
    report = FOLDER / "report.xml"
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings", f"--junit-xml={report}", *others, TESTS]
    settings = os.environ | {"QEMBED_PROGRAM": str(options.program.resolve())}
    failed = subprocess.run([str(part) for part in command], env=settings, cwd=TESTS).returncode != 0
    installed = versions(python, TESTS / "requirements.txt")
    print(*installed, sep="\n")
    if options.record:
        version = run(options.program, "--version", stdout=subprocess.PIPE, text=True).stdout.strip()
        lines = ["# Real readers of `qembed-q embed`'s files", ""]
        lines += [f"{version}, {platform.system()} {platform.machine()}, Python {platform.python_version()}, {datetime.date.today()}.", ""]
        lines += ["| tests | passed | failed |", "|---|--:|--:|"]
        lines += [f"| `test_{test}.py` | {right} | {wrong} |" for test, (right, wrong) in sorted(passed(report).items())]
        lines += ["", "With " + ", ".join(installed) + "."]
        options.record.write_text("\n".join(lines) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
