"""Trains the student on the teacher's vectors. `python3 train.py WORK --minutes N` goes on from WORK/student.pt.

First token vectors whose mean is near the teacher's vector (bag.py). Then the last layer alone, which starts as that mean:
a token costs a small part of what it costs later. Then the layers below it join; each starts as no change.

The losses, for each width of the Matryoshka ladder: the cosine to the teacher's vector in the basis of its principal
directions (sorted, so that a prefix of it is the best short vector), the squared error of the cosines between the
texts of a batch, and a contrastive term over pairs whose target is half the true partner, half what the teacher thinks.
"""

import argparse
import glob
import json
import math
import os
import random
import time

import numpy
import torch
from scipy.stats import spearmanr
from tokenizers import Tokenizer
from torch.nn import functional

from bag import plant, train_bag
from prepare import END, chosen_texts
from student import Shape, Student, load, save

WIDTHS = {256: 1.0, 128: 0.5, 64: 0.35, 32: 0.2}
TASKS = [
    "Given a web search query, retrieve relevant passages that answer the query",
    "Given a question about a program, retrieve documentation that answers it",
    "Given a description, retrieve the code that does it",
]
LONGEST = 192  # tokens


def principal(vectors, width):
    """(384, width): the principal directions, largest first; not centred, so that cosines are kept."""
    _, directions = torch.linalg.eigh(vectors.T @ vectors)
    return directions.flip(1)[:, :width].contiguous()


class Texts:
    """The items whose vectors the teacher has given, as token ids."""

    def __init__(self, work, width):
        with open(f"{work}/texts.jsonl") as file:
            items = [json.loads(line) for line in file]
        texts = chosen_texts(items)
        vectors = [numpy.load(path) for path in sorted(glob.glob(f"{work}/teacher/0*[0-9].npy"))]
        self.teacher = functional.normalize(torch.from_numpy(numpy.concatenate(vectors)).float(), dim=-1)
        number = {text: index for index, text in enumerate(texts[: len(self.teacher)])}
        self.items = [
            (number[item["a"]], number.get(item["b"]), item["kind"])
            for item in items
            if item["a"] in number and (item["b"] is None or item["b"] in number)
        ]
        tokenizer = Tokenizer.from_file(f"{work}/tokenizer.json")
        self.end = tokenizer.token_to_id(END)
        encode = lambda batch: [row.ids[: LONGEST - 1] + [self.end] for row in tokenizer.encode_batch(batch)]
        self.plain = encode(list(number))
        self.instructed = [encode([f"Instruct: {task}\nQuery:"])[0][:-1] for task in TASKS]
        path = f"{work}/basis.pt"  # fixed once training has begun
        if not os.path.exists(path):
            torch.save(principal(self.teacher, width), path)
        self.basis = torch.load(path)
        pieces = functional.normalize(torch.from_numpy(numpy.load(f"{work}/teacher/pieces.npy")), dim=-1)
        self.pieces = pieces @ self.basis

    def instruct(self, index, kind, chance):
        """The ids of a query with one of the instructions before it."""
        task = 2 if kind == "code" and chance.random() < 0.5 else chance.choice((0, 0, 1))
        return self.instructed[task] + self.plain[index]


def losses(student, teacher, basis, pairs, width):
    """student: (n, 256), teacher: (n, 384), pairs: rows (a, b) of texts that belong together.

    The terms between texts are the dear ones: each step takes them at one `width`.
    """
    target = teacher @ basis
    total = 0
    for prefix, weight in WIDTHS.items():
        vectors = functional.normalize(student[:, :prefix], dim=-1)
        goal = functional.normalize(target[:, :prefix], dim=-1)
        total = total + weight * (1 - (vectors * goal).sum(-1).mean())
    vectors = functional.normalize(student[:, :width], dim=-1)
    own, alike = vectors @ vectors.T, teacher @ teacher.T
    total = total + 10 * (own - alike).square().mean()
    if len(pairs):
        a, b = pairs.unbind(1)
        wanted = 0.5 * functional.softmax(20 * alike[a][:, b], -1) + 0.5 * torch.eye(len(a), device=a.device)
        total = total + 0.1 * functional.cross_entropy(20 * own[a][:, b], wanted)
    return total


def any_width(chance):
    return chance.choices(list(WIDTHS), list(WIDTHS.values()))[0]


