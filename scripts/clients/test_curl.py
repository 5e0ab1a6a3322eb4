"""Requests as programs without a package of their own send them, by curl; each says whose they are."""

import json
import subprocess
import zlib

import pytest
import zstandard
from conftest import INSTRUCTION, KEY, TEXTS, bits

JSON = ("-H", "Content-Type: application/json")


class Answer:
    def __init__(self, output):
        head, self.body = output.split(b"\r\n\r\n", 1)
        status, *headers = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value.strip() for name, value in (header.split(":", 1) for header in headers)}

    def json(self):
        return json.loads(self.body)

    def vectors(self):
        """Bits of vectors in OpenAI's shape."""
        assert self.status == 200, self.body
        return [bits(item["embedding"]) for item in self.json()["data"]]


def curl(address, *options, body=None):
    """Runs curl; a `body` that is no bytes is sent as JSON, whatever the content type."""
    if body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        options += ("--data-binary", "@-")
    # `Expect` would bring a second head into the output.
    command = ["curl", "-sS", "-i", "-m", "120", "-H", "Expect:", *options, address]
    return Answer(subprocess.run(command, input=body, check=True, stdout=subprocess.PIPE).stdout)


def test_as_in_guides(server, reference):
    answer = curl(f"{server}/v1/embeddings", *JSON, "-d", '{"model": "any", "input": "Hello, world"}')
    assert answer.vectors() == [reference.one("Hello, world")]
    assert answer.headers["content-type"] == "application/json" and answer.headers["x-request-id"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "text/plain;charset=UTF-8", ""])
def test_json_without_its_content_type(server, reference, kind):
    """`curl -d` alone, Continue's reranker, `fetch` with a string."""
    answer = curl(f"{server}/v1/embeddings", "-H", f"Content-Type: {kind}".rstrip(), body={"input": TEXTS})
    assert answer.vectors() == reference(TEXTS)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_both_roots(server, reference, path):
    assert curl(server + path, *JSON, body={"input": TEXTS, "model": "builtin"}).vectors() == reference(TEXTS)


def test_request_ids_come_back(server):
    answer = curl(f"{server}/v1/embeddings", *JSON, "-H", "x-request-id: my-id-7", body={"input": "x"})
    assert answer.headers["x-request-id"] == "my-id-7"


def test_open_webui(server, keyed, reference, qwen):
    body = {"input": TEXTS, "model": "any"}
    assert curl(f"{server}/v1/embeddings", *JSON, "-H", "Authorization: Bearer ", body=body).vectors() == reference(TEXTS)
    # Its prefix field, set to the name of ours.
    answer = curl(f"{server}/v1/embeddings", *JSON, body=body | {"instruction": INSTRUCTION})
    assert answer.vectors() == reference(TEXTS, instruction=INSTRUCTION)
    answer = curl(f"{server}/api/embed", *JSON, "-H", "Authorization: Bearer ", body=body)
    assert [bits(vector) for vector in answer.json()["embeddings"]] == reference(TEXTS)
    # As to Azure.
    address = f"{keyed}/openai/deployments/qwen/embeddings?api-version=2023-05-15"
    assert curl(address, *JSON, "-H", f"api-key: {KEY}", body={"input": TEXTS, "model": "qwen"}).vectors() == qwen(TEXTS)


def test_continue(keyed, qwen):
    keys = ("-H", f"Authorization: Bearer {KEY}", "-H", f"x-api-key: {KEY}")
    body = {"input": TEXTS, "model": "qwen", "encoding_format": "base64"}
    answer = curl(f"{keyed}/v1/embeddings", *JSON, *keys, body=body)
    assert answer.vectors() == qwen(TEXTS) and isinstance(answer.json()["data"][0]["embedding"], str)
    assert curl(f"{keyed}/v1/embeddings", *JSON, *keys[2:], body=body).vectors() == qwen(TEXTS)


def test_dify_litellm_and_spring(server, reference):
    body = {"model": "any", "input": TEXTS}
    for more in ({"encoding_format": None}, {"encoding_format": "float"}, {"encoding_format": None, "dimensions": None, "user": None}):
        assert curl(f"{server}/v1/embeddings", *JSON, body=body | more).vectors() == reference(TEXTS)


def test_mem0_and_ogx(server, reference, native):
    answer = curl(f"{server}/v1/embeddings", *JSON, body={"input": [TEXTS[0]], "model": "any", "dimensions": native})
    assert answer.vectors() == [reference.one(TEXTS[0])]


def test_anything_llm(server, reference):
    texts = [f"chunk {i} of a document" for i in range(500)]
    assert curl(f"{server}/v1/embeddings", *JSON, body={"input": texts, "model": "any"}).vectors() == reference(texts)


def test_vllm(server, reference, too_long):
    """Lengths are the model's own here: too long is an error, whatever fields of vLLM a request has."""
    body = {"input": TEXTS, "model": "any", "truncate_prompt_tokens": -1, "priority": 3, "add_special_tokens": True}
    assert curl(f"{server}/v1/embeddings", *JSON, body=body).vectors() == reference(TEXTS)
    answer = curl(f"{server}/v1/embeddings", *JSON, body={"input": too_long, "truncate_prompt_tokens": -1})
    assert answer.status == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
    answer = curl(f"{server}/v1/embeddings", *JSON, body={"messages": [{"role": "user", "content": "x"}], "model": "any"})
    assert answer.status == 400 and answer.json()["error"]["param"] == "messages"


