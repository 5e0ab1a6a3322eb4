"""schemathesis: requests right and wrong, made of /openapi.json, and their answers held against it.

What is not checked: that another content type than JSON is refused. It is taken on purpose, since curl and browsers send JSON without
its own (test_curl.py).
"""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import KEY, serve

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def with_key():
    """A server of one model, since the schema says which tokens there are, that asks for a key."""
    with serve("--api-key", KEY) as address:
        yield address


@pytest.mark.parametrize(("kind", "seed"), [("server", 1), ("server", 2), ("with_key", 3)])
def test_schemathesis(request, tmp_path, kind, seed):
    address = request.getfixturevalue(kind)
    program = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG]
    options = ["--checks", "all", "--max-examples", "50", "--seed", str(seed), "--generation-database", "none", "--no-color"]
    options += ["--header", f"Authorization: Bearer {KEY}"] if kind == "with_key" else []
    command = [*program, "run", f"{address}/openapi.json", *options]
    run = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
