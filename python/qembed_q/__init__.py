"""Text embeddings from Qwen3-Embedding GGUF files, on CPUs: exact, lean and fast.

    from qembed_q import Embedder

    embedder = Embedder("model-q4.gguf")
    vectors = embedder.encode(["The capital of China is Beijing.", "Gravity attracts bodies."])
    query = embedder.encode_query("What is the capital of China?")
    print(embedder.similarity(query, vectors))
"""

from ._qembed_q import DEFAULT_TASK
from ._qembed_q import VERSION as __version__
from .embedder import Embedder
from .errors import Cancelled, MemoryBudgetError, ModelError, ModelNotFound, OptionError, QembedError, TextError
from .tasks import TASKS, Task

__all__ = [
    "DEFAULT_TASK",
    "TASKS",
    "Cancelled",
    "Embedder",
    "MemoryBudgetError",
    "ModelError",
    "ModelNotFound",
    "OptionError",
    "QembedError",
    "Task",
    "TextError",
    "__version__",
]
