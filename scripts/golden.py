#!/usr/bin/env python3
"""Writes the golden vectors that the Rust tests compare the engine with.

The models are small random files from `cargo run --release --example synth`; their vectors come from the float32
oracle in reference.py. Token ids are not stored: a case holds the seed, the length and the vocabulary size, and the
test regenerates the ids (see `token_ids`). `weights_crc32` tells a test whose model file changed from a test whose
engine is wrong.

    golden.py --model f32=f32.gguf --model q8_0=q8_0.gguf --out tests/data/golden.json

Output: {"models": [{"name", "vocab", "hidden", "weights_crc32", "cases": [{"seed", "length", "vector"}]}]}
"""

import argparse
import json
import sys
import zlib

import torch

import reference

# One token, two, a few; both sides of the 64-token and 128-token edges where tiles end; many tiles.
LENGTHS = [1, 2, 7, 33, 64, 65, 129, 700]
FIRST_SEED = 1


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


def golden_model(name, path):
    """The JSON text of one model's cases."""
    model = reference.GgufModel(path)
    vocab = model.config.vocab_size
    cases = list(enumerate(LENGTHS, start=FIRST_SEED))
    vectors = reference.embed(model, [token_ids(seed, length, vocab) for seed, length in cases])
    head = {"name": name, "vocab": vocab, "hidden": model.config.hidden_size, "weights_crc32": weights_crc32(model)}
    rows = [
        f'{{"seed": {seed}, "length": {length}, "vector": {reference.json_floats(vector)}}}'
        for (seed, length), vector in zip(cases, vectors)
    ]
    return json.dumps(head)[:-1] + ', "cases": [\n' + ",\n".join(rows) + "\n]}"


def named_path(argument):
    """Splits NAME=FILE."""
    name, separator, path = argument.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, got {argument!r}")
    return name, path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, action="append", type=named_path, metavar="NAME=FILE")
    parser.add_argument("--out", required=True, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)  # The order of the sums, and so the last bits, must not depend on the machine's cores.

    models = []
    for name, path in args.model:
        try:
            models.append(golden_model(name, path))
        except (reference.OracleError, OSError, ValueError) as error:
            sys.exit(f"golden.py: {name}: {error}")
        print(f"{name}: {len(LENGTHS)} vectors", file=sys.stderr)
    with open(args.out, "w", encoding="utf-8") as out:
        out.write('{"models": [\n' + ",\n".join(models) + "\n]}\n")


if __name__ == "__main__":
    main()
