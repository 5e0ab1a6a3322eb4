#!/usr/bin/env python3
"""Cosine similarity of two sets of vectors, text by text: how far an engine is from the oracle, or from a rival.

    compare_vectors.py reference.json ours.json --min-cosine 0.999

A file is any of {"vectors": [[...]]}, [[...]], or an OpenAI reply {"data": [{"index", "embedding"}]}.
Exit status: 0 when every cosine reaches the minimum, 1 when one does not, 2 when the files cannot be compared.
"""

import argparse
import json
import math
import sys


def read_vectors(path):
    """The vectors of a file, in the order of their texts."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    if isinstance(content, dict) and "vectors" in content:
        vectors = content["vectors"]
    elif isinstance(content, dict) and "data" in content:
        vectors = [item["embedding"] for item in sorted(content["data"], key=lambda item: item["index"])]
    else:
        vectors = content
    if not isinstance(vectors, list) or not vectors:
        raise ValueError(f"{path}: no vectors")
    for text, vector in enumerate(vectors):
        if not isinstance(vector, list) or not all(type(value) in (int, float) for value in vector):
            raise ValueError(f"{path}: vector {text} is not a list of numbers")
        if not all(map(math.isfinite, vector)):
            raise ValueError(f"{path}: vector {text} has a value that is not finite")
        if not any(vector):
            raise ValueError(f"{path}: vector {text} is zero or empty")
    return vectors


def cosine(a, b):
    """Cosine similarity; the vectors need not have length one."""
    dot = math.fsum(x * y for x, y in zip(a, b))
    return dot / (math.hypot(*a) * math.hypot(*b))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("a", metavar="A.json")
    parser.add_argument("b", metavar="B.json")
    parser.add_argument("--min-cosine", type=float, metavar="X", help="fail when any cosine is below X")
    args = parser.parse_args()

    try:
        a, b = read_vectors(args.a), read_vectors(args.b)
        if len(a) != len(b):
            raise ValueError(f"{len(a)} vectors against {len(b)}")
        for text, (x, y) in enumerate(zip(a, b)):
            if len(x) != len(y):
                raise ValueError(f"vector {text} has {len(x)} values against {len(y)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"compare_vectors.py: {error}", file=sys.stderr)
        return 2

    cosines = [cosine(x, y) for x, y in zip(a, b)]
    for text, value in enumerate(cosines):
        print(f"{text:5}  {value:.7f}")
    worst = min(range(len(cosines)), key=cosines.__getitem__)
    print(f"worst  {cosines[worst]:.7f} (text {worst})")
    print(f"mean   {math.fsum(cosines) / len(cosines):.7f}")
    if args.min_cosine is not None and cosines[worst] < args.min_cosine:
        print(f"below the minimum of {args.min_cosine}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
