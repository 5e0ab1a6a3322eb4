"""Haystack's embedders, as shipped."""

import pytest
from conftest import TEXTS, bits
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import HuggingFaceAPIDocumentEmbedder, HuggingFaceAPITextEmbedder
from haystack_integrations.components.embedders.ollama import OllamaDocumentEmbedder, OllamaTextEmbedder

LINES = [text.replace("\n", " ") for text in TEXTS]


def vectors(embedder):
    answer = embedder.run(documents=[Document(content=text) for text in TEXTS])
    return [bits(document.embedding) for document in answer["documents"]]


def test_openai(server, reference):
    address = {"api_key": Secret.from_token("EMPTY"), "api_base_url": f"{server}/v1"}
    assert vectors(OpenAIDocumentEmbedder(**address)) == reference(TEXTS)
    assert vectors(OpenAIDocumentEmbedder(**address, dimensions=64, batch_size=3)) == reference(TEXTS, dimensions=64)
    answer = OpenAITextEmbedder(**address).run(TEXTS[0])
    assert bits(answer["embedding"]) == reference.one(TEXTS[0]) and answer["meta"]["usage"]["prompt_tokens"] > 1


def test_ollama(server, reference):
    address = {"model": "builtin", "url": server}
    assert vectors(OllamaDocumentEmbedder(**address)) == reference(LINES)
    assert bits(OllamaTextEmbedder(**address).run(TEXTS[0])["embedding"]) == reference.one(TEXTS[0])


@pytest.mark.parametrize("kind", ["text_embeddings_inference", "inference_endpoints"])
def test_huggingface(server, reference, kind):
    address = {"api_type": kind, "api_params": {"url": server}}
    assert vectors(HuggingFaceAPIDocumentEmbedder(**address, normalize=True)) == reference(TEXTS)
    assert bits(HuggingFaceAPITextEmbedder(**address, normalize=True).run(TEXTS[0])["embedding"]) == reference.one(TEXTS[0])


def test_huggingface_asks_for_vectors_as_they_are_by_default(server):
    address = {"api_type": "text_embeddings_inference", "api_params": {"url": server}}
    whole = HuggingFaceAPITextEmbedder(**address).run("x")["embedding"]
    unit = HuggingFaceAPITextEmbedder(**address, normalize=True).run("x")["embedding"]
    length = sum(x * x for x in whole) ** 0.5
    assert abs(length - 1) > 0.01 and [x / length for x in whole] == pytest.approx(unit, abs=1e-6)
