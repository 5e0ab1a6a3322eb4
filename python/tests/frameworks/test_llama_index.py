"""LlamaIndex, as shipped."""

import asyncio
import pickle

from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from qembed_q import Embedder
from qembed_q.llama_index import QembedEmbedding


def test_vectors(reference):
    model = QembedEmbedding()
    assert isinstance(model, BaseEmbedding)
    same(model.get_text_embedding_batch(DOCUMENTS), reference(DOCUMENTS))
    same([model.get_text_embedding(text) for text in DOCUMENTS], reference(DOCUMENTS))
    same([model.get_query_embedding(query) for query in QUERIES], reference(QUERIES, "--query"))


def test_async(reference):
    model = QembedEmbedding(embed_batch_size=2)

    async def work():
        texts = await model.aget_text_embedding_batch(DOCUMENTS)
        return texts, await model.aget_text_embedding(DOCUMENTS[0]), await model.aget_query_embedding(QUERIES[0])

    texts, text, query = asyncio.run(work())
    same(texts, reference(DOCUMENTS))
    same([text], reference(DOCUMENTS[:1]))
    same([query], reference(QUERIES[:1], "--query"))


def test_written_down(reference):
    model = QembedEmbedding(Embedder(threads=1), instruction=INSTRUCTION, dim=64, embed_batch_size=3)
    assert model.model_name == "qembed-q built-in"
    for again in QembedEmbedding.from_dict(model.to_dict()), QembedEmbedding.from_json(model.to_json()), pickle.loads(pickle.dumps(model)):
        assert again.to_dict() == model.to_dict()
        assert again.embed_batch_size == 3
        same(again.get_text_embedding_batch(DOCUMENTS), reference(DOCUMENTS, "--dim", "64"))
        same([again.get_query_embedding(QUERIES[0])], reference(QUERIES[:1], "--instruct", INSTRUCTION, "--dim", "64"))


def test_retriever(reference):
    index = VectorStoreIndex(nodes=[TextNode(text=text) for text in DOCUMENTS], embed_model=QembedEmbedding())
    found = index.as_retriever(similarity_top_k=len(DOCUMENTS)).retrieve(QUERIES[0])
    cosines = (reference(QUERIES[:1], "--query") @ reference(DOCUMENTS).T)[0]
    assert [node.node.text for node in found] == [DOCUMENTS[at] for at in (-cosines).argsort()]


def test_cache(reference):
    model = QembedEmbedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        same(model.get_text_embedding_batch(DOCUMENTS), reference(DOCUMENTS))
