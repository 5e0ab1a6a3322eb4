"""Goes on from a GGUF file that export.py wrote, instead of from nothing: `python3 resume.py WORK FILE.gguf LAYERS`.

Writes its tokenizer to WORK/tokenizer.json and its weights to WORK/student.pt, where the last stage of train.py finds them.
Layers that it lacks are put before its last one, which pools; each starts as no change.
"""

import os
import sys
from dataclasses import replace

import gguf
from tokenizers import AddedToken, models

from prepare import END, qwen2
from student import Student, read_gguf, save


def tokenizer(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    assert tokens[-1] == END
    tokenizer = qwen2(models.BPE({token: index for index, token in enumerate(tokens[:-1])}, merges))
    tokenizer.add_special_tokens([AddedToken(END, normalized=False)])
    return tokenizer


def grown(student, layers):
    taller = Student(replace(student.shape, layers=max(layers, student.shape.layers)))
    shift = len(taller.blk) - len(student.blk)
    taller.token_embd, taller.output_norm = student.token_embd, student.output_norm
    for index, layer in enumerate(student.blk):
        taller.blk[index + shift if index + 1 == len(student.blk) else index] = layer
    return taller


def main(work, path, layers):
    os.makedirs(work, exist_ok=True)
    tokenizer(path).save(f"{work}/tokenizer.json")
    save(f"{work}/student.pt", grown(read_gguf(path), int(layers)), stage=3, step=0, spent=0.0)


if __name__ == "__main__":
    main(*sys.argv[1:4])
