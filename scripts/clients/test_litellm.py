"""LiteLLM, as shipped, by its providers for servers of OpenAI's, Ollama's, Cohere's and Hugging Face's shapes.

Older versions send `encoding_format: null`; test_openai.py has nulls in all fields.
"""

import asyncio
import os

import pytest
from conftest import KEY, TEXTS, bits

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it fetches a list of prices otherwise
import litellm


def of(answer):
    return [bits(item["embedding"]) for item in answer.data]


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "litellm_proxy"])
def test_openai(server, reference, provider):
    options = {"model": f"{provider}/builtin", "input": TEXTS, "api_base": f"{server}/v1", "api_key": "EMPTY"}
    answer = litellm.embedding(**options)
    assert of(answer) == reference(TEXTS) and answer.usage.prompt_tokens > len(TEXTS)
    assert of(litellm.embedding(**options, encoding_format=None)) == reference(TEXTS)
    assert of(litellm.embedding(**options, encoding_format="base64")) == reference(TEXTS)
    assert of(asyncio.run(litellm.aembedding(**options))) == reference(TEXTS)


def test_openai_dimensions(server, reference):
    answer = litellm.embedding(model="openai/text-embedding-3-small", input=TEXTS, dimensions=64, api_base=f"{server}/v1", api_key="EMPTY")
    assert of(answer) == reference(TEXTS, dimensions=64)


def test_ollama(server, reference):
    assert of(litellm.embedding(model="ollama/builtin", input=TEXTS, api_base=server)) == reference(TEXTS)


def test_errors(keyed):
    with pytest.raises(litellm.AuthenticationError):
        litellm.embedding(model="openai/qwen", input="x", api_base=f"{keyed}/v1", api_key="wrong")
    with pytest.raises(litellm.NotFoundError):
        litellm.embedding(model="openai/nothing", input="x", api_base=f"{keyed}/v1", api_key=KEY)
    with pytest.raises(litellm.BadRequestError):
        litellm.embedding(model="openai/qwen", input="x", dimensions=7, api_base=f"{keyed}/v1", api_key=KEY)
