"""The passages of a few that answer a query.

    python search.py "what happens when memory is short?" [MODEL]
"""

import sys

import numpy as np

from qembed_q import Embedder

PASSAGES = [
    "A model larger than the free memory still runs, only slower.",
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other.",
]

query = sys.argv[1] if len(sys.argv) > 1 else "what happens when memory is short?"
embedder = Embedder(sys.argv[2] if len(sys.argv) > 2 else None)
cosines = embedder.similarity(embedder.encode_query(query), embedder.encode(PASSAGES))[0]
for at in np.argsort(-cosines):
    print(f"{cosines[at]:.3f}  {PASSAGES[at]}")
