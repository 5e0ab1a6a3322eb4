"""Servers that the tests of clients ask, and the program's own vectors, which they compare with.

`scripts/check_clients.py` says how to run the tests; the environment tells them what to run:
QEMBED_PROGRAM, the program, and QEMBED_QWEN, a model file with the vocabulary of Qwen (small, of random weights).
"""

import array
import base64
import os
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

TARGET = Path(__file__).resolve().parents[2] / "target"
PROGRAM = os.environ.get("QEMBED_PROGRAM", str(TARGET / "release" / "qembed-q"))
QWEN = os.environ.get("QEMBED_QWEN", str(TARGET / "clients" / "qwen.gguf"))
KEY = "a-key-for-tests"

# What texts may hold, in several languages and scripts, line breaks and blanks at both ends.
TEXTS = [
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other.",
    "  two blanks before, a line break after\n",
    "fn main() {\n\tprintln!(\"Hello\");\n}",
    "Größe, naïve, Ελλάδα, Москва, 日本語のテキスト, 한국어, العربية",
    "e\u0301 and \u00e9, \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467, \u202eright to left\u202c",
    "1234567890 3.14159 1,000,000",
]
INSTRUCTION = "Given a complaint of a customer, find the article that helps"


def bits(vector):
    """A vector's float32 bytes, whether it came as numbers or in base64."""
    return base64.b64decode(vector) if isinstance(vector, str) else array.array("f", vector).tobytes()


class Reference:
    """Vectors as the program writes them without a server, as float32 bytes."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __call__(self, texts, *, instruction=None, query=False, dimensions=None, truncate=None):
        options = ["--format", "raw"]
        options += ["--instruct", instruction] if instruction is not None else []
        options += ["--query"] if query else []
        options += ["--dim", str(dimensions)] if dimensions is not None else []
        options += ["--truncate", truncate] if truncate is not None else []
        lines = None
        if not any("\n" in text or "\r" in text for text in texts):
            lines, arguments = "".join(text + "\n" for text in texts).encode(), []
        else:
            arguments = ["--", *texts]
        command = [PROGRAM, *self.arguments, *options, *arguments]
        vectors = subprocess.run(command, input=lines, check=True, stdout=subprocess.PIPE).stdout
        size, rest = divmod(len(vectors), len(texts))
        assert size > 0 and rest == 0, f"{len(vectors)} bytes for {len(texts)} texts"
        return [vectors[at : at + size] for at in range(0, len(vectors), size)]

    def one(self, text, **options):
        return self([text], **options)[0]


@contextmanager
def serve(*arguments):
    """Runs a server on a free port, and gives its address; in the end it has to stop by itself, without a fault."""
    command = [PROGRAM, "serve", "--port", "0", *arguments]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = []
    for line in server.stderr:
        said.append(line)
        if "listening on " in line:
            break
    else:
        pytest.exit(f"{' '.join(command)}: ended with {server.wait()} before it listened:\n{''.join(said)}", 1)
    # What it says later must not stop it.
    threading.Thread(target=server.stderr.read, daemon=True).start()
    try:
        yield line.split()[-1]
        assert server.poll() is None, f"the server ended by itself, with {server.returncode}"
    finally:
        server.terminate()
        try:
            code = server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            code = "nothing: it went on"
    assert code == 0, f"the server was stopped and ended with {code}"


@pytest.fixture(scope="session")
def server():
    """A server with the built-in model and all settings as they are without options."""
    with serve() as address:
        yield address


@pytest.fixture(scope="session")
def keyed():
    """A server with two models, `qwen` (its vocabulary is Qwen's) and `small` (the built-in one), that asks for a key."""
    with serve("--gguf", f"qwen={QWEN}", "--gguf", "small=builtin", "--api-key", KEY) as address:
        yield address


@pytest.fixture(scope="session")
def reference():
    """Vectors of the built-in model."""
    return Reference()


@pytest.fixture(scope="session")
def qwen():
    """Vectors of the model with Qwen's vocabulary."""
    return Reference("--gguf", QWEN)


@pytest.fixture(scope="session")
def native(reference):
    """How many dimensions the built-in model has."""
    return len(reference.one("x")) // 4


@pytest.fixture(scope="session")
def too_long(server):
    """A text with more tokens than the built-in model takes."""
    import httpx

    limit = httpx.get(f"{server}/v1/models/builtin").json()["qembed"]["max_tokens"]
    return "first " + "many words " * limit + "last"


def pytest_report_header():
    version = subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return f"{version}; QEMBED_QWEN={QWEN}"
