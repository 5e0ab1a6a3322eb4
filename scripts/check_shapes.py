#!/usr/bin/env python3
"""Files with the real shapes against the float32 oracle: is every vector within the promised cosine of it?

For each SHAPE:TYPE a random-weight file is written, an English, a Chinese and an emoji text and one of code are embedded by
`qembed-q` on each instruction set, and compared with `reference.py` on the same dequantized weights.

    check_shapes.py --bin target/release --vocab vocabulary.gguf 0.6b:Q4_K_M 0.6b:Q8_0 4b:Q4_K_M

Prints a Markdown table; exit status 1 when a cosine is below `--min-cosine`. A 4B file takes 3 GB of disk and some
minutes of the oracle's time. Needs what the oracle needs (requirements.txt).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from compare_vectors import cosine

TEXTS = [
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is "
    "responsible for the movement of planets around the sun.",
    "北京是中国的首都。重力是使两个物体相互吸引的力,它赋予物体重量,并使行星绕太阳运动。",
    "I ❤️ Rust 🦀🚀 and my family 👩‍👩‍👧‍👦, flags 🇨🇳🇫🇷 too 🎉🎉",
    'import { useState } from "react";',
]


def output_of(command):
    """Standard output of a command; its standard error goes to ours."""
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", metavar="SHAPE:TYPE")
    parser.add_argument("--bin", required=True, type=Path, help="folder of a release build, with examples/synth")
    parser.add_argument("--vocab", required=True, type=Path, help="GGUF file with Qwen's tokenizer")
    parser.add_argument("--isa", nargs="+", default=["avx2", "avx512vnni"], metavar="NAME")
    parser.add_argument("--min-cosine", type=float, default=0.9995, metavar="X")
    args = parser.parse_args()

    failed = False
    print("| model | instruction set | worst cosine | mean |\n|---|---|---|---|")
    for model in args.models:
        shape, level = model.split(":")
        with tempfile.TemporaryDirectory() as folder:
            gguf, texts, vectors = (Path(folder) / name for name in ("model.gguf", "texts.json", "vectors.json"))
            texts.write_text(json.dumps(TEXTS), encoding="utf-8")
            synth = args.bin / "examples" / "synth"
            output_of([synth, "--shape", shape, "--type", level, "--vocab", args.vocab, "--out", gguf])
            oracle = Path(__file__).with_name("reference.py")
            output_of([sys.executable, oracle, "--gguf", gguf, "--texts", texts, "--out", vectors])
            expected = json.loads(vectors.read_text(encoding="utf-8"))["vectors"]
            for isa in args.isa:
                ours = json.loads(output_of([args.bin / "qembed-q", "--gguf", gguf, "--isa", isa, *TEXTS]))
                cosines = [cosine(a, b) for a, b in zip(ours, expected, strict=True)]
                failed |= not min(cosines) >= args.min_cosine
                mean = sum(cosines) / len(cosines)
                print(f"| {shape} {level} | {isa} | {min(cosines):.7f} | {mean:.7f} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
