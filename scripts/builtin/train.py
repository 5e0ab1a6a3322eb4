"""Trains the student on the teacher's vectors. `python3 train.py WORK --minutes N` goes on from WORK/student.pt.

First token vectors whose mean is near the teacher's vector (bag.py). Then (stage 1) the last layer alone, which starts as
that mean: a token costs a small part of what it costs later. Then (2) the layers below it join; each starts as no change.
Last (3) all of it again for what is hardest: a third of each batch is code, half of it stands in groups of neighbours, and
the terms between texts are taken at every width.

The losses, for each width of the Matryoshka ladder: the cosine to the teacher's vector in the basis of its principal
directions (sorted, so that a prefix of it is the best short vector), the squared error of the cosines between the
texts of a batch, and a contrastive term over pairs, in both directions, whose target is half the true partner, half
what the teacher thinks.
"""

import argparse
import itertools
import json
import math
import os
import random
import shutil

import numpy
import torch
from scipy.stats import spearmanr
from tokenizers import Tokenizer
from torch.nn import functional

from bag import plant, train_bag
from prepare import CHUNK, END, chosen_texts
from student import Shape, Student, clock, has_bfloat16, load, save

WIDTHS = {256: 1.0, 128: 0.5, 64: 0.35, 32: 0.2}
BETWEEN = {256: 1.5, 128: 0.7, 64: 0.8, 32: 0.2}  # weights of the terms between texts in the last stage
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


def basis_of(student, texts, count=4000):
    """(384, hidden): the basis in which a trained student's vectors lie nearest to the teacher's (orthogonal Procrustes)."""
    with torch.inference_mode():
        vectors = functional.normalize(student.embed(texts.plain[:count]), dim=-1)
    left, _, right = torch.linalg.svd(texts.teacher[:count].T @ vectors, full_matrices=False)
    return left @ right


