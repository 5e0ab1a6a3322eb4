"""Scores of a GGUF file of the student against its teacher, on text kept from training.

`python3 evaluate.py WORK FILE.gguf...` prints a Markdown table, one row a file. The teacher's vectors over the held-out
text are kept in WORK/evaluation.npz. The files are computed in float32 from their own (quantized) weights.
"""

import os
import random
import sys

import numpy
import torch
from scipy.stats import spearmanr
from tokenizers import Tokenizer

from prepare import END, LONGEST, Teacher, cut, read
from student import read_gguf

CANDIDATES = 1000
PAIRS = 2000
WIDTHS = (256, 128, 64, 32)


def sets(work):
    """Two retrieval sets [(queries, candidates)], and texts for pairs: the first of each two belong together."""
    held = [item for item in read(work) if item["split"] == "held-out"]
    random.Random(2).shuffle(held)
    names, descriptions, code, docs = {}, [], [], {}
    for item in held:
        if item["kind"] == "package-name" and len(names) < CANDIDATES and item["a"] not in names:
            names[item["a"]] = None
            descriptions.append(cut(item["b"], LONGEST))
        if item["kind"] == "code" and len(docs) < CANDIDATES and item["a"] not in docs:
            docs[item["a"]] = None
            code.append(cut(item["b"], LONGEST))
    paired = [item for item in held if item["b"] and item["kind"] not in ("package-name", "code")][: PAIRS // 2]
    pool = [cut(text, LONGEST) for item in paired for text in (item["a"], item["b"])]
    return [(descriptions, list(names)), (code, list(docs))], pool


def pairs(teacher):
    """Numbers of the texts of 2,000 pairs: a quarter belong together, a quarter are random, half are the teacher's n-th neighbours."""
    chance = random.Random(3)
    count = len(teacher)
    alike = teacher @ teacher.T
    numpy.fill_diagonal(alike, -1)
    chosen = [(2 * item, 2 * item + 1) for item in chance.sample(range(count // 2), PAIRS // 4)]
    chosen += [tuple(chance.sample(range(count), 2)) for _ in range(PAIRS // 4)]
    for text in chance.sample(range(count), PAIRS // 2):
        chosen.append((text, int(numpy.argsort(-alike[text])[chance.randrange(50)])))
    return numpy.array(chosen)


def teach(work, retrieval, pool):
    path = f"{work}/evaluation.npz"
    if not os.path.exists(path):
        teacher = Teacher(work)
        numpy.savez(path, *[teacher.embed(texts) for queries, candidates in retrieval for texts in (queries, candidates)], teacher.embed(pool))
    with numpy.load(path) as file:
        return [file[name] for name in file.files]


class File:
    """The student with the weights of a GGUF file."""

    def __init__(self, work, path):
        self.student = read_gguf(path)
        self.tokenizer = Tokenizer.from_file(f"{work}/tokenizer.json")
        self.end = self.tokenizer.token_to_id(END)

    @torch.inference_mode()
    def embed(self, texts):
        return self.student.embed([row.ids + [self.end] for row in self.tokenizer.encode_batch(texts)]).numpy()


def unit(vectors, width=None):
    vectors = vectors[:, :width]
    return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


def recall(queries, candidates, width=None, k=10):
    """Share of the queries whose own candidate is among the k nearest."""
    alike = unit(queries, width) @ unit(candidates, width).T
    own = alike.diagonal()[:, None]
    return float(((alike > own).sum(1) < k).mean())


def main(work, files):
    retrieval, pool = sets(work)
    taught = teach(work, retrieval, pool)
    chosen = pairs(taught[-1])
    cosines = lambda vectors: (unit(vectors)[chosen[:, 0]] * unit(vectors)[chosen[:, 1]]).sum(1)
    wanted = cosines(taught[-1])
    numbers = lambda values: " | ".join(f"{value:.3f}" for value in values)
    heads = [f"{name} {width}" for name in ("description → name", "code → comment") for width in WIDTHS]
    print("| | Spearman | " + " | ".join(heads) + " |\n" + "|---" * (len(heads) + 2) + "|")
    print(f"| teacher (384) | 1 | {recall(*taught[0:2]):.3f} | | | | {recall(*taught[2:4]):.3f} | | | |")
    for path in files:
        file = File(work, path)
        own = [file.embed(texts) for queries, candidates in retrieval for texts in (queries, candidates)]
        rank = spearmanr(wanted, cosines(file.embed(pool))).statistic
        scores = [recall(own[at], own[at + 1], width) for at in (0, 2) for width in WIDTHS]
        print(f"| {os.path.basename(path)} | {rank:.3f} | {numbers(scores)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
