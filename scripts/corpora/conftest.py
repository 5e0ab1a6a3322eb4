"""Outputs of `qembed-q embed` that the tests open. `scripts/check_corpora.py` says how to run them.

QEMBED_PROGRAM is the program.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy
import pytest

TARGET = Path(__file__).resolve().parents[2] / "target"
PROGRAM = os.environ.get("QEMBED_PROGRAM", str(TARGET / "release" / "qembed-q"))
ROWS = [
    {
        "id": 1000 + i * 7919 % 331,
        "text": f"Text {i}: {'gravity ' * (i % 5)}pulls, 重力 {i * i}",
        "title": f'A "title",\nin two lines, {i}',
        "score": i / 8,
        "count": i - 50 if i % 9 else None,
        "flag": i % 2 == 0,
        "tags": [i, {"a": None, "b": "\u2028"}],
        "nothing": None,
    }
    for i in range(331)
]
KEPT = ["text", "title", "score", "count", "flag", "tags", "nothing"]


def run(*command, code=0):
    done = subprocess.run([PROGRAM, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == code, f"{' '.join(map(str, command))}: {done.stderr}"


class Outputs:
    """Files by their names and options, each made when it is first asked for."""

    def __init__(self, folder):
        self.folder = folder
        self.input = folder / "input.jsonl"
        self.input.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")

    def __call__(self, extension, dtype="f32"):
        path = self.folder / f"{dtype}.{extension}"
        if not path.exists():
            run("embed", "--input", self.input, "--id", "id", "--keep", ",".join(KEPT), "--output", path, "--dtype", dtype)
        return path

    def answers(self, requests):
        """What becomes of a batch of requests."""
        batch, path = self.folder / "batch.jsonl", self.folder / "answers.jsonl"
        batch.write_text("".join(json.dumps(request) + "\n" for request in requests), encoding="utf-8")
        # Requests that cannot be answered are answered with that.
        run("embed", "--input", batch, "--output", path, "--format", "openai-batch", "--on-error", "skip", code=3)
        return path


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    return Outputs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="session")
def vectors(outputs):
    """All vectors as float32, from their bytes alone."""
    return numpy.fromfile(outputs("raw"), "<f4").reshape(len(ROWS), -1)


@pytest.fixture(scope="session")
def stored(vectors):
    """All vectors as each type stores them: those of float32 and float16 by numpy, those of whole numbers by sentence-transformers."""
    quantize = sentence_transformers()
    dimensions = vectors.shape[1]
    end = 4 / dimensions**0.5
    ranges = numpy.array([[-end] * dimensions, [end] * dimensions], numpy.float32)
    return {
        "f32": vectors,
        "f16": vectors.astype(numpy.float16),
        "int8": quantize(vectors, "int8", ranges=ranges),
        "ubinary": quantize(vectors, "ubinary"),
    }


def sentence_transformers():
    """`quantize_embeddings` as it is shipped. Taken out of its module, which would need torch for everything else in it."""
    import ast
    import importlib.metadata

    files = importlib.metadata.files("sentence-transformers")
    source = next(file for file in files if str(file) == "sentence_transformers/util/quantization.py").locate()
    wanted = {"quantize_embeddings", "_get_quantization_ranges"}
    body = [node for node in ast.parse(source.read_text()).body if getattr(node, "name", None) in wanted]
    assert len(body) == len(wanted)
    later = ast.parse("from __future__ import annotations").body
    names = {"np": numpy, "Tensor": type("Tensor", (), {})}
    exec(compile(ast.Module(later + body, []), str(source), "exec"), names)
    return names["quantize_embeddings"]


def pytest_report_header():
    return subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout.strip()
