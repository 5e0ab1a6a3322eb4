#!/usr/bin/env python3
"""Makes the built-in model from nothing: text, tokenizer, the teacher's vectors, training, GGUF files, scores.

    train_builtin.py WORK                 writes models/builtin/*.gguf and prints the table of scores for its card
    train_builtin.py WORK --hours 0.5     less of everything
    train_builtin.py WORK --from FILE     goes on from a file that it wrote: the last stage of training, on other texts, with
                                          the layers that the file lacks

Runs on Debian with a Rust toolchain (its documentation and crates are part of the text). Every step leaves its result
in WORK and is skipped or continued when the result is there, so an interrupted run is simply started again. Uses a GPU
when there is one. The steps are the scripts in builtin/; the card says what they do and why.

Needs: requirements.txt.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "models" / "builtin"
FILES = [OUT / "qembed-builtin-f16.gguf", OUT / "qembed-builtin-q8_0.gguf"]


def step(script, *arguments):
    print(f"== {script}", flush=True)
    subprocess.run([sys.executable, HERE / "builtin" / script, *map(str, arguments)], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for downloads and intermediate results, outside the repository")
    parser.add_argument("--hours", type=float, default=2.0, help="of teaching and training together (default: 2); on a processor, as much of its own time")
    parser.add_argument("--from", dest="start", type=Path, metavar="FILE", help="a GGUF file to go on from")
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()
    minutes = 60 * options.hours

    os.makedirs(options.work, exist_ok=True)
    if not (options.work / "corpus.jsonl").exists():
        step("corpus.py", options.work)
    if options.start and not (options.work / "student.pt").exists():
        step("resume.py", options.work, options.start, options.layers)
    step("prepare.py", options.work, "--minutes", 0.08 * minutes, *(["--again"] if options.start else []))
    shares = {"--bag-minutes": 0.05, "--first-minutes": 0.07, "--minutes": 0.18, "--last-minutes": 0.62}
    step("train.py", options.work, "--layers", options.layers, *(word for name, share in shares.items() for word in (name, share * minutes)))
    step("export.py", options.work, OUT)
    step("evaluate.py", options.work, *FILES)


if __name__ == "__main__":
    main()
