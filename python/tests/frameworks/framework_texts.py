"""What the tests embed, and how they compare vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Several scripts, line breaks, blanks at both ends.
DOCUMENTS = [
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other.",
    "  two blanks before, a line break after\n",
    'fn main() {\n\tprintln!("Hello");\n}',
    "Größe, naïve, Ελλάδα, Москва, 日本語のテキスト, 한국어, العربية",
    "e\u0301 and \u00e9, \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467, \u202eright to left\u202c",
    "1234567890 3.14159 1,000,000",
]
QUERIES = ["What is the capital of China?", "Explain gravity", "重力"]
INSTRUCTION = "Given a complaint of a customer, find the article that helps"


def same(found: Any, expected: NDArray[Any]) -> None:
    """The same bits, once numbers are float32 again, and the same shape; and the numbers had no more to lose."""
    array = np.array(found)
    narrow = array.astype(np.float32)
    assert array.dtype == np.float32 or np.array_equal(narrow.astype(array.dtype), array)
    assert narrow.shape == expected.shape
    assert narrow.tobytes() == expected.tobytes()
