"""The package `openai`, as shipped: it asks for base64 unless told otherwise, tries again twice, and has its own errors."""

import asyncio

import httpx
import openai
import pytest
from conftest import INSTRUCTION, KEY, TEXTS, bits

# "This is a test query." in cl100k_base, which is what OpenAI's embedding models have; and "test" and "test again" in Qwen's vocabulary.
CL100K = [2028, 374, 264, 1296, 3319, 13]
CL100K_TEXT = "This is a test query."
OWN_IDS = {"test": [1944], "test again": [1944, 1549]}


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key="EMPTY") as client:
        yield client


@pytest.fixture(scope="module")
def keyed_client(keyed):
    with openai.OpenAI(base_url=f"{keyed}/v1", api_key=KEY) as client:
        yield client


def create(client, texts, **options):
    """Bits of the vectors of a request, which have to stand in order."""
    options.setdefault("model", "builtin")
    answer = client.embeddings.create(input=texts, **options)
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return [bits(item.embedding) for item in answer.data]


def refused(client, exception, **options):
    """The error of a request; `extra_body` goes before what the package would check itself."""
    options.setdefault("model", "builtin")
    with pytest.raises(exception) as caught:
        client.embeddings.create(**options)
    return caught.value


def test_defaults(client, reference):
    answer = client.embeddings.create(input=TEXTS, model="text-embedding-3-small")
    assert [bits(item.embedding) for item in answer.data] == reference(TEXTS)
    assert (answer.object, answer.model, answer.data[1].object) == ("list", "builtin", "embedding")
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(TEXTS)


def test_base64_is_what_is_sent_by_default(client, reference):
    answer = client.embeddings.with_raw_response.create(input=TEXTS[0], model="builtin")
    (item,) = answer.http_response.json()["data"]
    assert isinstance(item["embedding"], str) and bits(item["embedding"]) == reference.one(TEXTS[0])
    assert answer.headers["x-request-id"] and float(answer.headers["openai-processing-ms"]) >= 0
    assert answer.parse()._request_id == answer.headers["x-request-id"]


def test_floats(client, reference):
    assert create(client, TEXTS, encoding_format="float") == reference(TEXTS)


def test_one_text_and_a_list_of_one(client, reference):
    assert create(client, TEXTS[4]) == create(client, [TEXTS[4]]) == [reference.one(TEXTS[4])]


def test_a_list_of_2048(client, reference):
    texts = [f"text number {i}" for i in range(2048)]
    assert create(client, texts, dimensions=64) == reference(texts, dimensions=64)


def test_a_list_of_2049_is_refused(client):
    error = refused(client, openai.BadRequestError, input=["x"] * 2049)
    assert (error.status_code, error.type, error.param) == (400, "invalid_request_error", "input")
    assert "2049" in error.message and "2048" in error.message


def test_async(server, reference):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="EMPTY") as client:
            requests = (client.embeddings.create(input=[text, f"{text} {i}"], model="builtin") for i, text in enumerate(TEXTS * 4))
            return await asyncio.gather(*requests)

    wanted = reference([text for i, text in enumerate(TEXTS * 4) for text in (text, f"{text} {i}")])
    assert [bits(item.embedding) for answer in asyncio.run(ask()) for item in answer.data] == wanted


@pytest.mark.parametrize("encoding", ["base64", "float"])
@pytest.mark.parametrize("dimensions", [32, 100, 256])
def test_dimensions(client, reference, native, encoding, dimensions):
    assert native == 256, "of these, 256 is to be the model's own"
    vectors = create(client, TEXTS, dimensions=dimensions, encoding_format=encoding)
    assert vectors == reference(TEXTS, dimensions=dimensions)


@pytest.mark.parametrize("dimensions", [0, 31, 257, -1])
def test_dimensions_that_cannot_be(client, dimensions):
    error = refused(client, openai.BadRequestError, input="x", dimensions=dimensions)
    assert (error.param, error.type) == ("dimensions", "invalid_request_error")


