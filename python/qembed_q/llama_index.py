"""LlamaIndex: an embedding model for its indexes and retrievers."""

from __future__ import annotations

from typing import Any, cast

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
except ImportError as error:
    raise ImportError('qembed_q.llama_index needs llama-index-core: pip install "qembed-q[llama-index]"') from error

from .adapter import Sides
from .embedder import Embedder


class QembedEmbedding(BaseEmbedding):
    """Queries have the instruction, nodes have none."""

    options: dict[str, Any] = Field(default_factory=dict, description="The model and how it embeds, as to_dict has them.")
    _sides: Sides = PrivateAttr()

    def __init__(
        self, model: str | Embedder | None = None, *, options: dict[str, Any] | None = None, **keywords: Any
    ) -> None:
        """Opens a model.

        Args:
            model: As for every adapter.
            options: All of what `keywords` say and the model, as ``to_dict`` has written them.
            keywords: Those of `qembed_q.adapter.AdapterOptions`, and those of LlamaIndex's ``BaseEmbedding``.
        """
        own = {name: keywords.pop(name) for name in BaseEmbedding.model_fields if name in keywords}
        sides = Sides(model, **keywords) if options is None else Sides(**options, **keywords)
        own.setdefault("model_name", sides.embedder.name)
        super().__init__(**{"options": sides.config(), **own})
        self._sides = sides

    @classmethod
    def class_name(cls) -> str:
        """By what it is known where it was written down."""
        return "QembedEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return cast("list[float]", self._sides.queries(query).tolist())

    def _get_text_embedding(self, text: str) -> list[float]:
        return cast("list[float]", self._sides.documents(text).tolist())

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return cast("list[list[float]]", self._sides.documents(texts).tolist())

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return cast("list[float]", (await self._sides.aqueries(query)).tolist())

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return cast("list[float]", (await self._sides.adocuments(text)).tolist())

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return cast("list[list[float]]", (await self._sides.adocuments(texts)).tolist())
