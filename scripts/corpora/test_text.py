"""JSON, CSV, and answers to batches."""

import csv
import json

import numpy
import pandas
import polars
import pytest
from conftest import KEPT, ROWS
from openai.types import CreateEmbeddingResponse
from pgvector import Vector

TYPES = ["f32", "f16", "int8", "ubinary"]


def lines_of(path):
    """What stands on each line: a line ends with LF, whatever else Python's `splitlines` takes for an end."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def same(found, expected):
    """The same numbers, of the same type once they are read as that."""
    assert numpy.array_equal(numpy.array(found, expected.dtype), expected)


@pytest.mark.parametrize("dtype", TYPES)
def test_json(outputs, stored, dtype):
    lines = lines_of(outputs("jsonl", dtype))
    assert lines == json.loads(outputs("json", dtype).read_text(encoding="utf-8"))
    assert [list(line) for line in lines] == [["id", "embedding", *KEPT]] * len(ROWS)
    assert [{name: line[name] for name in ["id", *KEPT]} for line in lines] == ROWS
    same([line["embedding"] for line in lines], stored[dtype])


@pytest.mark.parametrize("extension", ["csv", "tsv"])
def test_csv(outputs, stored, extension):
    separator = {"csv": ",", "tsv": "\t"}[extension]
    with outputs(extension).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=separator))
    assert list(rows[0]) == ["id", *KEPT, "embedding"]
    assert [row["title"] for row in rows] == [row["title"] for row in ROWS]
    assert [json.loads(row["tags"]) for row in rows] == [row["tags"] for row in ROWS]
    same([json.loads(row["embedding"]) for row in rows], stored["f32"])
    frame = pandas.read_csv(outputs(extension), sep=separator)
    assert list(frame["id"]) == [row["id"] for row in ROWS]
    assert list(frame["score"]) == [row["score"] for row in ROWS]
    assert polars.read_csv(outputs(extension), separator=separator)["title"].to_list() == [row["title"] for row in ROWS]


def test_pgvector(outputs, stored):
    """The text of a vector as PostgreSQL's COPY gets it from the file."""
    with outputs("csv").open(encoding="utf-8", newline="") as file:
        found = [Vector.from_text(row["embedding"]).to_numpy() for row in csv.DictReader(file)]
    same(found, stored["f32"])


def test_openai_batch(outputs, stored):
    texts = [row["text"] for row in ROWS]
    inputs = [texts[0], texts[1:4], "", texts[4:5]]
    requests = [
        {"custom_id": f"request {i}", "method": "POST", "url": "/v1/embeddings", "body": {"model": "any", "input": texts}}
        for i, texts in enumerate(inputs)
    ]
    lines = lines_of(outputs.answers(requests))
    assert [line["custom_id"] for line in lines] == [request["custom_id"] for request in requests]
    assert len({line["id"] for line in lines}) == len(lines)
    found = []
    for line in lines:
        if line["custom_id"] == "request 2":
            assert line["response"] is None and line["error"]["code"] and line["error"]["message"]
            continue
        assert line["error"] is None and line["response"]["status_code"] == 200
        body = CreateEmbeddingResponse.model_validate(line["response"]["body"], strict=True)
        assert [one.index for one in body.data] == list(range(len(body.data)))
        assert body.usage.total_tokens >= body.usage.prompt_tokens > 0
        found += [one.embedding for one in body.data]
    same(found, stored["f32"][:5])
