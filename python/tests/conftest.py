"""What tests share: the program, which is the engine without Python, and models that it makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qembed_q import Embedder

#: Texts of several lengths and scripts.
TEXTS = [
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other.",
    "重力",
    "a",
    "def add(a, b):\n    return a + b\n",
    "long " * 300,
    "😀 and\u0000 zero",
]


@pytest.fixture(scope="session")
def program() -> str:
    """The program of the wheel, or the one that QEMBED_PROGRAM names."""
    beside = str(Path(sys.executable).parent)
    found = os.environ.get("QEMBED_PROGRAM") or shutil.which("qembed-q", path=beside) or shutil.which("qembed-q")
    assert found, "qembed-q is not installed, and QEMBED_PROGRAM names no program"
    return found


@pytest.fixture
def reference(program: str, tmp_path: Path) -> Callable[..., NDArray[Any]]:
    """Vectors of the engine without Python, [texts × dimensions]; of more options than these, as of `qembed-q embed`."""

    def run(texts: list[str], *options: str) -> NDArray[Any]:
        source, target = tmp_path / "texts.jsonl", tmp_path / "vectors.npy"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        subprocess.run([program, "embed", "--input", source, "--output", target, "--force", *options], check=True)
        vectors: NDArray[Any] = np.load(target)
        return vectors

    return run


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder()
