"""LlamaIndex: a retriever over an index, without a language model.   with_llama_index.py [MODEL.gguf]"""

import sys

from llama_index.core import Document, VectorStoreIndex
from qembed_q.llama_index import QembedEmbedding

texts = ["The capital of China is Beijing.", "Gravity attracts bodies.", "Bread is baked of flour and water."]
model = QembedEmbedding(sys.argv[1] if len(sys.argv) > 1 else None)
index = VectorStoreIndex.from_documents([Document(text=text) for text in texts], embed_model=model)
for found in index.as_retriever(similarity_top_k=2).retrieve("What is the capital of China?"):
    print(f"{found.score:.3f}  {found.text}")
