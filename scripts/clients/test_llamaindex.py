"""LlamaIndex's embeddings, as shipped."""

import asyncio

import pytest
from conftest import TEXTS, bits
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

LINES = [text.replace("\n", " ") for text in TEXTS]
STRIPPED = [text.strip() for text in TEXTS]


def check(embedding, reference, texts):
    """Lists, single texts and queries; `texts` are what LlamaIndex makes of TEXTS."""
    assert [bits(vector) for vector in embedding.get_text_embedding_batch(TEXTS)] == reference(texts)
    assert bits(embedding.get_text_embedding(TEXTS[3])) == reference.one(texts[3])
    assert bits(embedding.get_query_embedding(TEXTS[0])) == reference.one(texts[0])

    async def ask():
        return await embedding.aget_text_embedding_batch(TEXTS), await embedding.aget_query_embedding(TEXTS[0])

    vectors, query = asyncio.run(ask())
    assert [bits(vector) for vector in vectors] == reference(texts) and bits(query) == reference.one(texts[0])


@pytest.mark.parametrize("kind", [OpenAIEmbedding, OpenAILikeEmbedding])
def test_openai(server, reference, kind):
    check(kind(model_name="builtin", api_base=f"{server}/v1", api_key="EMPTY"), reference, LINES)


def test_openai_by_the_name_of_its_model(server, reference):
    embedding = OpenAIEmbedding(model="text-embedding-3-small", api_base=f"{server}/v1", api_key="EMPTY", dimensions=64)
    assert bits(embedding.get_query_embedding(TEXTS[0])) == reference.one(LINES[0], dimensions=64)


def test_openai_many(server, reference):
    texts = [f"node {i}" for i in range(250)]
    embedding = OpenAIEmbedding(model_name="builtin", api_base=f"{server}/v1", api_key="EMPTY")
    assert [bits(vector) for vector in embedding.get_text_embedding_batch(texts)] == reference(texts)


def test_ollama(server, reference):
    check(OllamaEmbedding(model_name="builtin", base_url=server), reference, STRIPPED)


def test_text_embeddings_inference(server, reference, too_long):
    """Its query and text formats are empty for models that it does not know by their name."""
    embedding = TextEmbeddingsInference(model_name="builtin", base_url=server)
    check(embedding, reference, STRIPPED)
    assert bits(embedding.get_text_embedding(too_long)) == reference.one(too_long, truncate="right")
