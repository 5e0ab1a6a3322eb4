"""sentence-transformers: the model in the place of one of theirs.   with_sentence_transformers.py [MODEL.gguf]"""

import sys

from qembed_q.sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1] if len(sys.argv) > 1 else None)
texts = ["The capital of China is Beijing.", "Gravity attracts bodies.", "Bread is baked of flour and water."]
documents = model.encode_document(texts)
query = model.encode_query("What is the capital of China?")
scores = model.similarity(query, documents)[0]
for place in scores.argsort(descending=True)[:2]:
    print(f"{scores[place]:.3f}  {texts[int(place)]}")
