"""LangChain's embeddings, as shipped.

`OpenAIEmbeddings` sends numbers of cl100k_base instead of texts. Its tiktoken gets that vocabulary from the network, unless it
finds it in a folder: the package `llama-index-core` carries it.
"""

import asyncio
import importlib.util
import math
import os
from pathlib import Path

import pytest
from conftest import KEY, TEXTS, bits
from huggingface_hub import AsyncInferenceClient, InferenceClient
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_ollama import OllamaEmbeddings
from langchain_openai import OpenAIEmbeddings

LLAMA_INDEX = Path(importlib.util.find_spec("llama_index.core").origin).parent
os.environ["TIKTOKEN_CACHE_DIR"] = str(LLAMA_INDEX / "_static" / "tiktoken_cache")


@pytest.fixture(scope="module")
def embeddings(keyed):
    """With LangChain's defaults, but for the address; of the model whose vocabulary is Qwen's."""
    return OpenAIEmbeddings(model="qwen", base_url=f"{keyed}/v1", api_key=KEY)


def test_openai_sends_token_arrays_and_gets_the_vectors_of_the_texts(embeddings, qwen):
    assert embeddings.check_embedding_ctx_length, "LangChain's default: it sends numbers of tokens"
    assert [bits(vector) for vector in embeddings.embed_documents(TEXTS)] == qwen(TEXTS)
    assert bits(embeddings.embed_query(TEXTS[0])) == qwen.one(TEXTS[0])


def test_openai_numbers(embeddings, qwen):
    """Numbers of two and three digits are the tokens of cl100k_base that Qwen's vocabulary has not."""
    texts = [f"{i} and {7 * i % 1000}" for i in range(0, 1000, 3)]
    assert [bits(vector) for vector in embeddings.embed_documents(texts)] == qwen(texts)


def test_openai_async(embeddings, qwen):
    async def ask():
        return await asyncio.gather(*(embeddings.aembed_query(text) for text in TEXTS))

    assert [bits(vector) for vector in asyncio.run(ask())] == qwen(TEXTS)


def test_openai_more_than_a_request_takes(embeddings, qwen):
    texts = [f"line {i} of many" for i in range(2100)]
    assert [bits(vector) for vector in embeddings.embed_documents(texts, chunk_size=2048)] == qwen(texts)


def test_openai_pieces_that_end_within_a_character(keyed):
    """LangChain cuts long texts after a number of tokens, and makes a mean of the pieces' vectors."""
    pieces = OpenAIEmbeddings(model="qwen", base_url=f"{keyed}/v1", api_key=KEY, embedding_ctx_length=5)
    (vector,) = pieces.embed_documents(["\U0001f600\U0001f468\U0001f469 \U0001f9d1 \u65e5\u672c\u8a9e " * 5])
    assert math.isclose(sum(x * x for x in vector), 1, abs_tol=1e-5)


def test_openai_texts(server, reference):
    """With a vocabulary that is not Qwen's this is the way, which the server's error names."""
    plain = OpenAIEmbeddings(model="any", base_url=f"{server}/v1", api_key="EMPTY", check_embedding_ctx_length=False)
    assert [bits(vector) for vector in plain.embed_documents(TEXTS)] == reference(TEXTS)


def test_openai_dimensions_and_a_query_by_its_name(keyed, qwen):
    query = OpenAIEmbeddings(model="qwen:query", base_url=f"{keyed}/v1", api_key=KEY, dimensions=32)
    assert bits(query.embed_query(TEXTS[0])) == qwen.one(TEXTS[0], query=True, dimensions=32)


def test_ollama(server, reference):
    embeddings = OllamaEmbeddings(model="builtin", base_url=server, validate_model_on_init=True)
    assert [bits(vector) for vector in embeddings.embed_documents(TEXTS)] == reference(TEXTS)
    assert bits(asyncio.run(embeddings.aembed_query(TEXTS[0]))) == reference.one(TEXTS[0])
    with pytest.raises(ValueError, match="nothing"):
        OllamaEmbeddings(model="nothing", base_url=server, validate_model_on_init=True)


def test_huggingface(server, reference):
    """`HuggingFaceEndpointEmbeddings` takes no address as its model, so the clients are given to it."""
    embeddings = HuggingFaceEndpointEmbeddings(model="any/model")
    embeddings.client, embeddings.async_client = InferenceClient(model=server), AsyncInferenceClient(model=server)
    lines = [text.replace("\n", " ") for text in TEXTS]
    assert [bits(vector) for vector in embeddings.embed_documents(TEXTS)] == reference(lines)
    assert bits(asyncio.run(embeddings.aembed_query(TEXTS[0]))) == reference.one(TEXTS[0])
