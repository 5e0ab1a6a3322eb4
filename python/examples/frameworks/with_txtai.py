"""txtai: an index and a search.   with_txtai.py [MODEL.gguf]"""

import sys
from typing import Any

from qembed_q.txtai import settings
from txtai import Embeddings

embeddings = Embeddings(**settings(sys.argv[1] if len(sys.argv) > 1 else None))
texts = ["The capital of China is Beijing.", "Gravity attracts bodies.", "Bread is baked of flour and water."]
embeddings.index(texts)
found: Any = embeddings.search("What is the capital of China?", 2)
for place, score in found:
    print(f"{score:.3f}  {texts[place]}")
