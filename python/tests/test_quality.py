"""Scores are those of trec_eval, and a loss is seen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qembed_q import Embedder, quality

DOCUMENTS = {
    "d1": ("Beijing", "The capital of China is Beijing."),
    "d2": ("", "Gravity is a force that attracts two bodies towards each other."),
    "d3": ("Paris", "The capital of France is Paris."),
    "d4": ("Cooking", "Boil the potatoes for twenty minutes in salted water."),
    "d5": ("", ""),
}
QUERIES = {"q1": "What is the capital of China?", "q2": "Explain gravity", "q3": "nobody judged this"}
JUDGED = [("q1", "d1", 2), ("q1", "d3", 1), ("q1", "d4", 0), ("q2", "d2", 1), ("q3", "d4", 0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set as BEIR has them."""
    folder = tmp_path / "small"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": id, "title": title, "text": text} for id, (title, text) in DOCUMENTS.items()]
    queries = [{"_id": id, "text": text} for id, text in QUERIES.items()]
    for name, rows in [("corpus", documents), ("queries", queries)]:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = "".join(f"{query}\t{document}\t{gain}\n" for query, document, gain in JUDGED)
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + table, encoding="utf-8")
    return folder


def test_scores_of_rankings() -> None:
    judged = {"q": {"a": 3, "b": 1, "c": 0}, "r": {"x": 1}}
    found = quality.scores({"q": ["r", "b", "c", "a"], "r": ["r", *(f"n{i}" for i in range(10)), "x"]}, judged)
    ndcg = (1 / math.log2(3) + 3 / math.log2(5)) / (3 + 1 / math.log2(3))
    # The document that is the query itself has no place: x is at 11, too late for ten.
    assert found == pytest.approx({"ndcg@10": ndcg / 2, "mrr@10": 1 / 4, "recall@100": 1}, abs=1e-12)


def test_rankings_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder()
    rows = [{"_id": f"{i:03}", "title": "", "text": f"text {i % 130} of many"} for i in range(260)]
    queries = embedder.encode_query(["text 5 of many", "text 77"])
    monkeypatch.setattr(quality, "DEPTH", 20)
    whole = quality.ranked(embedder, queries, iter(rows))
    vectors = embedder.encode([row["text"] for row in rows])
    cosines = queries @ vectors.T
    for ranking, of_query in zip(whole, cosines):
        order = sorted(range(260), key=lambda at: (float(of_query[at]), rows[at]["_id"]), reverse=True)
        assert ranking == [rows[at]["_id"] for at in order[:20]], "equal texts: the greater id first"
    monkeypatch.setattr(quality, "BLOCK", 7)
    # Products of another shape are summed in another order: what stands in two blocks ties no more to the last bit.
    for ranking, other in zip(whole, quality.ranked(embedder, queries, iter(rows))):
        at = [cosines[0][int(id)] for id in ranking], [cosines[0][int(id)] for id in other]
        assert np.allclose(*at, rtol=0, atol=300 * 2**-24)


def test_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality.main(["--data", str(folder)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["beir"]["small"] == {
        "ndcg@10": 1.0,
        "mrr@10": 1.0,
        "recall@100": 1.0,
        "queries": 2,
        "documents": 5,
    }
    assert result["model"]["sha256"] == Embedder().digest

    def check(change: Any, *options: str) -> tuple[int, str]:
        baseline = json.loads(json.dumps(result))
        change(baseline["beir"])
        (tmp_path / "stored.json").write_text(json.dumps(baseline))
        output = tmp_path / "today.json"
        arguments = ["--data", str(folder), "--output", str(output), "--baseline", str(tmp_path / "stored.json")]
        status = quality.main([*arguments, *options])
        assert json.loads(output.read_text()) == result
        return status, capsys.readouterr().err

    assert check(lambda beir: None) == (0, "")
    assert check(lambda beir: beir["small"].update({"mrr@10": 1.004})) == (0, "")
    status, said = check(lambda beir: beir["small"].update({"mrr@10": 1.006}))
    assert status == 1 and said == "worse: small mrr@10: 1.0060 before, 1.0000 now, a loss of 0.0060\n"
    assert check(lambda beir: beir["small"].update({"mrr@10": 1.006}), "--max-loss", "0.01")[0] == 0
    status, said = check(lambda beir: beir.update({"gone": {"ndcg@10": 0.5}}))
    assert status == 1 and "gone ndcg@10: 0.5000 before, and now it was not measured" in said


def test_queries_alone_have_the_instruction(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder()
    seen: list[Any] = []
    encode = embedder.encode

    def watched(texts: Any, **how: Any) -> Any:
        seen.append(how.get("instruction"))
        return encode(texts, **how)

    monkeypatch.setattr(embedder, "encode", watched)
    quality.beir(embedder, folder, instruction="Find it")
    assert seen == ["Find it", None]


def test_worse_vectors_score_worse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: queries that are about something else."""
    queries = "".join(json.dumps({"_id": id, "text": "Boil potatoes"}) + "\n" for id in QUERIES)
    (folder / "queries.jsonl").write_text(queries)
    assert quality.beir(Embedder(), folder, "test")["ndcg@10"] < 0.7


def test_what_is_wrong_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(words: str, *arguments: str) -> None:
        assert quality.main(["--data", str(folder), *arguments]) == 1
        assert words in capsys.readouterr().err

    fails("no such file", "--gguf", "none.gguf")
    fails("No such file", "--split", "dev")
    fails("No such file", "--baseline", "none.json")
    with open(folder / "corpus.jsonl", "a") as file:
        file.write('{"_id": "d9"}\n')
    fails("corpus.jsonl, line 6: no object with _id and text")
    with open(folder / "qrels/test.tsv", "a") as file:
        file.write("q4\td1\t1\n")
    fails("query 'q4' has no text")
    with open(folder / "qrels/test.tsv", "a") as file:
        file.write("q4\td1\n")
    fails("test.tsv, line 8: no query, document and number")
    with pytest.raises(SystemExit):
        quality.main([])
