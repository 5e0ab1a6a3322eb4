"""What docs/frameworks.md shows, with the built-in model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "frameworks.md"
BLOCKS = dict(re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


def test_all_are_found():
    assert sorted(BLOCKS) == sorted(
        ["Chroma", "Haystack", "LanceDB", "LangChain", "LlamaIndex", "fastembed", "mteb", "sentence-transformers", "txtai"]
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_block(name, tmp_path):
    assert '"model.gguf"' in BLOCKS[name]
    code = BLOCKS[name].replace('"model.gguf"', "None")
    if name == "mteb":
        # These tasks' data would be downloaded; test_mteb.py runs others.
        code = code.replace("mteb.evaluate(", "print(")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if name not in ("fastembed", "mteb", "sentence-transformers", "txtai"):
        assert "Beijing" in done.stdout