@torch.no_grad()
def check(student, texts, items, depth):
    """Agreement with the teacher on items kept from training: Spearman of cosines, recall@10 at each width."""
    rows = [row for item in items for row in item[:2] if row is not None]
    vectors = functional.normalize(student.embed([texts.plain[row] for row in rows], depth), dim=-1)
    teacher = texts.teacher[rows]
    chance = torch.Generator().manual_seed(0)
    left, right = torch.randint(len(rows), (2, 20_000), generator=chance)
    mine, theirs = (vectors[left] * vectors[right]).sum(-1), (teacher[left] * teacher[right]).sum(-1)
    report = [f"spearman {spearmanr(mine, theirs).statistic:.3f}", f"cosine {(vectors @ texts.basis.T * teacher).sum(-1).mean():.3f}"]
    place = {row: index for index, row in enumerate(rows)}
    pairs = [(place[a], place[b]) for a, b, _ in items if b is not None]
    a, b = torch.tensor(pairs).unbind(1)
    truth = torch.arange(len(a))[:, None]
    recall = lambda x: (functional.normalize(x[a], dim=-1) @ functional.normalize(x[b], dim=-1).T).topk(10).indices.eq(truth).any(1).float().mean()
    report.append(f"recall@10 of {len(a)}: teacher {recall(teacher):.3f}, student " + " ".join(f"{w}: {recall(vectors[:, :w]):.3f}" for w in WIDTHS))
    return ", ".join(report)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("--minutes", type=float, default=60, help="of the second stage")
    parser.add_argument("--first-minutes", type=float, default=6, help="of the first stage")
    parser.add_argument("--bag-minutes", type=float, default=5, help="of the mean of token vectors")
    parser.add_argument("--batch", type=int, default=96, help="items (pairs or single texts)")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()

    torch.manual_seed(0)
    shape = Shape(layers=options.layers)
    texts = Texts(options.work, shape.hidden)
    held, items = texts.items[:1000], texts.items[1000:]
    print(f"{len(items)} items, {len(texts.plain)} texts, {sum(map(len, texts.plain))} tokens", flush=True)
    path = f"{options.work}/student.pt"
    if os.path.exists(path):
        student, state = load(path)
        stage, spent, step = state["stage"], state["spent"], state["step"]
    else:
        student, state, stage, spent, step = Student(shape), None, 1, 0.0, 0
        plant(student, train_bag(texts, items, held, options.bag_minutes, losses, any_width), texts.end)
        print("planted: " + check(student, texts, held, 1), flush=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student.to(device)
    basis = texts.basis.to(device)

    while stage <= 2:
        depth = 1 if stage == 1 else None
        minutes = options.first_minutes if stage == 1 else options.minutes
        batch = options.batch * (3 if stage == 1 else 1)
        # The token vectors have learned most of what these texts can teach them.
        rest = [parameter for name, parameter in student.named_parameters() if name != "token_embd.weight"]
        groups = [{"params": [student.token_embd.weight], "share": 0.3}, {"params": rest, "share": 1.0}]
        optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        if state and state.get("optimizer"):
            optimizer.load_state_dict(state["optimizer"])
        state = None
        clock = saved = said = time.time()
        running = None
        while spent < 60 * minutes:
            chance = random.Random(step)
            chosen = chance.sample(items, batch)
            ids, rows, pairs = [], [], []
            for a, b, kind in chosen:
                if b is not None:
                    pairs.append((len(ids), len(ids) + 1))
                ids.append(texts.instruct(a, kind, chance) if chance.random() < 0.15 else texts.plain[a])
                rows.append(a)
                if b is not None:
                    ids.append(texts.plain[b])
                    rows.append(b)
            done = spent / (60 * minutes)
            rate = options.rate * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            loss = losses(student.embed(ids, depth), texts.teacher[rows].to(device), basis, torch.tensor(pairs).to(device), any_width(chance))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            step += 1
            now = time.time()
            spent, clock = spent + now - clock, now
            running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
            if now - said > 30:
                print(f"stage {stage} step {step} {spent:.0f} s loss {running:.4f} rate {rate:.2e}", flush=True)
                said = now
            if now - saved > 180:
                save(path + ".part", student, stage=stage, spent=spent, step=step, optimizer=optimizer.state_dict())
                os.replace(path + ".part", path)
                print("  " + check(student, texts, held, depth), flush=True)
                saved = clock = time.time()
        print(f"end of stage {stage}: " + check(student, texts, held, depth), flush=True)
        stage, spent, step = stage + 1, 0.0, 0
        save(path + ".part", student, stage=stage, spent=spent, step=step)
        os.replace(path + ".part", path)


if __name__ == "__main__":
    main()
