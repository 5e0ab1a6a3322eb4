"""txtai: settings of an ``Embeddings`` whose vectors come from here, ``Embeddings(**settings("model.gguf"))``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .adapter import Sides

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .adapter import AdapterOptions, Model


def settings(model: Model = None, **options: Unpack[AdapterOptions]) -> dict[str, Any]:
    """Settings of ``Embeddings``: what is indexed has no instruction, what is searched for has it.

    Args:
        model: As for every adapter.
        options: Those of `qembed_q.adapter.AdapterOptions`.
    """
    sides = Sides(model, **options)
    # txtai puts what stands here before a text, as the engine does, and asks for vectors of both sides in the same way.
    instructions = {
        category: f"Instruct: {side['instruction']}\nQuery:"
        for category, side in (("query", sides.query), ("data", sides.document))
        if side["instruction"] is not None
    }
    plain: Any = {**sides.document, "instruction": None}

    # txtai takes a plain function only; of any other it takes what it gives when it is called.
    def transform(texts: list[str]) -> Any:
        return sides.embedder.encode(texts, **plain)

    return {"method": "external", "transform": transform, "instructions": instructions}
