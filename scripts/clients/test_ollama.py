"""The package `ollama`, as shipped."""

import asyncio
import datetime

import ollama
import pytest
from conftest import KEY, TEXTS, bits


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(host=server)


@pytest.mark.parametrize("model", ["builtin", "builtin:latest", "nomic-embed-text"])
def test_embed(client, reference, model):
    answer = client.embed(model=model, input=TEXTS)
    assert [bits(vector) for vector in answer.embeddings] == reference(TEXTS)
    assert answer.prompt_eval_count > len(TEXTS)
    assert answer.total_duration >= answer.load_duration >= 0
    assert client.embed(model=model, input="x").embeddings[0] == client.embed(model=model, input=["x"]).embeddings[0]


def test_options_and_dimensions(client, reference):
    answer = client.embed(model="builtin", input=TEXTS, dimensions=64, keep_alive="5m", options={"num_ctx": 8192})
    assert [bits(vector) for vector in answer.embeddings] == reference(TEXTS, dimensions=64)


def test_embeddings_of_old(client, reference):
    assert bits(client.embeddings(model="builtin", prompt=TEXTS[0]).embedding) == reference.one(TEXTS[0])


def test_async(server, reference):
    async def ask():
        client = ollama.AsyncClient(host=server)
        return await asyncio.gather(*(client.embed(model="builtin", input=text) for text in TEXTS))

    assert [bits(answer.embeddings[0]) for answer in asyncio.run(ask())] == reference(TEXTS)


def test_query_by_its_name(client, reference):
    answer = client.embed(model="builtin:query", input=TEXTS)
    assert [bits(vector) for vector in answer.embeddings] == reference(TEXTS, query=True)


def test_too_long_is_cut_unless_told_otherwise(client, reference, too_long):
    cut = [reference.one(too_long, truncate="right")]
    for options in ({}, {"truncate": True}):
        assert [bits(vector) for vector in client.embed(model="builtin", input=too_long, **options).embeddings] == cut
    with pytest.raises(ollama.ResponseError) as caught:
        client.embed(model="builtin", input=too_long, truncate=False)
    assert caught.value.status_code == 400 and "tokens" in caught.value.error


def test_an_empty_text_has_a_vector(client):
    (a, empty) = client.embed(model="builtin", input=["a", ""]).embeddings
    assert len(empty) == len(a) and any(empty)


def test_models(client):
    (model, *_) = client.list().models
    assert model.model.removesuffix(":latest") == "builtin" and model.size > 1_000_000
    assert isinstance(model.modified_at, datetime.datetime) and model.digest
    assert model.details.quantization_level == "Q8_0" and model.details.format == "gguf"
    shown = client.show("builtin")
    assert "embedding" in shown.capabilities and shown.details.family == "qwen3"
    assert shown.modelinfo["qwen3.embedding_length"] == 256
    assert [running.model.removesuffix(":latest") for running in client.ps().models][:1] == ["builtin"]


def test_errors(client, keyed):
    with pytest.raises(ollama.ResponseError) as caught:
        client.embed(model="builtin", input="x", dimensions=7)
    assert caught.value.status_code == 400 and "dimensions" in caught.value.error
    with_key = ollama.Client(host=keyed, headers={"Authorization": f"Bearer {KEY}"})
    for ask in (lambda: with_key.embed(model="nothing", input="x"), lambda: with_key.show("nothing")):
        with pytest.raises(ollama.ResponseError) as caught:
            ask()
        assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError) as caught:
        ollama.Client(host=keyed).embed(model="qwen", input="x")
    assert caught.value.status_code == 401
