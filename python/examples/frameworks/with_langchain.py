"""LangChain: a search in a vector store.   with_langchain.py [MODEL.gguf]"""

import sys

from langchain_core.vectorstores import InMemoryVectorStore
from qembed_q.langchain import QembedEmbeddings

embeddings = QembedEmbeddings(sys.argv[1] if len(sys.argv) > 1 else None)
store = InMemoryVectorStore(embeddings)
store.add_texts(["The capital of China is Beijing.", "Gravity attracts bodies.", "Bread is baked of flour and water."])
for document, score in store.similarity_search_with_score("What is the capital of China?", k=2):
    print(f"{score:.3f}  {document.page_content}")
