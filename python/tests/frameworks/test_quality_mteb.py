"""The quality check through mteb, as shipped; and what it computes itself, beside mteb's own score of the same data."""

import json

import mteb
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES
from qembed_q import Embedder, quality
from qembed_q.mteb import QembedEncoder
from test_mteb import QembedRetrieval, QembedSTS


def test_tasks(monkeypatch, tmp_path):
    made = {"QembedRetrieval": QembedRetrieval, "QembedSTS": QembedSTS}
    monkeypatch.setattr(mteb, "get_tasks", lambda tasks: [made[name]() for name in tasks])
    output = tmp_path / "result.json"
    command = ["--tasks", *made, "--output", str(output)]
    assert quality.main(command) == 0
    result = json.loads(output.read_text())
    assert set(result["mteb"]) == set(made)
    assert all(0 <= score["main_score"] <= 1 for score in result["mteb"].values())

    result["mteb"]["QembedSTS"]["main_score"] += 0.1
    (tmp_path / "stored.json").write_text(json.dumps(result))
    assert quality.main([*command, "--baseline", str(tmp_path / "stored.json")]) == 1


def test_folders_have_the_score_of_mteb(tmp_path):
    """The same texts as a folder of BEIR's: mteb's main score of a retrieval task is nDCG at ten."""
    task = QembedRetrieval()
    task.load_data()
    folder = tmp_path / "same"
    (folder / "qrels").mkdir(parents=True)
    rows = {
        "corpus": [{"_id": id, **document} for id, document in task.corpus["test"].items()],
        "queries": [{"_id": id, "text": text} for id, text in task.queries["test"].items()],
    }
    for name, objects in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in objects), encoding="utf-8")
    judged = [f"{query}\t{document}\t{gain}" for query, documents in task.relevant_docs["test"].items() for document, gain in documents.items()]
    (folder / "qrels/test.tsv").write_text("query\tdocument\tgain\n" + "".join(f"{row}\n" for row in judged))
    embedder = Embedder()
    ours = quality.beir(embedder, folder, "test", instruction=INSTRUCTION)
    assert ours["queries"] == len(QUERIES) and ours["documents"] == len(DOCUMENTS)
    theirs = mteb.evaluate(QembedEncoder(embedder), task, cache=None, show_progress_bar=False)
    # mteb rounds to five places.
    assert abs(theirs.task_results[0].get_score() - ours["ndcg@10"]) < 1e-5
