"""LanceDB: an embedding function of its registry, ``get_registry().get("qembed-q").create(model="model.gguf")``."""

from __future__ import annotations

from typing import Any

try:
    from lancedb.embeddings import TextEmbeddingFunction, register
    from pydantic import ConfigDict, PrivateAttr
except ImportError as error:
    raise ImportError('qembed_q.lancedb needs lancedb: pip install "qembed-q[lancedb]"') from error

from .adapter import Sides


@register("qembed-q")  # type: ignore[no-untyped-call]
class QembedEmbeddings(TextEmbeddingFunction):
    """The source column has no instruction, what is searched for has it. A row without a text has no vector.

    A table keeps the keywords, and makes the function anew where it is opened, provided that this module has been imported. They are
    those of `qembed_q.adapter.AdapterOptions`.
    """

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    instruction: str | None = None
    task: str | None = None
    symmetric: bool = False
    dim: int | None = None
    truncate: str = "error"
    empty: str = "error"
    threads: int | None = None
    memory: int | None = None
    isa: str | None = None
    device: str = "cpu"
    tokenizer: str | None = None
    allow: tuple[str, ...] = ()
    #: What is wrong once is wrong again.
    max_retries: int = 0

    _sides: Sides = PrivateAttr()

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._sides = Sides(**self.model_dump(exclude={"max_retries"}))

    def ndims(self) -> int:
        """Dimensions of the vector column."""
        return self._sides.dim

    def generate_embeddings(self, texts: Any, *_: Any, **__: Any) -> list[Any]:
        """Vectors of the source column."""
        present = [text for text in texts if text is not None]
        vectors = iter(self._sides.documents(present))
        return [None if text is None else next(vectors) for text in texts]

    def compute_query_embeddings(self, query: Any, *_: Any, **__: Any) -> list[Any]:
        """The vector of what is searched for."""
        return list(self._sides.queries(self.sanitize_input(query)))
