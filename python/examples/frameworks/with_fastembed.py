"""The interface of fastembed.   with_fastembed.py [MODEL.gguf]"""

import sys

import numpy as np
from qembed_q.fastembed import TextEmbedding

model = TextEmbedding(sys.argv[1] if len(sys.argv) > 1 else None)
texts = ["The capital of China is Beijing.", "Gravity attracts bodies.", "Bread is baked of flour and water."]
documents = np.array(list(model.passage_embed(texts)))
query = next(iter(model.query_embed("What is the capital of China?")))
scores = documents @ query
for place in (-scores).argsort()[:2]:
    print(f"{scores[place]:.3f}  {texts[place]}")
