"""LangChain, as shipped."""

import asyncio
import pickle

import pytest
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from qembed_q import Embedder, OptionError, TextError
from qembed_q.langchain import QembedEmbeddings


def test_vectors(reference):
    embeddings = QembedEmbeddings()
    assert isinstance(embeddings, Embeddings)
    same(embeddings.embed_documents(DOCUMENTS), reference(DOCUMENTS))
    same([embeddings.embed_query(query) for query in QUERIES], reference(QUERIES, "--query"))
    assert type(embeddings.embed_query("x")[0]) is float
    assert embeddings.embed_documents([]) == []


def test_options(reference):
    embeddings = QembedEmbeddings(Embedder(), instruction=INSTRUCTION, dim=64)
    same(embeddings.embed_documents(DOCUMENTS), reference(DOCUMENTS, "--dim", "64"))
    same([embeddings.embed_query(query) for query in QUERIES], reference(QUERIES, "--instruct", INSTRUCTION, "--dim", "64"))
    both = QembedEmbeddings(task="sts", symmetric=True)
    same(both.embed_documents(DOCUMENTS), reference(DOCUMENTS, "--task", "sts"))
    same([both.embed_query(DOCUMENTS[0])], reference(DOCUMENTS[:1], "--task", "sts"))
    none = QembedEmbeddings(task="document")
    same([none.embed_query(query) for query in QUERIES], reference(QUERIES))


def test_async(reference):
    embeddings = QembedEmbeddings()

    async def work():
        return await asyncio.gather(embeddings.aembed_documents(DOCUMENTS), embeddings.aembed_query(QUERIES[0]))

    documents, query = asyncio.run(work())
    same(documents, reference(DOCUMENTS))
    same([query], reference(QUERIES[:1], "--query"))


def test_vector_store(reference):
    store = InMemoryVectorStore(QembedEmbeddings())
    store.add_texts(DOCUMENTS)
    found = store.similarity_search_with_score(QUERIES[0], k=len(DOCUMENTS))
    cosines = (reference(QUERIES[:1], "--query") @ reference(DOCUMENTS).T)[0]
    assert [document.page_content for document, _ in found] == [DOCUMENTS[at] for at in (-cosines).argsort()]
    assert [document.page_content for document in asyncio.run(store.asimilarity_search(QUERIES[0], k=1))] == [found[0][0].page_content]


def test_pickle(reference):
    embeddings = pickle.loads(pickle.dumps(QembedEmbeddings(instruction=INSTRUCTION)))
    same([embeddings.embed_query(QUERIES[0])], reference(QUERIES[:1], "--instruct", INSTRUCTION))


def test_errors():
    with pytest.raises(TextError, match="text 2"):
        QembedEmbeddings().embed_documents(["a", ""])
    with pytest.raises(TextError):
        QembedEmbeddings().embed_query("word " * 5000)
    assert len(QembedEmbeddings(truncate="left", empty="end").embed_documents(["word " * 5000, ""])) == 2
    with pytest.raises(TypeError, match="dimensions"):
        QembedEmbeddings(dimensions=64)
    for dim in 0, 257:
        with pytest.raises(OptionError, match=f"dim={dim}"):
            QembedEmbeddings(dim=dim)
    with pytest.raises(OptionError, match="threads"):
        QembedEmbeddings(Embedder(), threads=2)
    with pytest.raises(OptionError, match="one of them"):
        QembedEmbeddings(instruction=INSTRUCTION, task="sts")
    with pytest.raises(OptionError, match="symmetric"):
        QembedEmbeddings(symmetric=True)
