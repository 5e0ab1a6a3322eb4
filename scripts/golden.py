#!/usr/bin/env python3
"""Writes the golden vectors that the Rust tests compare the engine with.

The models are small random files that the example `synth` makes from a shape, a quantization level and a seed; their
vectors come from the float32 oracle in reference.py. Neither weights nor token ids are stored, only what they are made
from: a test writes the model anew and regenerates the ids (see `token_ids`). `weights_crc32` tells a test whose weights
changed from a test whose engine is wrong. The file is made anew, where `synth` or MODELS changed, by

    cargo build --release --example synth
    python scripts/golden.py --synth target/release/examples/synth --out models/tests/data/golden.json

Output: {"models": [{"shape", "type", "seed", "vocab", "hidden", "weights_crc32",
                     "cases": [{"seed", "length", "vector"}]}]}
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import torch

import reference

# (shape, quantization level, seed) of each model. Together: head_dim below, at and above hidden / heads, and no multiple
# of 16; 1, 2, 4 and 8 query heads to a key head; sizes that no tile or chunk of a kernel divides; rows of more than 512
# values, which kernels take in chunks; every storage format that the levels mix.
MODELS = [
    ("tiny,vocab=320,layers=3,hidden=96,ffn=208,heads=4,kv_heads=2,head_dim=64", "F32", 1),
    ("tiny,vocab=320,layers=2,hidden=80,ffn=528,heads=8,kv_heads=2,head_dim=24", "F32", 2),
    ("tiny,vocab=320,layers=2,hidden=112,ffn=200,heads=2,kv_heads=2,head_dim=40", "F16", 3),
    ("tiny,vocab=320,layers=2,hidden=128,ffn=192,heads=8,kv_heads=1,head_dim=16", "BF16", 4),
    ("tiny,vocab=320,layers=3,hidden=128,ffn=352,heads=8,kv_heads=2,head_dim=32", "Q8_0", 5),
    ("tiny,vocab=320,layers=4,hidden=256,ffn=256,heads=4,kv_heads=1,head_dim=64", "Q4_K_M", 6),
    ("tiny,vocab=320,layers=3,hidden=256,ffn=768,heads=4,kv_heads=2,head_dim=64", "Q3_K_M", 7),
    ("tiny,vocab=320,layers=2,hidden=160,ffn=288,heads=4,kv_heads=2,head_dim=40", "Q5_K_M", 8),
]
# One token, two, a few; both sides of the 64-token and 128-token edges where tiles end; many tiles.
LENGTHS = [1, 2, 7, 33, 64, 65, 129, 700]


def token_ids(seed, length, vocab):
    """`length` ids below `vocab`: a 64-bit linear congruential generator (Knuth's MMIX constants), top 31 bits."""
    state, ids = seed, []
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % vocab)
    return ids


def weights_crc32(model):
    """CRC-32 (IEEE) over the stored bytes of all tensors, in the order of their names."""
    crc = 0
    for _, data in model.raw_tensors():
        crc = zlib.crc32(data.tobytes(), crc)
    return crc


def golden_model(synth, folder, shape, level, seed):
    """The JSON text of one model: what it is made from, and its cases."""
    path = Path(folder) / "model.gguf"
    subprocess.run([synth, "--shape", shape, "--type", level, "--seed", str(seed), "--out", path], check=True)
    model = reference.GgufModel(path)
    vocab = model.config.vocab_size
    cases = list(enumerate(LENGTHS, start=1))
    vectors = reference.embed(model, [token_ids(seed, length, vocab) for seed, length in cases])
    head = {"shape": shape, "type": level, "seed": seed, "vocab": vocab, "hidden": model.config.hidden_size}
    head["weights_crc32"] = weights_crc32(model)
    rows = [
        f'{{"seed": {seed}, "length": {length}, "vector": {reference.json_floats(vector)}}}'
        for (seed, length), vector in zip(cases, vectors)
    ]
    return json.dumps(head)[:-1] + ', "cases": [\n' + ",\n".join(rows) + "\n]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--synth", required=True, type=Path, metavar="FILE", help="the built example `synth`")
    parser.add_argument("--out", required=True, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)  # The order of the sums, and so the last bits, must not depend on the machine's cores.

    try:
        with tempfile.TemporaryDirectory() as folder:
            models = [golden_model(args.synth.resolve(), folder, *model) for model in MODELS]
    except (reference.OracleError, subprocess.CalledProcessError, OSError, ValueError) as error:
        sys.exit(f"golden.py: {error}")
    with open(args.out, "w", encoding="utf-8") as out:
        out.write('{"models": [\n' + ",\n".join(models) + "\n]}\n")


if __name__ == "__main__":
    main()
