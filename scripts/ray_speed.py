#!/usr/bin/env python3
"""What Ray costs beside the engine alone, and what memory two actors of a machine share.

    ray_speed.py                       7 pairs of 30,000 short rows with the built-in model, then the memory
    ray_speed.py --shared MODEL.gguf   the memory with another model, whose weights are larger than Python and Ray

Pairs, by turns: two actors of one thread each, which read Parquet, and one `Embedder` of two threads in this process; rows a second from when both actors work
until the last batch is done. A batch costs beyond the engine what an actor takes from its first batch to the end, less the time that the engine has worked.

Exit status 1 when the median of the pairs is below 0.9. Needs qembed_q and Ray; `check_cluster.py` has them. Linux alone.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import ray

from qembed_q import Embedder
from qembed_q.ray import EmbedActor

ROOT = Path(__file__).resolve().parent.parent
TARGET = 0.9


class Timed(EmbedActor):
    """An actor that gives, for a batch, who made it, when it began and ended, and how long the engine worked."""

    def __init__(self, **options):
        super().__init__(**options)
        self.embedder = Clock(self.embedder)

    def __call__(self, batch):
        began = time.monotonic()
        super().__call__(batch)
        worked = self.embedder.seconds
        columns = {"actor": os.getpid(), "rows": len(batch), "began": began, "ended": time.monotonic(), "engine": worked}
        return pyarrow.table({name: [value] for name, value in columns.items()})


class Clock:
    """An embedder by which the time is taken."""

    def __init__(self, embedder):
        self.embedder = embedder

    def encode_arrow(self, texts, **options):
        began = time.monotonic()
        vectors = self.embedder.encode_arrow(texts, **options)
        self.seconds = time.monotonic() - began
        return vectors


@ray.remote(num_cpus=1)
class Resident(EmbedActor):
    """An actor that says what it has in memory."""

    def work(self, texts):
        self(pyarrow.table({"text": texts}))

    def megabytes(self):
        """Resident, and its share of that (Rss, Pss): of the process, and of the mapping of the model's file."""
        model = self.embedder.model or "_qembed_q"
        sizes, inside = {"process": [0, 0], "model": [0, 0]}, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            name, *values = line.split()
            if not name.endswith(":"):
                inside = len(values) > 4 and model in values[-1]
            elif name in ("Rss:", "Pss:"):
                for of in ["process"] + ["model"] * inside:
                    sizes[of][name == "Pss:"] += int(values[0]) / 1000
        return sizes


def actors(rows, batch):
    """Rows a second of two actors, and milliseconds a batch beyond the engine."""
    dataset = ray.data.read_parquet(rows).repartition(target_num_rows_per_block=batch)
    pool = ray.data.ActorPoolStrategy(size=2)
    made = dataset.map_batches(Timed, batch_format="pyarrow", batch_size=batch, num_cpus=1, compute=pool).take_all()
    pids = {row["actor"] for row in made}
    assert len(pids) == 2, "both actors are to work"
    both = max(min(row["began"] for row in made if row["actor"] == pid) for pid in pids)
    counted = [row for row in made if row["began"] >= both]
    rate = sum(row["rows"] for row in counted) / (max(row["ended"] for row in counted) - both)
    beyond = 0.0
    for pid in pids:
        mine = [row for row in made if row["actor"] == pid]
        beyond += max(row["ended"] for row in mine) - min(row["began"] for row in mine) - sum(row["engine"] for row in mine)
    return rate, 1000 * beyond / len(made)


def shared(model):
    """Lines about the memory of one actor, and of two."""
    texts = ["What two processes map of one file is in memory once."] * 8
    lines, running = [], []
    for count in (1, 2):
        running.append(Resident.remote(model=model))
        ray.get(running[-1].work.remote(texts))
        found = ray.get([actor.megabytes.remote() for actor in running])
        for at, of in enumerate(found, 1):
            (resident, share), (weights, of_weights) = of["process"], of["model"]
            lines.append(
                f"- actor {at} of {count}: {resident:.0f} MB resident, its share {share:.0f} (Pss); of that the model's mapping {weights:.0f}, its share {of_weights:.0f}"
            )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, metavar="N")
    parser.add_argument("--rows", type=int, default=30_000, metavar="N")
    parser.add_argument("--batch", type=int, default=512, metavar="N", help="rows of a batch, and of a block")
    parser.add_argument("--shared", metavar="MODEL.gguf", help="the model of the actors whose memory is looked at")
    args = parser.parse_args()
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=500 << 20)
    ray.data.DataContext.get_current().enable_progress_bars = False
    draw, words = random.Random(1), (ROOT / "docs/kernels.md").read_text(encoding="utf-8").split()
    texts = [" ".join(draw.choices(words, k=draw.randint(6, 18))) for _ in range(args.rows)]
    alone = Embedder(threads=2)
    alone.encode(texts[: args.batch])
    ratios, costs, rates, load = [], [], [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), f"{folder}/rows.parquet")
        for _ in range(args.pairs):
            rate, cost = actors(folder, args.batch)
            began = time.monotonic()
            alone.encode(texts)
            rates.append(args.rows / (time.monotonic() - began))
            ratios.append(rate / rates[-1])
            costs.append(cost)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}, {args.pairs} pairs, load {load:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"- {args.rows:,} short rows, built-in model: two actors of one thread have {statistics.median(ratios):.3f} of the rate of one embedder of two threads ({spread}; asked: {TARGET})")
    print(f"- the embedder: {statistics.median(rates):,.0f} rows a second ({min(rates):,.0f} to {max(rates):,.0f})")
    print(f"- a batch of {args.batch} rows costs {statistics.median(costs):.1f} ms beyond the engine ({min(costs):.1f} to {max(costs):.1f})")
    print(*shared(args.shared), sep="\n")
    raise SystemExit(statistics.median(ratios) < TARGET)


if __name__ == "__main__":
    main()