def test_user(client, reference):
    assert create(client, "x", user="somebody") == [reference.one("x")]


def test_instruction(client, reference):
    vectors = create(client, TEXTS, extra_body={"instruction": INSTRUCTION})
    assert vectors == reference(TEXTS, instruction=INSTRUCTION) != reference(TEXTS)


def test_input_type_and_names_that_carry_it(client, reference):
    query, document = reference(TEXTS, query=True), reference(TEXTS)
    assert create(client, TEXTS, extra_body={"input_type": "query"}) == query
    assert create(client, TEXTS, extra_body={"input_type": "document"}) == document
    assert create(client, TEXTS, model="builtin:query") == query
    assert create(client, TEXTS, model="builtin:document") == document
    assert create(client, TEXTS, model="builtin:query", extra_body={"input_type": "document"}) == document


def test_truncate(client, reference, too_long):
    error = refused(client, openai.BadRequestError, input=["x", too_long])
    assert (error.param, error.code) == ("input[1]", "context_length_exceeded")
    for end in ("left", "right"):
        answer = client.embeddings.with_raw_response.create(input=["x", too_long], model="builtin", extra_body={"truncate": end})
        assert answer.headers["x-truncated-inputs"] == "1"
        assert [bits(item.embedding) for item in answer.parse().data] == reference(["x", too_long], truncate=end)


def test_truncate_to_a_mean(client, reference, too_long):
    answer = client.embeddings.create(input=too_long, model="builtin", extra_body={"truncate": "mean"})
    mean = answer.data[0].embedding
    assert sum(x * x for x in mean) == pytest.approx(1, abs=1e-5)
    assert bits(mean) not in [reference.one(too_long, truncate=end) for end in ("left", "right")]


def test_vectors_that_are_not_normalized(client, reference):
    whole = client.embeddings.create(input="x", model="builtin", extra_body={"normalize": False}).data[0].embedding
    length = sum(x * x for x in whole) ** 0.5
    assert abs(length - 1) > 0.01
    unit = client.embeddings.create(input="x", model="builtin").data[0].embedding
    assert [x / length for x in whole] == pytest.approx(unit, abs=1e-6)


def test_int8(client):
    unit = client.embeddings.create(input=TEXTS, model="builtin", dimensions=128).data
    answer = client.embeddings.create(
        input=TEXTS, model="builtin", dimensions=128, encoding_format="float", extra_body={"output_dtype": "int8"}
    )
    for floats, codes in zip(unit, answer.data):
        assert all(code == int(code) for code in codes.embedding)
        wanted = [max(-127, min(127, x * 127 * 128**0.5 / 4)) for x in floats.embedding]
        assert codes.embedding == pytest.approx(wanted, abs=0.5001)


@pytest.mark.parametrize(("name", "offset"), [("ubinary", 0), ("binary", 128)])
def test_packed_bits(client, name, offset):
    unit = client.embeddings.create(input=TEXTS, model="builtin", dimensions=64).data
    answer = client.embeddings.create(
        input=TEXTS, model="builtin", dimensions=64, encoding_format="float", extra_body={"output_dtype": name}
    )
    for floats, packed in zip(unit, answer.data):
        signs = "".join("01"[x > 0] for x in floats.embedding)
        assert packed.embedding == [int(signs[at : at + 8], 2) - offset for at in range(0, 64, 8)]


@pytest.mark.parametrize("priority", ["high", "normal", "low", -5, 0, 5])
def test_priority(client, reference, priority):
    assert create(client, "x", extra_body={"priority": priority}) == [reference.one("x")]


def test_an_empty_text_is_named(client):
    assert refused(client, openai.BadRequestError, input="").param == "input"
    error = refused(client, openai.BadRequestError, input=["a", "", "b"])
    assert (error.param, error.type) == ("input[1]", "invalid_request_error")
    assert refused(client, openai.BadRequestError, input=[]).param == "input"


