"""`InferenceClient` of the package `huggingface_hub`, as shipped: it posts to the server's address itself, as to TEI."""

import asyncio

import pytest
from conftest import KEY, TEXTS, bits
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture(scope="module")
def client(server):
    return InferenceClient(model=server)


def test_lists_and_single_texts(client, reference, native):
    vectors = client.feature_extraction(TEXTS)
    assert vectors.dtype == "float32" and vectors.shape == (len(TEXTS), native)
    assert [vector.tobytes() for vector in vectors] == reference(TEXTS)
    assert client.feature_extraction(TEXTS[0]).tobytes() == reference.one(TEXTS[0])


def test_async(server, reference):
    async def ask():
        async with AsyncInferenceClient(model=server) as client:
            return await asyncio.gather(*(client.feature_extraction(text) for text in TEXTS))

    assert [vector.tobytes() for vector in asyncio.run(ask())] == reference(TEXTS)


def test_parameters(client, reference):
    vectors = client.feature_extraction(TEXTS, normalize=True, truncate=True, truncation_direction="right", prompt_name="query", dimensions=64)
    assert [vector.tobytes() for vector in vectors] == reference(TEXTS, query=True, dimensions=64)
    assert client.feature_extraction("x", prompt_name="document").tobytes() == reference.one("x")


def test_vectors_that_are_not_normalized(client, reference):
    (vector,) = client.feature_extraction("x", normalize=False)
    length = (vector.astype("float64") ** 2).sum() ** 0.5
    assert abs(length - 1) > 0.01
    assert list(vector / length) == pytest.approx(client.feature_extraction("x")[0], abs=1e-6)


def test_too_long_is_cut_unless_told_otherwise(client, reference, too_long):
    for options, end in [({}, "right"), ({"truncate": True}, "right"), ({"truncate": True, "truncation_direction": "left"}, "left")]:
        assert client.feature_extraction(too_long, **options).tobytes() == reference.one(too_long, truncate=end)
    with pytest.raises(HfHubHTTPError) as caught:
        client.feature_extraction(too_long, truncate=False)
    assert caught.value.response.status_code in (413, 422) and "tokens" in caught.value.response.text


def test_float_and_base64(client, reference):
    assert client.feature_extraction("x", encoding_format="float").tobytes() == reference.one("x")


def test_keys(keyed, qwen):
    assert InferenceClient(model=keyed, token=KEY).feature_extraction("x").tobytes() == qwen.one("x")
    with pytest.raises(HfHubHTTPError) as caught:
        InferenceClient(model=keyed, token="wrong").feature_extraction("x")
    assert caught.value.response.status_code == 401
