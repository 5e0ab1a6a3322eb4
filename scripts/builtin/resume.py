"""Goes on from a GGUF file that export.py wrote, instead of from nothing: `python3 resume.py WORK FILE.gguf`.

Writes its tokenizer to WORK/tokenizer.json and its weights to WORK/student.pt, where the last stage of train.py finds them.
"""

import os
import sys

import gguf
from tokenizers import AddedToken, models

from prepare import END, qwen2
from student import read_gguf, save


def tokenizer(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    assert tokens[-1] == END
    tokenizer = qwen2(models.BPE({token: index for index, token in enumerate(tokens[:-1])}, merges))
    tokenizer.add_special_tokens([AddedToken(END, normalized=False)])
    return tokenizer


def main(work, path):
    os.makedirs(work, exist_ok=True)
    tokenizer(path).save(f"{work}/tokenizer.json")
    save(f"{work}/student.pt", read_gguf(path), stage=3, step=0, spent=0.0)


if __name__ == "__main__":
    main(*sys.argv[1:3])
