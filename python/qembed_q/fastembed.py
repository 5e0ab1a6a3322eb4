"""The interface of fastembed's ``TextEmbedding``, without fastembed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .adapter import Sides
from .errors import OptionError

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from .adapter import Model

#: The models that have a name: `qembed-q pull NAME` brings one.
_MODELS: list[dict[str, Any]] = [
    {
        "model": name,
        "sources": {"hf": f"Qwen/Qwen3-Embedding-{name.upper()}-GGUF", "url": None},
        "dim": dim,
        "description": f"Qwen3-Embedding with {name[:-1]} billion parameters; queries have an instruction",
        "license": "apache-2.0",
    }
    for name, dim in (("0.6b", 1024), ("4b", 2560), ("8b", 4096))
]


class TextEmbedding:
    """Passages have no instruction, queries have it."""

    def __init__(
        self,
        model_name: Model = None,
        cache_dir: str | None = None,
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
        cuda: Any = None,
        device_ids: list[int] | None = None,
        lazy_load: bool = False,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model_name: A GGUF file, the name of a model on this machine, or an open `Embedder`; ``None`` for the built-in model.
            threads: Threads to work with.
            lazy_load: The model is opened when it is used first.
            cache_dir: Not there, and neither are ``providers``, ``cuda`` and ``device_ids``.
            kwargs: The other keywords of `qembed_q.adapter.AdapterOptions`.
        """
        for name, value in (("cache_dir", cache_dir), ("providers", providers), ("cuda", cuda), ("device_ids", device_ids)):
            if value:
                raise OptionError(f"{name}: models are found by file or by name, and run where device says")
        self.model_name = model_name
        self._options = kwargs if threads is None else {"threads": threads, **kwargs}
        if not lazy_load:
            self._sides  # noqa: B018

    @functools.cached_property
    def _sides(self) -> Sides:
        return Sides(self.model_name, **self._options)

    @classmethod
    def list_supported_models(cls) -> list[dict[str, Any]]:
        """The models that have a name. Any Qwen3-Embedding GGUF file can be opened."""
        return [{**model} for model in _MODELS]

    @classmethod
    def get_embedding_size(cls, model_name: str) -> int:
        """Dimensions of a model that has a name."""
        for model in _MODELS:
            if model["model"] == model_name.lower():
                return int(model["dim"])
        names = ", ".join(model["model"] for model in _MODELS)
        raise ValueError(f"{model_name} is not one of {names}; embedding_size is that of an open model")

    @property
    def embedding_size(self) -> int:
        """Dimensions of the vectors."""
        return self._sides.dim

    def embed(
        self, documents: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterable[NDArray[float32]]:
        """Vectors of passages, one after the other.

        Args:
            documents: A text, or any number of them.
            batch_size: Texts that are read before their vectors come.
            parallel: Work is shared by threads: ``None``, 0 or 1.
        """
        return self._vectors(documents, batch_size, parallel, self._sides.document)

    def query_embed(
        self, query: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterable[NDArray[float32]]:
        """Vectors of queries, with the instruction."""
        return self._vectors(query, batch_size, parallel, self._sides.query)

    def passage_embed(
        self, texts: Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterable[NDArray[float32]]:
        """`embed` by another name."""
        return self.embed(texts, batch_size, parallel)

    def token_count(self, texts: str | Iterable[str], batch_size: int = 1024) -> int:
        """The number of tokens of all passages, end tokens included."""
        embedder = self._sides.embedder
        return sum(embedder.count([texts] if isinstance(texts, str) else texts, **self._sides.document))

    def _vectors(
        self, texts: str | Iterable[str], batch_size: int, parallel: int | None, options: Any
    ) -> Iterable[NDArray[float32]]:
        if parallel is not None and parallel > 1:
            raise OptionError(f"parallel={parallel}: work is shared by threads; open the model with threads={parallel}")
        rows = [texts] if isinstance(texts, str) else texts
        return (vector for _, block in self._sides.embedder.stream(rows, batch=batch_size, **options) for vector in block)
