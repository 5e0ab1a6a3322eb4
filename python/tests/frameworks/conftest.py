"""The program's own vectors, which those of every adapter are compared with, bit for bit.

`scripts/check_frameworks.py` says how to run the tests. QEMBED_PROGRAM is the program, or the `qembed-q` that the shell finds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

# Nothing is fetched, and nothing is told to anybody.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HAYSTACK_TELEMETRY_ENABLED="false",
    ANONYMIZED_TELEMETRY="False",
    TOKENIZERS_PARALLELISM="false",
)

PROGRAM = os.environ.get("QEMBED_PROGRAM") or shutil.which("qembed-q") or "qembed-q"


@pytest.fixture(scope="session")
def reference() -> Callable[..., NDArray[np.float32]]:
    """Vectors of the program, [texts × dimensions]: of documents, or of queries with `--query` or `--instruct`."""

    def run(texts: list[str], *options: str) -> NDArray[np.float32]:
        command = [PROGRAM, "--format", "raw", *options, "--", *texts]
        raw = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        return np.frombuffer(raw, "<f4").reshape(len(texts), -1)

    return run


def same(found: Any, expected: NDArray[Any]) -> None:
    """The same bits, once numbers are float32 again, and the same shape; and the numbers had no more to lose."""
    array = np.array(found)
    narrow = array.astype(np.float32)
    assert array.dtype == np.float32 or np.array_equal(narrow.astype(array.dtype), array)
    assert narrow.shape == expected.shape
    assert narrow.tobytes() == expected.tobytes()


def pytest_report_header() -> str:
    return subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout.strip()
