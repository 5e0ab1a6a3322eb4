"""Chroma: a collection that embeds what is added and what is asked for.   with_chroma.py [MODEL.gguf]"""

import sys

import chromadb
from chromadb.config import Settings
from qembed_q.chroma import QembedEmbeddingFunction

client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
function = QembedEmbeddingFunction(sys.argv[1] if len(sys.argv) > 1 else None)
collection = client.create_collection("texts", embedding_function=function)
texts = ["The capital of China is Beijing.", "Gravity attracts bodies.", "Bread is baked of flour and water."]
collection.add(ids=["china", "gravity", "bread"], documents=texts)
found = collection.query(query_texts=["What is the capital of China?"], n_results=2)
for text, distance in zip((found["documents"] or [[]])[0], (found["distances"] or [[]])[0]):
    print(f"{1 - distance:.3f}  {text}")
