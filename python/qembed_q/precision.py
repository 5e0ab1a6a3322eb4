"""Vectors in fewer bits, as sentence-transformers has them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError

#: What a value of a vector is. ``binary`` and ``ubinary`` have a bit for each value above zero, eight in a byte.
Precision: TypeAlias = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]


def int8_range(dim: int) -> tuple[np.float32, np.float32]:
    """The range of ``int8`` and ``uint8`` for vectors of so many dimensions: from -4/√d to 4/√d, in 256 levels.

    A value of a unit vector has a standard deviation of 1/√d. A vector's levels depend on nothing but the vector.
    """
    end = np.float32(4.0 / np.sqrt(float(dim)))
    return -end, end


def check(precision: Precision, normalize: bool) -> None:
    """Raises OptionError where vectors, of length 1 or not, cannot be had in a precision."""
    if precision not in get_args(Precision):
        raise OptionError(f"precision={precision!r}: there are {', '.join(get_args(Precision))}")
    if precision in ("int8", "uint8") and not normalize:
        raise OptionError(f"normalize=False: {precision} has levels for vectors of length 1")


def quantized(vectors: NDArray[np.float32], precision: Precision) -> NDArray[Any]:
    """Vectors, [texts × dimensions], in another precision: bit for bit what ``quantize_embeddings`` of sentence-transformers gives,
    for ``int8`` and ``uint8`` with `int8_range` as its ranges.
    """
    match precision:
        case "float32":
            return vectors
        case "float16":
            return vectors.astype(np.float16)
        case "int8" | "uint8":
            low, high = int8_range(vectors.shape[-1])
            levels: NDArray[np.float32] = np.clip(np.floor((vectors - low) / ((high - low) / np.float32(255))), 0, 255)
            return (levels - 128).astype(np.int8) if precision == "int8" else levels.astype(np.uint8)
        case "ubinary":
            return _bits(vectors)
        case "binary":
            return (_bits(vectors).astype(np.int16) - 128).astype(np.int8)


def _bits(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A bit for each value above zero, the first in the highest of its byte."""
    return np.packbits(vectors > 0, axis=-1)
