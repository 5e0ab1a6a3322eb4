"""LanceDB: a table that embeds its column of texts, and is searched by text.   with_lancedb.py [MODEL.gguf]"""

import sys
import tempfile

import lancedb
import qembed_q.lancedb  # registers "qembed-q"
from lancedb.embeddings import EmbeddingFunctionConfig, get_registry

function = get_registry().get("qembed-q").create(model=sys.argv[1] if len(sys.argv) > 1 else None)
config = EmbeddingFunctionConfig(source_column="text", vector_column="vector", function=function)
texts = ["The capital of China is Beijing.", "Gravity attracts bodies.", "Bread is baked of flour and water."]
with tempfile.TemporaryDirectory() as folder:
    table = lancedb.connect(folder).create_table("texts", [{"text": text} for text in texts], embedding_functions=[config])
    # Half of the squared distance of vectors of length 1 is what their cosine lacks of 1.
    for row in table.search("What is the capital of China?").limit(2).to_list():
        print(f"{1 - row['_distance'] / 2:.3f}  {row['text']}")
