"""LangChain: `Embeddings` for any of its vector stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise ImportError('qembed_q.langchain needs langchain-core: pip install "qembed-q[langchain]"') from error

from .adapter import Sides

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .adapter import AdapterOptions, Model


class QembedEmbeddings(Embeddings):
    """Queries have the instruction, documents have none."""

    def __init__(self, model: Model = None, **options: Unpack[AdapterOptions]) -> None:
        """Opens a model: `qembed_q.adapter.AdapterOptions` says with which keywords."""
        self._sides = Sides(model, **options)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Vectors of what is to be found."""
        return cast("list[list[float]]", self._sides.documents(texts).tolist())

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return cast("list[float]", self._sides.queries(text).tolist())

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents` on a thread of its own; cancelled with its task."""
        return cast("list[list[float]]", (await self._sides.adocuments(texts)).tolist())

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` on a thread of its own; cancelled with its task."""
        return cast("list[float]", (await self._sides.aqueries(text)).tolist())