def test_jina(server, reference):
    body = {"model": "jina-embeddings-v3", "input": [{"text": text} for text in TEXTS], "embedding_type": "float", "normalized": True}
    assert curl(f"{server}/v1/embeddings", *JSON, body=body | {"task": "retrieval.query"}).vectors() == reference(TEXTS, query=True)
    assert curl(f"{server}/v1/embeddings", *JSON, body=body | {"task": "retrieval.passage"}).vectors() == reference(TEXTS)


def test_voyage(server, reference):
    body = {"model": "voyage-3.5", "input": TEXTS, "truncation": True, "output_dtype": "float", "output_dimension": 128}
    assert curl(f"{server}/v1/embeddings", *JSON, body=body | {"input_type": None}).vectors() == reference(TEXTS, dimensions=128)
    answer = curl(f"{server}/v1/embeddings", *JSON, body=body | {"input_type": "query", "encoding_format": "base64"})
    assert answer.vectors() == reference(TEXTS, query=True, dimensions=128)


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_text_embeddings_inference(server, reference, too_long, path):
    def embed(**body):
        answer = curl(server + path, *JSON, body=body)
        assert answer.status == 200, answer.body
        return [bits(vector) for vector in answer.json()], answer.headers

    vectors, headers = embed(inputs=TEXTS, normalize=True, truncate=False)
    assert vectors == reference(TEXTS)
    assert int(headers["x-compute-tokens"]) > len(TEXTS) and headers["x-compute-type"] == "cpu"
    for name in ("compute-time", "compute-characters", "total-time", "tokenization-time", "queue-time", "inference-time"):
        assert float(headers[f"x-{name}"]) >= 0
    assert embed(inputs="x", prompt_name=None, dimensions=None)[0] == [reference.one("x")]
    assert embed(inputs=["x"], prompt_name="query", dimensions=64)[0] == [reference.one("x", query=True, dimensions=64)]
    vectors, headers = embed(inputs=[too_long, "x"])
    assert vectors == reference([too_long, "x"], truncate="right") and headers["x-truncated-inputs"] == "1"
    cut = embed(inputs=too_long, truncate=True, truncation_direction="Left")[0]
    assert cut == [reference.one(too_long, truncate="left")]


def test_text_embeddings_inference_errors(server, too_long):
    for body, statuses in [({"inputs": []}, {400, 422}), ({}, {400, 422}), ({"inputs": 7}, {422}), ({"inputs": too_long, "truncate": False}, {413, 422})]:
        answer = curl(f"{server}/embed", *JSON, body=body)
        assert answer.status in statuses and set(answer.json()) == {"error", "error_type"}, answer.body
    answer = curl(f"{server}/embed_all", *JSON, body={"inputs": "x"})
    assert 400 <= answer.status < 600 and answer.json()["error"]


def test_text_embeddings_inference_describes_itself(server, reference):
    info = curl(f"{server}/info").json()
    assert info["model_id"] == "builtin" and info["max_client_batch_size"] == 2048 and info["max_input_length"] >= 512
    assert info["model_type"]["embedding"]["pooling"] == "last_token"
    for name in ("model_sha", "model_dtype", "max_concurrent_requests", "max_batch_tokens", "auto_truncate", "tokenization_workers", "version"):
        assert name in info
    (tokens,) = curl(f"{server}/tokenize", *JSON, body={"inputs": "Hello, world"}).json()
    assert "".join(token["text"] for token in tokens if not token["special"]) == "Hello, world"
    assert all("Hello, world"[token["start"] : token["stop"]] == token["text"] for token in tokens if not token["special"])
    ids = [token["id"] for token in tokens]
    assert curl(f"{server}/decode", *JSON, body={"ids": ids, "skip_special_tokens": True}).json() == ["Hello, world"]
    body = {"inputs": {"source_sentence": "a cat", "sentences": ["a cat", "tax law"]}}
    same, other = curl(f"{server}/similarity", *JSON, body=body).json()
    assert same == pytest.approx(1, abs=1e-5) and other < same


def test_llama_server(server, reference):
    answer = curl(f"{server}/embedding", *JSON, body={"content": TEXTS}).json()
    assert [item["index"] for item in answer] == list(range(len(TEXTS)))
    assert [bits(item["embedding"][0]) for item in answer] == reference(TEXTS)
    (answer,) = curl(f"{server}/embedding", *JSON, body={"content": "x", "embd_normalize": 2}).json()
    assert bits(answer["embedding"][0]) == reference.one("x")
    tokens = curl(f"{server}/tokenize", *JSON, body={"content": "Hello, world"}).json()["tokens"]
    assert all(type(token) is int for token in tokens)
    assert curl(f"{server}/detokenize", *JSON, body={"tokens": tokens}).json()["content"] == "Hello, world"
    pieces = curl(f"{server}/tokenize", *JSON, body={"content": "Hello, world", "with_pieces": True}).json()["tokens"]
    assert "".join(piece["piece"] for piece in pieces) == "Hello, world" and [piece["id"] for piece in pieces] == tokens
    answer = curl(f"{server}/embedding", *JSON, body={"content": ""})
    assert answer.status in (200, 400)


