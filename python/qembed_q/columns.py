"""Vectors as a column of a table: what Ray, Spark and Dask have in common.

A job says where its model is, and each process that works at it opens that file itself, once. Weights are a mapping, so that all processes of a
machine have them in memory once.
"""

from __future__ import annotations

import os
import reprlib
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from .embedder import Embedder, ModelOptions, TextOptions
from .errors import OptionError, TextError


@dataclass
class Column:
    """What is made of which column, and by which model. Small: it is sent to every process, which opens the model itself."""

    #: The column of texts.
    text: str
    #: The column that vectors go to; there must be none of that name.
    vector: str
    #: As for `Embedder`. A file must have the same path on every machine.
    model: str | os.PathLike[str] | None
    options: TextOptions = field(default_factory=TextOptions)
    opening: ModelOptions = field(default_factory=ModelOptions)

    def __post_init__(self) -> None:
        # Relative paths are those of the process that starts the job, which runs in another folder than those that work.
        self.model = _absolute(self.model)
        if "tokenizer" in self.opening:
            self.opening = {**self.opening, "tokenizer": _absolute(self.opening["tokenizer"])}

    def check(self, names: Collection[str]) -> None:
        """Raises OptionError where columns of these names have no such text, or have such vectors already."""
        if self.text not in names:
            raise OptionError(f"text={self.text!r}: there is no such column, but {', '.join(map(repr, names))}")
        if self.vector in names:
            raise OptionError(f"vector={self.vector!r}: there is such a column already; name another")

    def open(self, threads: int | None) -> Embedder:
        """The model."""
        return Embedder(self.model, threads=threads, **self.opening)

    def kept(self, threads: int | None) -> Embedder:
        """The model, opened by the first call of a process and kept for the others."""
        key = repr((self.model, threads, sorted(self.opening.items())))
        with _lock:
            if key not in _kept:
                _kept[key] = self.open(threads)
            return _kept[key]

    def append(self, embedder: Embedder, table: Any) -> Any:
        """A ``pyarrow.Table`` or ``RecordBatch`` with the column of vectors, a fixed-size list of float32, after its own.

        Raises TextError that shows the row where a text cannot be embedded.
        """
        self.check(table.schema.names)
        try:
            vectors = embedder.encode_arrow(table.column(self.text), **self.options)
        except TextError as error:
            if error.text is None:
                raise
            row = table.slice(error.text, 1).to_pylist()[0]
            raise TextError(f"{error}; in a batch of {len(table)} rows, where it is {reprlib.repr(row)}", error.text) from None
        return table.append_column(self.vector, vectors)


def _absolute(path: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    return os.path.abspath(path) if path is not None and os.path.exists(path) else path


_kept: dict[str, Embedder] = {}
_lock = threading.Lock()
