"""The clients of npm: clients.mjs beside them, given the program's vectors."""

import base64
import json
import os
import subprocess
from pathlib import Path

from conftest import TEXTS


def test_node(server, reference, tmp_path):
    lines = [text.replace("\n", " ") for text in TEXTS]
    wanted = {
        "vectors": reference(TEXTS),
        "queries": reference(TEXTS, query=True),
        "short": reference(TEXTS, dimensions=64),
        "of_lines": reference(lines),
    }
    wanted = {name: [base64.b64encode(vector).decode() for vector in vectors] for name, vectors in wanted.items()}
    vectors = tmp_path / "vectors.json"
    vectors.write_text(json.dumps({"texts": TEXTS} | wanted))
    # Modules are looked for beside the script.
    script = Path(os.environ["QEMBED_NODE"]) / "clients.mjs"
    script.write_text(Path(__file__).with_name("clients.mjs").read_text())
    run = subprocess.run(["node", script, server, vectors], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
