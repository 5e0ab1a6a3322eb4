"""Haystack, as shipped."""

import asyncio

import pytest
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from qembed_q import Embedder, ModelError
from qembed_q.haystack import QembedDocumentEmbedder, QembedTextEmbedder


def contents(texts):
    return [Document(content=text) for text in texts]


def vectors(result):
    return [document.embedding for document in result["documents"]]


def test_vectors(reference):
    documents = contents(DOCUMENTS)
    result = QembedDocumentEmbedder().run(documents)
    same(vectors(result), reference(DOCUMENTS))
    assert [document.id for document in result["documents"]] == [document.id for document in documents]
    assert all(document.embedding is None for document in documents)
    same([QembedTextEmbedder().run(query)["embedding"] for query in QUERIES], reference(QUERIES, "--query"))
    assert QembedDocumentEmbedder().run([]) == {"documents": []}


def test_async(reference):
    same(vectors(asyncio.run(QembedDocumentEmbedder().run_async(contents(DOCUMENTS)))), reference(DOCUMENTS))
    same([asyncio.run(QembedTextEmbedder().run_async(QUERIES[0]))["embedding"]], reference(QUERIES[:1], "--query"))


def test_fields(reference):
    embedder = QembedDocumentEmbedder(meta_fields_to_embed=["title", "year", "nothing"], embedding_separator=" | ")
    document = Document(content="It attracts.", meta={"title": "Gravity", "year": 1687, "nothing": None})
    same(vectors(embedder.run([document])), reference(["Gravity | 1687 | It attracts."]))


def pipelines(store, **options):
    indexing = Pipeline()
    indexing.add_component("embedder", QembedDocumentEmbedder(**options))
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder", "writer")
    querying = Pipeline()
    querying.add_component("embedder", QembedTextEmbedder(**options))
    querying.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=len(DOCUMENTS)))
    querying.connect("embedder.embedding", "retriever.query_embedding")
    return indexing, querying


@pytest.mark.parametrize("written", [False, True])
def test_pipeline(reference, written):
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing, querying = pipelines(store, instruction=INSTRUCTION)
    if written:
        # The store is another after this: what a pipeline writes down is compared instead.
        trusted = ["qembed_q.haystack"]
        assert Pipeline.loads(indexing.dumps(), allowed_modules=trusted).dumps() == indexing.dumps()
        text = Pipeline.loads(querying.dumps(), allowed_modules=trusted).get_component("embedder")
        same([text.run(QUERIES[0])["embedding"]], reference(QUERIES[:1], "--instruct", INSTRUCTION))
        return
    indexing.run({"embedder": {"documents": contents(DOCUMENTS)}})
    found = querying.run({"embedder": {"text": QUERIES[0]}})["retriever"]["documents"]
    cosines = (reference(QUERIES[:1], "--instruct", INSTRUCTION) @ reference(DOCUMENTS).T)[0]
    assert [document.content for document in found] == [DOCUMENTS[at] for at in (-cosines).argsort()]
    again = asyncio.run(querying.run_async({"embedder": {"text": QUERIES[0]}}))["retriever"]["documents"]
    assert again == found


def test_written_down(reference):
    for cls in QembedTextEmbedder, QembedDocumentEmbedder:
        component = cls(Embedder(threads=1), task="code", dim=32)
        given = component.to_dict()["init_parameters"]
        assert given["threads"] == 1 and given["dim"] == 32 and given["instruction"].startswith("Given a description")
        again = cls.from_dict(component.to_dict())
        component.warm_up()
        again.warm_up()
        assert again.to_dict() == component.to_dict()
    for model in None, Embedder():
        text = QembedTextEmbedder.from_dict(QembedTextEmbedder(model, task="document").to_dict())
        same([text.run(QUERIES[0])["embedding"]], reference(QUERIES[:1]))
        document = QembedDocumentEmbedder.from_dict(QembedDocumentEmbedder(model, task="sts", symmetric=True).to_dict())
        same(vectors(document.run(contents(DOCUMENTS))), reference(DOCUMENTS, "--task", "sts"))


def test_the_model_is_opened_late():
    embedder = QembedTextEmbedder("no-such-model.gguf")
    with pytest.raises(ModelError):
        embedder.warm_up()
