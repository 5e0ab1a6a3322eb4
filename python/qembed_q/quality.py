"""How good a model file's vectors are, now and before: a check that runs regularly and fails on a loss.

    python -m qembed_q.quality --gguf model-q4.gguf --data scifact nfcorpus --output today.json
    python -m qembed_q.quality --gguf model-q4.gguf --data scifact nfcorpus --baseline stored.json --max-loss 0.005
    python -m qembed_q.quality --gguf model-q4.gguf --tasks STS12 NFCorpus           # by mteb, where its data can be loaded

``--data`` takes folders as BEIR has them (corpus.jsonl, queries.jsonl, qrels/test.tsv), and needs neither network nor mteb: each document is embedded
without an instruction, each query with that of retrieval or ``--instruction``, all are compared with all, and nDCG@10, MRR@10 and recall@100 are those of trec_eval (the gain of
a document is its judgement; documents of equal cosine stand in the order of their ids, the greater first; a document with the id of the query is left out). ``--tasks`` takes mteb's tasks, each with
its own instruction; the score is mteb's main one.

The result is an object in JSON, on standard output or in ``--output``. With ``--baseline``, an earlier result: exit status 1 if a score has fallen by more than
``--max-loss``, or if one that stands there is missing. Vectors have the same bits on one instruction set, so a score changes only with the file, the data or
the version; another instruction set moves cosines by some 1e-4, and a score of a few hundred queries by about 0.001, so the usual 0.005 sees a lost level and
no noise.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import Embedder, QembedError, __version__

#: Documents that are embedded and compared at a time: memory does not grow with a corpus.
BLOCK = 4096
#: Documents that are kept for a query: as deep as the deepest score looks, and the one that is the query itself.
DEPTH = 101


class DataError(Exception):
    """A folder that is none of BEIR's, or a damaged one."""


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                row["_id"], row["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}, line {number}: no object with _id and text ({error})") from error
            yield row


def judgements(path: Path) -> dict[str, dict[str, int]]:
    """Query → document → how well it answers, of a TSV file with a header."""
    found: dict[str, dict[str, int]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows, None)
        for row in rows:
            try:
                query, document, gain = row
                found.setdefault(query, {})[document] = int(gain)
            except ValueError as error:
                raise DataError(f"{path}, line {rows.line_num}: no query, document and number ({error})") from error
    return found


def ranked(
    embedder: Embedder, queries: NDArray[np.float32], documents: Iterator[dict[str, Any]], dim: int | None = None
) -> list[list[str]]:
    """Ids of the nearest documents of each query, the nearest first."""
    best: list[list[tuple[float, str]]] = [[] for _ in queries]
    # A document may be empty, as some of BEIR's are.
    texts = ((row["_id"], f"{row.get('title') or ''} {row['text']}".strip()) for row in documents)
    for ids, block in embedder.stream(texts, batch=BLOCK, empty="end", truncate="right", dim=dim):
        for heap, cosines in zip(best, queries @ block.T):
            nearest = np.argpartition(-cosines, min(DEPTH, len(ids) - 1))[: DEPTH + 1]
            # All that tie with the last one compete by their ids.
            for at in np.flatnonzero(cosines >= cosines[nearest].min()):
                item = (float(cosines[at]), ids[at])
                if len(heap) < DEPTH:
                    heapq.heappush(heap, item)
                else:
                    heapq.heappushpop(heap, item)
    return [[id for _, id in sorted(heap, reverse=True)] for heap in best]


def scores(rankings: dict[str, list[str]], judged: dict[str, dict[str, int]]) -> dict[str, float]:
    """Means over the queries that have a document with a gain."""
    found: dict[str, list[float]] = {"ndcg@10": [], "mrr@10": [], "recall@100": []}
    for query, ranking in rankings.items():
        gains = {document: gain for document, gain in judged[query].items() if gain > 0}
        got = [gains.get(document, 0) for document in ranking if document != query]
        ideal = dcg(sorted(gains.values(), reverse=True)[:10])
        found["ndcg@10"].append(dcg(got[:10]) / ideal)
        found["mrr@10"].append(next((1 / rank for rank, gain in enumerate(got[:10], 1) if gain), 0.0))
        found["recall@100"].append(sum(gain > 0 for gain in got[:100]) / len(gains))
    return {name: float(np.mean(values)) for name, values in found.items()}