class Texts:
    """The items whose vectors the teacher has given, as token ids."""

    def __init__(self, work, student):
        with open(f"{work}/texts.jsonl") as file:
            items = [json.loads(line) for line in file]
        texts = chosen_texts(items)
        paths = (f"{work}/teacher/{start:07}.npy" for start in range(0, len(texts), CHUNK))
        vectors = [numpy.load(path) for path in itertools.takewhile(os.path.exists, paths)]
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
            torch.save(basis_of(student, self) if student else principal(self.teacher, Shape().hidden), path)
        self.basis = torch.load(path)
        pieces = functional.normalize(torch.from_numpy(numpy.load(f"{work}/teacher/pieces.npy")), dim=-1)
        self.pieces = pieces @ self.basis

    def instruct(self, index, kind, chance):
        """The ids of a query with one of the instructions before it."""
        task = 2 if kind == "code" and chance.random() < 0.5 else chance.choice((0, 0, 1))
        return self.instructed[task] + self.plain[index]


    def neighbours(self, items, count, chance, size=8):
        """`count` items in groups of `size` whose passages the teacher puts near each other."""
        some = chance.sample(items, min(4000, len(items)))
        passages = self.teacher[[a if b is None else b for a, b, _ in some]]
        seeds = chance.sample(range(len(some)), -(-count // size))
        near = (passages[seeds] @ passages.T).topk(size).indices
        return [some[index] for index in near.flatten().tolist()[:count]]


def losses(student, teacher, basis, pairs, between):
    """student: (n, 256), teacher: (n, 384), pairs: rows (a, b) of texts that belong together.

    `between`: the widths at which the terms between texts are taken, and their weights.
    """
    target = teacher @ basis
    total = 0
    for prefix, weight in WIDTHS.items():
        vectors = functional.normalize(student[:, :prefix], dim=-1)
        goal = functional.normalize(target[:, :prefix], dim=-1)
        total = total + weight * (1 - (vectors * goal).sum(-1).mean())
    alike = teacher @ teacher.T
    heed = 1 + 8 * alike.clamp(min=0).square()  # texts that are near each other are few, and their order matters most
    for prefix, weight in between.items():
        vectors = functional.normalize(student[:, :prefix], dim=-1)
        own = vectors @ vectors.T
        total = total + weight * 10 * (heed * (own - alike).square()).mean()
        if len(pairs):
            a, b = pairs.unbind(1)
            for a, b in ((a, b), (b, a)):
                wanted = 0.5 * functional.softmax(20 * alike[a][:, b], -1) + 0.5 * torch.eye(len(a), device=a.device)
                total = total + weight * 0.02 * functional.cross_entropy(20 * own[a][:, b], wanted)
    return total


def any_width(chance):
    """One width of the ladder: the terms between texts are the dear ones while the student is small."""
    return {chance.choices(list(WIDTHS), list(WIDTHS.values()))[0]: 1.0}


def draw(texts, code, other, batch, stage, chance):
    """The items of a step."""
    if stage < 3:
        return chance.sample(code + other, batch)
    chosen = []
    for items, share in ((code, batch // 3), (other, batch - batch // 3)):
        chosen += chance.sample(items, share - share // 2) + texts.neighbours(items, share // 2, chance)
    return chosen


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
    truth = lambda count: torch.arange(count)[:, None]
    recall = lambda x, a, b: (functional.normalize(x[b], dim=-1) @ functional.normalize(x[a], dim=-1).T).topk(10).indices.eq(truth(len(a))).any(1).float().mean()
    for name, is_code in (("code", True), ("other", False)):
        pairs = [(place[a], place[b]) for a, b, kind in items if b is not None and (kind == "code") == is_code]
        a, b = torch.tensor(pairs).unbind(1)
        scores = " ".join(f"{width}: {recall(vectors[:, :width], a, b):.3f}" for width in WIDTHS)
        report.append(f"recall@10 of {len(a)} {name}: teacher {recall(teacher, a, b):.3f}, student {scores}")
    return ", ".join(report)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("--bag-minutes", type=float, default=5, help="of the mean of token vectors")
    parser.add_argument("--first-minutes", type=float, default=6, help="of stage 1")
    parser.add_argument("--minutes", type=float, default=22, help="of stage 2")
    parser.add_argument("--last-minutes", type=float, default=75, help="of stage 3")
    parser.add_argument("--batch", type=int, default=96, help="items (pairs or single texts)")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--last-rate", type=float, default=1e-3)
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()

    torch.manual_seed(0)
    path = f"{options.work}/student.pt"
    student, state = load(path) if os.path.exists(path) else (None, None)
    texts = Texts(options.work, student)
    held, items = texts.items[:1000], texts.items[1000:]
    code, other = ([item for item in items if (item[2] == "code") == is_code] for is_code in (True, False))
    print(f"{len(items)} items, {len(texts.plain)} texts, {sum(map(len, texts.plain))} tokens", flush=True)
    if student:
        stage, spent, step = state["stage"], state["spent"], state["step"]
    else:
        student, stage, spent, step = Student(Shape(layers=options.layers)), 1, 0.0, 0
        plant(student, train_bag(texts, items, held, options.bag_minutes, losses, any_width), texts.end)
        print("planted: " + check(student, texts, held, 1), flush=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student.to(device)
    if shutil.which("g++"):  # which PyTorch needs for it; half as fast again
        torch._dynamo.config.recompile_limit = 64
        for layer in student.blk:
            layer.forward = torch.compile(layer.forward, dynamic=True)
    basis = texts.basis.to(device)

    while stage <= 3:
        depth = 1 if stage == 1 else None
        minutes = {1: options.first_minutes, 2: options.minutes, 3: options.last_minutes}[stage]
        top_rate = options.last_rate if stage == 3 else options.rate
        batch = options.batch * (3 if stage == 1 else 1)
        # The token vectors have learned most of what these texts can teach them.
        rest = [parameter for name, parameter in student.named_parameters() if name != "token_embd.weight"]
        groups = [{"params": [student.token_embd.weight], "share": 0.5}, {"params": rest, "share": 1.0}]
        optimizer = torch.optim.AdamW(groups, lr=top_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        if state and state.get("optimizer"):
            optimizer.load_state_dict(state["optimizer"])
        state = None
        before = saved = said = clock()
        running = None
        while spent < 60 * minutes:
            chance = random.Random(step)
            ids, rows, pairs = [], [], []
            for a, b, kind in draw(texts, code, other, batch, stage, chance):
                if b is not None:
                    pairs.append((len(ids), len(ids) + 1))
                ids.append(texts.instruct(a, kind, chance) if chance.random() < 0.15 else texts.plain[a])
                rows.append(a)
                if b is not None:
                    ids.append(texts.plain[b])
                    rows.append(b)
            done = spent / (60 * minutes)
            rate = top_rate * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            between = BETWEEN if stage == 3 else any_width(chance)
            with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16()):
                vectors = student.embed(ids, depth)
            loss = losses(vectors.float(), texts.teacher[rows].to(device), basis, torch.tensor(pairs).to(device), between)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            step += 1
            now = clock()
            spent, before = spent + now - before, now
            running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
            if now - said > 30:
                print(f"stage {stage} step {step} {spent:.0f} s loss {running:.4f} rate {rate:.2e}", flush=True)
                said = now
            if now - saved > 180:
                save(path + ".part", student, stage=stage, spent=spent, step=step, optimizer=optimizer.state_dict())
                os.replace(path + ".part", path)
                print("  " + check(student, texts, held, depth), flush=True)
                saved = before = clock()
        print(f"end of stage {stage}: " + check(student, texts, held, depth), flush=True)
        stage, spent, step = stage + 1, 0.0, 0
        save(path + ".part", student, stage=stage, spent=spent, step=step)
        os.replace(path + ".part", path)


if __name__ == "__main__":
    main()
