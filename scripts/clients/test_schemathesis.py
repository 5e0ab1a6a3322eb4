"""schemathesis: requests right and wrong, made of /openapi.json, and the answers held against it.

Where the schema says that only JSON is taken, requests of another content type are taken too, on purpose: curl and browsers send
JSON without its content type.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import KEY


@pytest.mark.parametrize("with_key", [False, True])
def test_schemathesis(request, tmp_path, with_key):
    address = request.getfixturevalue("keyed" if with_key else "server")
    program = Path(sys.executable).with_name("schemathesis")
    options = ["--checks", "all", "--max-examples", "50", "--seed", "19", "--generation-database", "none", "--no-color"]
    options += ["--header", f"Authorization: Bearer {KEY}"] if with_key else []
    command = [program, "run", f"{address}/openapi.json", *options]
    run = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
