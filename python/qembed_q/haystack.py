"""Haystack: components that embed a query and documents."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise ImportError('qembed_q.haystack needs haystack-ai: pip install "qembed-q[haystack]"') from error

from .adapter import Sides
from .embedder import Embedder

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .adapter import AdapterOptions, Model


class _Component:
    """A model that is opened when the pipeline is warmed up."""

    def __init__(self, model: Model, options: AdapterOptions, **others: Any) -> None:
        self._given: dict[str, Any] = {**options} if model is None else {"model": model, **options}
        self._others = others
        self._opened: Sides | None = None
        if isinstance(model, Embedder):
            self._opened = Sides(model, **options)
            self._given = self._opened.config()

    def warm_up(self) -> None:
        """Opens the model, unless it is open."""
        self._sides()

    def _sides(self) -> Sides:
        if self._opened is None:
            self._opened = Sides(**self._given)
        return self._opened

    def to_dict(self) -> dict[str, Any]:
        """What a pipeline writes down."""
        given = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in self._given.items()}
        return default_to_dict(self, **given, **self._others)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that a pipeline has written down."""
        return default_from_dict(cls, data)


@component
class QembedTextEmbedder(_Component):
    """The vector of a query, with the instruction."""

    def __init__(self, model: Model = None, **options: Unpack[AdapterOptions]) -> None:
        """`qembed_q.adapter.AdapterOptions` says which keywords there are."""
        # Not by super(): the decorator makes another class of this one.
        _Component.__init__(self, model, options)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The vector as ``embedding``."""
        return {"embedding": self._sides().queries(text).tolist()}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` on a thread of its own; it ends where the task is cancelled."""
        return {"embedding": (await self._sides().aqueries(text)).tolist()}


@component
class QembedDocumentEmbedder(_Component):
    """Documents with their vectors, without an instruction."""

    def __init__(
        self,
        model: Model = None,
        *,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        **options: Unpack[AdapterOptions],
    ) -> None:
        """
        Args:
            model: As for every adapter.
            meta_fields_to_embed: Fields of a document's metadata that are put before its content.
            embedding_separator: What stands between them.
            options: Those of `qembed_q.adapter.AdapterOptions`.
        """
        self._fields, self._separator = meta_fields_to_embed or [], embedding_separator
        _Component.__init__(self, model, options, meta_fields_to_embed=self._fields, embedding_separator=embedding_separator)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Copies of the documents, with their vectors, as ``documents``."""
        return self._with(documents, self._sides().documents(self._texts(documents)).tolist())

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` on a thread of its own; it ends where the task is cancelled."""
        return self._with(documents, (await self._sides().adocuments(self._texts(documents))).tolist())

    def _texts(self, documents: list[Document]) -> list[str]:
        fields = [[str(document.meta[name]) for name in self._fields if document.meta.get(name) is not None] for document in documents]
        return [self._separator.join([*before, document.content or ""]) for before, document in zip(fields, documents)]

    @staticmethod
    def _with(documents: list[Document], vectors: list[list[float]]) -> dict[str, Any]:
        return {"documents": [replace(document, embedding=vector) for document, vector in zip(documents, vectors)]}
