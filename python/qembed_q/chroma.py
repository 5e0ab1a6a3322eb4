"""Chroma: an embedding function, which a collection keeps with its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

try:
    from chromadb.api.types import Embeddable, EmbeddingFunction, Embeddings, Space
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise ImportError('qembed_q.chroma needs chromadb: pip install "qembed-q[chroma]"') from error

from .adapter import Sides

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .adapter import AdapterOptions, Model


@register_embedding_function
class QembedEmbeddingFunction(EmbeddingFunction[Embeddable]):
    """What is added has no instruction, what is asked for has it.

    A collection that is opened again makes its function anew, provided that this module has been imported.
    """

    def __init__(self, model: Model = None, **options: Unpack[AdapterOptions]) -> None:
        """Opens a model: `qembed_q.adapter.AdapterOptions` says with which keywords."""
        self._sides = Sides(model, **options)

    def __call__(self, input: Embeddable) -> Embeddings:
        """Vectors of what is added."""
        return list(self._sides.documents(cast("list[str]", input)))

    def embed_query(self, input: Embeddable) -> Embeddings:
        """Vectors of what is asked for."""
        return list(self._sides.queries(cast("list[str]", input)))

    @staticmethod
    def name() -> str:
        """By what a collection knows it."""
        return "qembed-q"

    def default_space(self) -> Space:
        """The inner product: of vectors of length 1 it is the cosine, and they are kept as they are."""
        return "ip"

    def get_config(self) -> dict[str, Any]:
        """What a collection keeps."""
        return self._sides.config()

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> QembedEmbeddingFunction:
        """The function that a collection has kept."""
        return QembedEmbeddingFunction(**config)

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuses what would make other vectors of documents than the collection has. A file may move."""
        for name in ("dim", "symmetric"):
            if old_config.get(name) != new_config.get(name):
                raise ValueError(f"{name}: the collection's vectors were made with {old_config.get(name)}, not {new_config.get(name)}")
