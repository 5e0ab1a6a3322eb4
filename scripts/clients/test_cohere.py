"""`ClientV2` of the package `cohere`, as shipped."""

import asyncio

import cohere
import pytest
from conftest import KEY, TEXTS, bits


@pytest.fixture(scope="module")
def client(server):
    return cohere.ClientV2(api_key="EMPTY", base_url=server)


def embed(client, texts=TEXTS, model="embed-v4.0", input_type="search_document", **options):
    return client.embed(texts=texts, model=model, input_type=input_type, **options)


def test_floats(client, reference):
    answer = embed(client, embedding_types=["float"])
    assert [bits(vector) for vector in answer.embeddings.float_] == reference(TEXTS)
    assert answer.id and answer.texts == TEXTS and answer.meta.api_version.version == "2"
    assert answer.embeddings.int8 is None


def test_floats_are_the_default(client, reference):
    assert [bits(vector) for vector in embed(client).embeddings.float_] == reference(TEXTS)


def test_kinds_of_text(client, reference):
    query = embed(client, input_type="search_query", output_dimension=64)
    assert [bits(vector) for vector in query.embeddings.float_] == reference(TEXTS, query=True, dimensions=64)
    for input_type in ("classification", "clustering"):
        assert len(embed(client, input_type=input_type).embeddings.float_) == len(TEXTS)


def test_all_types(client, reference):
    answer = embed(client, output_dimension=128, embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"])
    of = answer.embeddings
    wanted = reference(TEXTS, dimensions=128)
    assert [bits(vector) for vector in of.float_] == [bits(vector) for vector in of.base64] == wanted
    for i, floats in enumerate(of.float_):
        codes = [max(-127, min(127, x * 127 * 128**0.5 / 4)) for x in floats]
        assert of.int8[i] == pytest.approx(codes, abs=0.5001)
        assert [code - 128 for code in of.uint8[i]] == of.int8[i]
        signs = "".join("01"[x > 0] for x in floats)
        assert of.ubinary[i] == [int(signs[at : at + 8], 2) for at in range(0, 128, 8)]
        assert of.binary[i] == [byte - 128 for byte in of.ubinary[i]]


def test_inputs_with_their_content(client, reference):
    inputs = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    answer = client.embed(model="builtin", input_type="search_document", inputs=inputs, embedding_types=["float"])
    assert [bits(vector) for vector in answer.embeddings.float_] == reference(TEXTS)


def test_too_long_is_cut_unless_told_otherwise(client, reference, too_long):
    for options, end in [({}, "right"), ({"truncate": "END"}, "right"), ({"truncate": "START"}, "left")]:
        answer = embed(client, texts=["x", too_long], **options)
        assert [bits(vector) for vector in answer.embeddings.float_] == reference(["x", too_long], truncate=end)
    with pytest.raises(cohere.BadRequestError) as caught:
        embed(client, texts=["x", too_long], truncate="NONE")
    assert "texts[1]" in caught.value.body["message"]


def test_async(server, reference):
    async def ask():
        async with cohere.AsyncClientV2(api_key="EMPTY", base_url=server) as client:
            return await asyncio.gather(*(embed(client, texts=[text]) for text in TEXTS))

    assert [bits(answer.embeddings.float_[0]) for answer in asyncio.run(ask())] == reference(TEXTS)


def test_errors(client, keyed):
    with pytest.raises(cohere.BadRequestError) as caught:
        embed(client, output_dimension=7)
    assert "dimensions" in caught.value.body["message"]
    with pytest.raises(cohere.BadRequestError):
        embed(client, embedding_types=["float16"])
    with pytest.raises(cohere.UnauthorizedError):
        embed(cohere.ClientV2(api_key="wrong", base_url=keyed), model="qwen")
    with pytest.raises(cohere.NotFoundError):
        embed(cohere.ClientV2(api_key=KEY, base_url=keyed), model="nothing")