def dcg(gains: list[int]) -> float:
    """Discounted cumulative gain: the n-th counts 1 / log2(n + 1)."""
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def beir(
    embedder: Embedder, folder: Path, split: str = "test", dim: int | None = None, instruction: str | None = None
) -> dict[str, Any]:
    """Scores of a folder as BEIR has them."""
    judged = {
        query: documents
        for query, documents in judgements(folder / "qrels" / f"{split}.tsv").items()
        if any(gain > 0 for gain in documents.values())
    }
    asked = {row["_id"]: row["text"] for row in lines(folder / "queries.jsonl") if row["_id"] in judged}
    if not asked or len(asked) < len(judged):
        missing = next(iter(judged.keys() - asked.keys()), None)
        raise DataError(f"{folder}: no query is judged" if missing is None else f"{folder}: query {missing!r} has no text")
    queries = embedder.encode_query(list(asked.values()), truncate="right", dim=dim, instruction=instruction)
    count = 0

    def documents() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in lines(folder / "corpus.jsonl"):
            count += 1
            if count % BLOCK == 0:
                print(f"{folder.name}: {count} documents", file=sys.stderr)
            yield row

    rankings = ranked(embedder, queries, documents(), dim)
    return {**scores(dict(zip(asked, rankings)), judged), "queries": len(asked), "documents": count}


def flat(result: dict[str, Any]) -> dict[str, float]:
    """The scores of a result, by names such as ``scifact ndcg@10``."""
    counts = ("queries", "documents")
    return {
        f"{data} {name}": value
        for kind in ("beir", "mteb")
        for data, values in result.get(kind, {}).items()
        for name, value in values.items()
        if name not in counts
    }


def losses(result: dict[str, Any], baseline: dict[str, Any], most: float) -> list[str]:
    """What has become worse by more than ``most``, or is missing; a line each."""
    now = flat(result)
    found = []
    for name, before in flat(baseline).items():
        if name not in now:
            found.append(f"{name}: {before:.4f} before, and now it was not measured")
        elif now[name] < before - most:
            found.append(f"{name}: {before:.4f} before, {now[name]:.4f} now, a loss of {before - now[name]:.4f}")
    return found


def by_mteb(embedder: Embedder, names: list[str], dim: int | None) -> dict[str, dict[str, float]]:
    """Main scores of mteb's tasks."""
    import mteb

    from .mteb import QembedEncoder

    results = mteb.evaluate(QembedEncoder(embedder, dim=dim), mteb.get_tasks(tasks=names), cache=None)
    return {result.task_name: {"main_score": float(result.get_score())} for result in results.task_results}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qembed_q.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", metavar="FILE", help="model file or name; the small built-in one by default")
    parser.add_argument("--data", nargs="+", type=Path, default=[], metavar="DIR", help="folders as BEIR has them")
    parser.add_argument("--split", default="test", help="which judgements: qrels/SPLIT.tsv")
    parser.add_argument("--instruction", metavar="TASK", help="what the queries of the folders are for; a web search by default")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="tasks of mteb (qembed-q[mteb])")
    parser.add_argument("--dim", type=int, metavar="N", help="dimensions")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the result goes; standard output by default")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="an earlier result")
    parser.add_argument("--max-loss", type=float, default=0.005, metavar="X", help="how far a score may fall (0.005)")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = arguments()
    args = parser.parse_args(argv)
    if not args.data and not args.tasks:
        parser.error("nothing to measure: give --data or --tasks")
    try:
        baseline = json.loads(args.baseline.read_text(encoding="utf-8")) if args.baseline else {}
        embedder = Embedder(args.gguf, threads=args.threads)
        result = {
            "version": __version__,
            "model": {"name": embedder.name, "level": embedder.level, "sha256": embedder.digest},
            "isa": embedder.isa,
            "dimensions": args.dim or embedder.dim,
            "beir": {
                folder.resolve().name: beir(embedder, folder, args.split, args.dim, args.instruction) for folder in args.data
            },
            "mteb": by_mteb(embedder, args.tasks, args.dim) if args.tasks else {},
        }
    except (OSError, DataError, QembedError, json.JSONDecodeError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    worse = losses(result, baseline, args.max_loss)
    for line in worse:
        print(f"worse: {line}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
