"""Chroma, as shipped."""

import chromadb
import numpy as np
import pytest
from chromadb.utils.embedding_functions import known_embedding_functions
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from qembed_q import Embedder, TextError
from qembed_q.chroma import QembedEmbeddingFunction


@pytest.fixture
def client(tmp_path):
    return chromadb.PersistentClient(str(tmp_path))


def test_vectors(reference):
    function = QembedEmbeddingFunction()
    same(function(DOCUMENTS), reference(DOCUMENTS))
    same(function.embed_query(QUERIES), reference(QUERIES, "--query"))
    assert known_embedding_functions["qembed-q"] is QembedEmbeddingFunction
    assert not function.is_legacy()
    with pytest.raises(TextError, match="text 1"):
        function([np.zeros((2, 2))])


def search(collection, reference, *instruct):
    found = collection.query(query_texts=QUERIES, n_results=len(DOCUMENTS))
    cosines = reference(QUERIES, *instruct) @ reference(DOCUMENTS).T
    for at in range(len(QUERIES)):
        assert found["documents"][at] == [DOCUMENTS[place] for place in (-cosines[at]).argsort()]
        assert found["distances"][at] == pytest.approx(1 - cosines[at][(-cosines[at]).argsort()], abs=1e-6)


def test_collection(reference):
    client = chromadb.EphemeralClient()
    collection = client.create_collection("texts", embedding_function=QembedEmbeddingFunction())
    collection.add(ids=[str(at) for at in range(len(DOCUMENTS))], documents=DOCUMENTS)
    got = collection.get(include=["embeddings"])
    same(got["embeddings"], reference(DOCUMENTS))
    search(collection, reference, "--query")
    client.delete_collection("texts")


def test_opened_again(client, reference):
    function = QembedEmbeddingFunction(Embedder(threads=1), instruction=INSTRUCTION, dim=64)
    collection = client.create_collection("texts", embedding_function=function)
    collection.add(ids=[str(at) for at in range(len(DOCUMENTS))], documents=DOCUMENTS)
    same(collection.get(include=["embeddings"])["embeddings"], reference(DOCUMENTS, "--dim", "64"))
    again = client.get_collection("texts")
    again.add(ids=["more"], documents=[QUERIES[0]])
    same(again.get(ids=["more"], include=["embeddings"])["embeddings"], reference(QUERIES[:1], "--dim", "64"))
    kept = again.configuration["embedding_function"]
    assert kept.get_config() == function.get_config() == {"threads": 1, "instruction": INSTRUCTION, "dim": 64}
    found = again.query(query_texts=QUERIES[:1], n_results=1 + len(DOCUMENTS), where_document={"$not_contains": QUERIES[0]})
    cosines = (reference(QUERIES[:1], "--instruct", INSTRUCTION, "--dim", "64") @ reference(DOCUMENTS, "--dim", "64").T)[0]
    assert found["documents"][0] == [DOCUMENTS[place] for place in (-cosines).argsort()]
    same(kept.embed_query(QUERIES), reference(QUERIES, "--instruct", INSTRUCTION, "--dim", "64"))


def test_other_vectors_are_refused():
    function = QembedEmbeddingFunction()
    function.validate_config_update({"model": "a", "instruction": "b"}, {"model": "c", "instruction": "d"})
    with pytest.raises(ValueError, match="dim: .* 64, not None"):
        function.validate_config_update({"dim": 64}, {})
