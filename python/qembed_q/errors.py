"""What can go wrong, in the engine's own words."""

from __future__ import annotations


class QembedError(Exception):
    """Any error of the engine."""

    def __init__(self, message: str, text: int | None = None) -> None:
        super().__init__(message)
        #: The text that it is about, if it is about one: its index in the call, from 0. Messages count from 1.
        self.text = text

    def __reduce__(self) -> tuple[type[QembedError], tuple[str, int | None]]:
        return type(self), (str(self), self.text)


class ModelError(QembedError):
    """A file that is no model, a damaged one, or one that is not understood."""


class ModelNotFound(ModelError, FileNotFoundError):
    """There is no such file, and no model of that name on this machine."""


class TextError(QembedError, ValueError):
    """A text that cannot be embedded: empty, too long, null, not Unicode."""


class OptionError(QembedError, ValueError):
    """An option that cannot be had: a dimension, an instruction set, an array of another shape."""


class MemoryBudgetError(QembedError, MemoryError):
    """The model, or a text, takes more memory than there may be."""


class Cancelled(QembedError):
    """The call was called off."""
