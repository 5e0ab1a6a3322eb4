"""Haystack: a pipeline that indexes and one that searches.   with_haystack.py [MODEL.gguf]"""

import sys

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from qembed_q.haystack import QembedDocumentEmbedder, QembedTextEmbedder

model = sys.argv[1] if len(sys.argv) > 1 else None
store = InMemoryDocumentStore()

indexing = Pipeline()
indexing.add_component("embedder", QembedDocumentEmbedder(model))
indexing.add_component("writer", DocumentWriter(store))
indexing.connect("embedder", "writer")
texts = ["The capital of China is Beijing.", "Gravity attracts bodies.", "Bread is baked of flour and water."]
indexing.run({"embedder": {"documents": [Document(content=text) for text in texts]}})

querying = Pipeline()
querying.add_component("embedder", QembedTextEmbedder(model))
querying.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=2))
querying.connect("embedder.embedding", "retriever.query_embedding")
result = querying.run({"embedder": {"text": "What is the capital of China?"}})
for document in result["retriever"]["documents"]:
    print(f"{document.score:.3f}  {document.content}")