def test_token_arrays_are_cl100k(keyed_client, qwen):
    answer = keyed_client.embeddings.with_raw_response.create(input=CL100K, model="qwen")
    assert answer.headers["x-qembed-token-ids"] == "cl100k"
    (vector,) = answer.parse().data
    assert bits(vector.embedding) == qwen.one(CL100K_TEXT)
    assert create(keyed_client, [CL100K, CL100K[:2]], model="qwen") == qwen([CL100K_TEXT, "This is"])
    assert create(keyed_client, [CL100K], model="qwen:query", dimensions=32) == qwen([CL100K_TEXT], query=True, dimensions=32)


def test_token_arrays_of_the_model(keyed_client, qwen):
    vectors = create(keyed_client, list(OWN_IDS.values()), model="qwen", extra_body={"token_ids": "model"})
    assert vectors == qwen(list(OWN_IDS))


def test_token_arrays_that_cannot_be(keyed_client):
    error = refused(keyed_client, openai.BadRequestError, input=[[2028], [2028, 100256]], model="qwen")
    assert error.param == "input[1]" and "100256" in error.message
    error = refused(keyed_client, openai.BadRequestError, input=CL100K, model="small")
    assert "check_embedding_ctx_length=False" in error.message
    refused(keyed_client, openai.BadRequestError, input=CL100K, model="qwen", extra_body={"token_ids": "reject"})


def test_nulls_say_nothing(server, reference):
    names = ["dimensions", "encoding_format", "user", "instruction", "input_type", "task", "truncate", "normalize"]
    names += ["output_dtype", "priority", "token_ids", "model", "truncate_prompt_tokens", "prompt_name"]
    answer = httpx.post(f"{server}/v1/embeddings", json={"input": TEXTS} | dict.fromkeys(names))
    assert answer.status_code == 200, answer.text
    assert [bits(item["embedding"]) for item in answer.json()["data"]] == reference(TEXTS)


def test_keys(keyed):
    for key in ("EMPTY", KEY[:-1], KEY + "x"):
        with openai.OpenAI(base_url=f"{keyed}/v1", api_key=key) as client:
            error = refused(client, openai.AuthenticationError, input="x", model="qwen")
            assert error.status_code == 401 and error.code == "invalid_api_key"
            with pytest.raises(openai.AuthenticationError):
                client.models.list()


def test_models(client, keyed_client):
    assert [model.id for model in client.models.list()][:1] == ["builtin"]
    model = client.models.retrieve("builtin")
    assert (model.id, model.object) == ("builtin", "model") and model.created >= 0 and model.owned_by
    assert {"qwen", "small"} <= {model.id for model in keyed_client.models.list()}
    with pytest.raises(openai.NotFoundError) as caught:
        keyed_client.models.retrieve("nothing")
    assert caught.value.code == "model_not_found"


def test_a_model_that_is_not_there(keyed_client):
    error = refused(keyed_client, openai.NotFoundError, input="x", model="text-embedding-3-small")
    assert (error.code, error.param) == ("model_not_found", "model") and "qwen" in error.message


def test_each_model_has_its_own_vectors(keyed_client, qwen, reference):
    assert create(keyed_client, TEXTS, model="qwen") == qwen(TEXTS)
    assert create(keyed_client, TEXTS, model="small") == reference(TEXTS)


def test_a_second_request_comes_from_the_cache(client, reference):
    text = "a text that no other test has"
    first, second, fresh = (
        client.embeddings.with_raw_response.create(input=[text, text], model="builtin", dimensions=dimensions, extra_headers=headers)
        for dimensions, headers in [(256, {}), (64, {}), (64, {"Cache-Control": "no-store"})]
    )
    assert second.headers["x-cache-hits"] == "2"
    assert fresh.headers.get("x-cache-hits", "0") == "0"
    assert bits(first.parse().data[1].embedding) == reference.one(text)
    assert bits(second.parse().data[0].embedding) == bits(fresh.parse().data[0].embedding) == reference.one(text, dimensions=64)
