"""txtai, as shipped."""

import numpy as np
import pytest
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from qembed_q.txtai import settings
from txtai import Embeddings


def normalized(vectors):
    """What txtai does to vectors, whatever their length is."""
    return vectors / np.linalg.norm(vectors, axis=1)[:, np.newaxis]


def test_saved(reference, tmp_path):
    embeddings = Embeddings(**settings(instruction=INSTRUCTION))
    embeddings.index(DOCUMENTS)
    embeddings.save(str(tmp_path / "index"))
    again = Embeddings()
    again.load(str(tmp_path / "index"), config=settings(instruction=INSTRUCTION))
    assert again.search(QUERIES[0], 3) == embeddings.search(QUERIES[0], 3)
    same(again.batchtransform(QUERIES, "query"), normalized(reference(QUERIES, "--instruct", INSTRUCTION)))


@pytest.mark.parametrize(
    "options, query, document",
    [
        ({}, ["--query"], []),
        ({"instruction": INSTRUCTION, "dim": 64}, ["--instruct", INSTRUCTION, "--dim", "64"], ["--dim", "64"]),
        ({"task": "document"}, [], []),
        ({"task": "sts", "symmetric": True}, ["--task", "sts"], ["--task", "sts"]),
    ],
)
def test_search(reference, options, query, document):
    embeddings = Embeddings(**settings(**options))
    embeddings.index(DOCUMENTS)
    same(settings(**options)["transform"](DOCUMENTS), reference(DOCUMENTS, *[part for part in document if part not in ("--task", "sts")]))
    same(embeddings.batchtransform(QUERIES, "query"), normalized(reference(QUERIES, *query)))
    same(embeddings.batchtransform(DOCUMENTS, "data"), normalized(reference(DOCUMENTS, *document)))
    cosines = reference(QUERIES, *query) @ reference(DOCUMENTS, *document).T
    for at, text in enumerate(QUERIES):
        found = embeddings.search(text, len(DOCUMENTS))
        order = [place for place in (-cosines[at]).argsort() if cosines[at][place] > 0]
        assert [place for place, _ in found][: len(order)] == order
        assert [score for _, score in found][: len(order)] == pytest.approx(cosines[at][order], abs=1e-6)
