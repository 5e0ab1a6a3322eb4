"""What the adapters to frameworks have in common: a model, and how it embeds the two sides of a search."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ._qembed_q import DEFAULT_TASK
from .embedder import Embedder, Empty, Opening, TextOptions, Truncate
from .errors import OptionError
from .tasks import named

if TYPE_CHECKING:
    from typing import TypeAlias

    from typing_extensions import Unpack

    #: A file or a name, as `Embedder` takes it; ``None`` for the built-in model; or a model that is open already.
    Model: TypeAlias = str | os.PathLike[str] | Embedder | None


class AdapterOptions(Opening, total=False):
    """The keywords of every adapter: those of `Embedder`, and how texts are embedded."""

    #: What queries are for, in your own words; by default the model's usual instruction.
    instruction: str | None
    #: The same by the name of a task (`qembed_q.TASKS`).
    task: str | None
    #: Documents have the instruction of queries: texts are compared with one another.
    symmetric: bool
    #: Vectors are cut to so many dimensions, before they are brought to length 1.
    dim: int | None
    #: Which end is cut of a text that is too long for the model; by default it is an error.
    truncate: Truncate
    #: Whether a text without a character is an error, as by default, or has the vector of the end token.
    empty: Empty


def opened(model: Model, **opening: Unpack[Opening]) -> Embedder:
    """The model, opened unless it is open.

    Raises:
        OptionError: The model is open, and cannot be opened in another way.
        TypeError: There is no such option.
    """
    if not isinstance(model, Embedder):
        return Embedder(model, **opening)
    if opening:
        raise OptionError(f"{', '.join(opening)}: the model is open already, and stays as it was opened")
    return model


class Sides:
    """A model, and how it embeds queries and documents."""

    def __init__(self, model: Model = None, **options: Unpack[AdapterOptions]) -> None:
        """Opens the model, unless it is open.

        Raises:
            OptionError: Options contradict each other, or the model is open and cannot be opened in another way.
            TypeError: There is no such option.
        """
        how: dict[str, Any] = dict(options)
        instruction, task, symmetric = how.pop("instruction", None), how.pop("task", None), how.pop("symmetric", False)
        if instruction is not None and task is not None:
            raise OptionError("instruction and task say the same in two ways: give one of them")
        if task is not None:
            instruction = named(task).instruction
        elif instruction is None:
            if symmetric:
                raise OptionError("symmetric=True: texts are compared by an instruction, which instruction or task has to say")
            instruction = DEFAULT_TASK
        encoding: TextOptions = {name: how.pop(name) for name in ("dim", "truncate", "empty") if name in how}  # type: ignore[assignment]
        self.embedder = opened(model, **how)
        dim = encoding.get("dim")
        if dim is not None and not 1 <= dim <= self.embedder.dim:
            raise OptionError(f"dim={dim}: the model has {self.embedder.dim} dimensions")
        #: The keywords of `Embedder.encode` for each side.
        self.query: TextOptions = {"instruction": instruction, **encoding}
        self.document: TextOptions = {"instruction": instruction if symmetric else None, **encoding}

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self.query.get("dim") or self.embedder.dim

    def queries(self, texts: str | Iterable[str]) -> NDArray[Any]:
        """Vectors of queries: [texts × dimensions], or of a string [dimensions]."""
        return self.embedder.encode(texts, **self.query)

    def documents(self, texts: str | Iterable[str]) -> NDArray[Any]:
        """Vectors of what is to be found: [texts × dimensions], or of a string [dimensions]."""
        return self.embedder.encode(texts, **self.document)

    async def aqueries(self, texts: str | Iterable[str]) -> NDArray[Any]:
        """`queries` on a thread of its own; it ends where the task is cancelled."""
        return await self.embedder.aencode(texts, **self.query)

    async def adocuments(self, texts: str | Iterable[str]) -> NDArray[Any]:
        """`documents` on a thread of its own; it ends where the task is cancelled."""
        return await self.embedder.aencode(texts, **self.document)

    def config(self) -> dict[str, Any]:
        """The keywords that make the same again, as JSON has them: ``Sides(**config)``. What is as by default is left out."""
        symmetric = self.document.get("instruction") is not None
        options = {"model": self.embedder.model, **self.embedder.opening, **self.query, "symmetric": symmetric}
        usual: dict[str, Any] = {"instruction": DEFAULT_TASK, "device": "cpu", "truncate": "error", "empty": "error"}
        config = {name: value for name, value in options.items() if value and value != usual.get(name)}
        if self.query.get("instruction") is None:
            # No instruction at all is not the usual one.
            config["task"] = "document"
        return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in config.items()}
