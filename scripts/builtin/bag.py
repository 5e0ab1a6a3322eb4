"""The student's start: token vectors whose mean comes near the teacher's vector, put into a decoder that takes this mean.

A mean of token vectors trains hundreds of times faster than a transformer. What it learns (a direction and a weight
for every token) goes into the last layer's attention: directions are the values, logarithms of the weights the
scores. The decoder then starts where the mean ended, and only learns what order and context add.
"""

import random

import torch
from torch.nn import functional

from student import clock

LEFT_OUT = 0.2  # share of a text's tokens
STEEPNESS = 0.5  # of the hidden channel that holds the logarithm of a token's weight


def train_bag(texts, items, held, minutes, losses, any_width, batch=512, rate=2e-3):
    """(vocabulary, hidden): token vectors, their length is their weight. Starts from the teacher's vectors of the tokens.

    Tokens are left out at random, and the best on `held` is kept: the texts are few for so many numbers.
    """
    counts = torch.ones(len(texts.pieces))
    for ids in texts.plain:
        counts.index_add_(0, torch.tensor(ids), torch.ones(len(ids)))
    rare = 1e-3 / (1e-3 + counts / counts.sum())
    start = functional.normalize(texts.pieces - texts.pieces.mean(0), dim=-1) * rare[:, None]
    start[texts.end] = 0
    bag = torch.nn.EmbeddingBag.from_pretrained(start, freeze=False, mode="sum")
    optimizer = torch.optim.Adam(bag.parameters(), lr=rate, fused=True)
    began, step, running = clock(), 0, None
    best, kept_weight = -1.0, start
    while (done := (clock() - began) / (60 * minutes)) < 1:
        chance = random.Random(step)
        chosen = chance.sample(items, min(batch, len(items)))
        rows, pairs = [], []
        for a, b, _ in chosen:
            if b is not None:
                pairs.append((len(rows), len(rows) + 1))
                rows += [a, b]
            else:
                rows.append(a)
        ids = [torch.tensor(texts.plain[row]) for row in rows]
        ids = [kept if len(kept := row[torch.rand(len(row)) > LEFT_OUT]) else row for row in ids]
        offsets = torch.tensor([0] + [len(row) for row in ids[:-1]]).cumsum(0)
        optimizer.param_groups[0]["lr"] = rate * (1 - done)
        loss = losses(bag(torch.cat(ids), offsets), texts.teacher[rows], texts.basis, torch.tensor(pairs), any_width(chance))
        optimizer.zero_grad()
        loss.backward()
        bag.weight.grad[texts.end] = 0
        optimizer.step()
        step += 1
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            score = agreement(bag, texts, held)
            if score > best:
                best, kept_weight = score, bag.weight.detach().clone()
            print(f"bag step {step} {clock() - began:.0f} s loss {running:.4f} held-out cosine {score:.4f}", flush=True)
            if score < best - 0.005:
                break
    return kept_weight


@torch.no_grad()
def agreement(bag, texts, items):
    """Mean cosine to the teacher."""
    rows = [row for item in items for row in item[:2] if row is not None]
    ids = [torch.tensor(texts.plain[row]) for row in rows]
    offsets = torch.tensor([0] + [len(row) for row in ids[:-1]]).cumsum(0)
    return functional.cosine_similarity(bag(torch.cat(ids), offsets), texts.teacher[rows] @ texts.basis).mean().item()


@torch.no_grad()
def plant(student, bag, end):
    """Makes the last layer of the student take the bag's weighted mean."""
    hidden, head = student.shape.hidden, student.shape.head
    weight = bag.norm(dim=-1).clamp_min(1e-3)
    weight[end] = weight.median()
    log_weight = (weight / weight.median()).log().clamp(-4, 4)
    log_weight[end] = -4
    direction = functional.normalize(bag[:, : hidden - 1], dim=-1) * (hidden - 1) ** 0.5
    direction[end] = torch.randn(hidden - 1)
    rows = torch.cat((direction, STEEPNESS * log_weight[:, None]), dim=-1)
    rows[end] *= 0.01  # what the last token adds to the mean; its norm is restored where the query is made
    student.token_embd.weight.copy_(rows)

    last = student.blk[-1]
    pass_through = torch.eye(hidden)
    pass_through[-1, -1] = 0
    last.attn_v.weight.copy_(pass_through)
    last.attn_output.weight.copy_(torch.eye(hidden))
    # One slow rotary pair of each head compares the weight channel with a constant; the rest of the key keeps its norm even.
    slow = head // 2 - 1
    query_row = last.attn_norm(rows[end]) / hidden
    keys = torch.linalg.qr(torch.randn(hidden, hidden))[0]
    for start in range(0, student.shape.heads * head, head):
        last.attn_q.weight[start : start + head] *= 0.01
        last.attn_q.weight[start + slow] = query_row
        keys[start + slow] = 0
        keys[start + slow, -1] = 1 / STEEPNESS
    last.attn_k.weight.copy_(keys)
    last.attn_q_norm.weight.fill_(1.0)