def test_ollama_is_looked_for(server):
    head, root = curl(server, "-I"), curl(server)
    assert (head.status, root.status, root.body) == (200, 200, b"Ollama is running")
    page = curl(server, "-H", "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
    assert page.headers["content-type"].startswith("text/html") and page.body.lower().startswith(b"<!doctype html")
    assert curl(f"{server}/api/version").json()["version"]
    (model, *_) = curl(f"{server}/api/tags").json()["models"]
    assert model["name"].removesuffix(":latest") == "builtin" and model["model"] == model["name"]
    shown = curl(f"{server}/api/show", *JSON, body={"name": "builtin"})
    assert shown.status == 200 and "embedding" in shown.json()["capabilities"]


def test_ollama_of_old(server, reference):
    answer = curl(f"{server}/api/embeddings", body={"model": "builtin", "prompt": TEXTS[0]})
    assert bits(answer.json()["embedding"]) == reference.one(TEXTS[0])


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/score", "/v1/score"])
def test_there_is_no_reranker(server, path):
    for body in ({"query": "q", "documents": ["a"]}, {"query": "q", "texts": ["a"]}, {"text_1": "a", "text_2": ["b"]}):
        answer = curl(server + path, "-H", "Content-Type: text/plain", body=body)
        assert answer.status == 501 and "rerank" in str(answer.json())


@pytest.mark.parametrize(("encoding", "squeeze"), [
    ("gzip", lambda body: zlib.compress(body, wbits=31)),
    ("zstd", lambda body: zstandard.compress(body)),
])
def test_compressed_bodies(server, reference, encoding, squeeze):
    body = squeeze(json.dumps({"input": TEXTS}).encode())
    answer = curl(f"{server}/v1/embeddings", *JSON, "-H", f"Content-Encoding: {encoding}", "--compressed", body=body)
    assert answer.vectors() == reference(TEXTS)
    answer = curl(f"{server}/v1/embeddings", *JSON, "-H", f"Content-Encoding: {encoding}", body=body[:-9])
    assert answer.status == 400 and answer.json()["error"]["message"]


def test_hosts_and_origins(server):
    """Pages of others may not ask, nor those whose name was made to point to this machine."""
    def status(*headers):
        options = [option for header in headers for option in ("-H", header)]
        return curl(f"{server}/v1/embeddings", *JSON, *options, body={"input": "x"}).status

    assert status("Host: localhost:30000") == status("Origin: http://localhost:3000") == status("Origin: app://obsidian.md") == 200
    assert status("Host: evil.example") == status("Origin: https://evil.example") == status("Origin: null") == 403
    assert curl(f"{server}/api/tags", "-H", "Host: evil.example").status == 403


def test_keys(keyed):
    for path in ("/", "/health", "/ready"):
        assert curl(keyed + path).status == 200
    for path in ("/v1/models", "/info", "/metrics", "/api/tags"):
        assert curl(keyed + path).status == 401
        for header in (f"Authorization: Bearer {KEY}", f"x-api-key: {KEY}", f"api-key: {KEY}"):
            assert curl(keyed + path, "-H", header).status == 200, path
        assert curl(keyed + path, "-H", f"Authorization: Basic {KEY}").status == 401


def test_health_and_metrics(server):
    curl(f"{server}/v1/embeddings", *JSON, body={"input": "x"})
    assert curl(f"{server}/health").json() == {"status": "ok"} and curl(f"{server}/ready").status == 200
    metrics = curl(f"{server}/metrics")
    names = "requests_total request_duration_seconds queue_duration_seconds inference_duration_seconds request_tokens pass_tokens pass_texts "
    names += "tokens_total texts_total truncated_texts_total cache_hits_total cache_misses_total queue_texts queue_tokens cache_bytes connections"
    for name in names.split():
        assert f"\n# TYPE qembed_{name}".encode().removesuffix(b"_total") in b"\n" + metrics.body, name


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"input": "x"', b"\xff\xfe", b'{"input": "\xff"}', b'{"input": "\\ud800"}'])
def test_what_is_no_request(server, body):
    """Each dialect has its own shape of an error."""
    def answer(path):
        answer = curl(server + path, *JSON, body=body)
        assert 400 <= answer.status < 500, (path, answer.body)
        return answer.json()

    assert set(answer("/v1/embeddings")["error"]) == {"message", "type", "param", "code"}
    assert set(answer("/embed")) == set(answer("/")) == {"error", "error_type"}
    assert set(answer("/api/embed")) == {"error"}
    assert "message" in answer("/v2/embed")


def test_other_methods_and_paths(server):
    assert curl(f"{server}/v1/embeddings").status == 405
    assert curl(f"{server}/v1/chat/completions", *JSON, body={"messages": []}).status in (404, 501)
    assert curl(f"{server}/health", "-I").status == 200
