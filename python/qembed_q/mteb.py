"""mteb 2: an encoder for its tasks, ``mteb.evaluate(QembedEncoder("model.gguf"), tasks)``."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType
except ImportError as error:
    raise ImportError('qembed_q.mteb needs mteb 2: pip install "qembed-q[mteb]"') from error

from .adapter import Sides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import Array, BatchedInput, EncodeKwargs
    from torch.utils.data import DataLoader
    from typing_extensions import Unpack

    from .adapter import Model
    from .embedder import Empty, Truncate


class QembedEncoder(AbsEncoder):
    """Every task has its own instruction, as mteb has it for Qwen3-Embedding: before queries, and before all texts of a task that
    compares texts with one another; never before documents.

    As in the model's reference implementation, a text that is longer than the model's context is cut at its right end, and an empty one
    has the vector of the end token.
    """

    mteb_model_meta: ModelMeta

    def __init__(
        self,
        model_name: Model = None,
        revision: str | None = None,
        *,
        device: str | None = None,
        prompts: Mapping[str, str] | None = None,
        dim: int | None = None,
        truncate: Truncate = "right",
        empty: Empty = "end",
        **opening: Any,
    ) -> None:
        """
        Args:
            model_name: A GGUF file, the name of a model on this machine, or an open `Embedder`; ``None`` for the built-in model.
            revision: What results are filed under; by default the file's SHA-256.
            device: Where the model runs.
            prompts: Instructions in the place of mteb's, by the name of a task, by its type, or by ``"query"``.
            dim: Vectors are cut to so many dimensions, before they are brought to length 1.
            truncate: Which end is cut of a text that is too long; ``"error"`` for an error.
            empty: Whether an empty text is an ``"error"``.
            opening: The other keywords of `Embedder`.
        """
        if device is not None:
            opening["device"] = device
        sides = Sides(model_name, dim=dim, truncate=truncate, empty=empty, **opening)
        self.embedder = sides.embedder
        self.prompts_dict = dict(prompts) if prompts else None
        self._how: Any = {"dim": dim, "truncate": truncate, "empty": empty}
        name = f"{self.embedder.name or 'model'}-{self.embedder.level}".replace(" ", "-").replace("/", "-")
        experiment: dict[str, Any] = {"dim": dim}
        experiment |= {name: value for name, value in (("truncate", truncate), ("empty", empty)) if value not in ("right", "end")}
        if self.prompts_dict:
            experiment["prompts"] = hashlib.sha256(json.dumps(self.prompts_dict, sort_keys=True).encode()).hexdigest()[:12]
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"qembed-q/{name}",
                "revision": revision or self.embedder.digest,
                "memory_usage_mb": self.embedder.file_size / 2**20,
                "max_tokens": self.embedder.max_tokens,
                "embed_dim": sides.dim,
                "open_weights": True,
                "framework": ["GGUF"],
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": True,
                # Results of other settings are filed elsewhere.
                "experiment_kwargs": {key: value for key, value in experiment.items() if value} or None,
            }
        )

    def instruction(self, task_metadata: TaskMetadata, prompt_type: PromptType | None) -> str | None:
        """The instruction of a task's texts; ``None`` where they have none."""
        if prompt_type == PromptType.document:
            return None
        found: Any = self.get_instruction(task_metadata, prompt_type)
        if isinstance(found, dict):
            # One for each side, and texts that are on none.
            found = next(iter(found.values()))
        return found or None

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Unpack[EncodeKwargs],  # type: ignore[misc, unused-ignore]
    ) -> Array:
        """Vectors of a task's texts, [texts × dimensions]. ``batch_size`` says nothing: the engine makes its own batches."""
        if unknown := set(kwargs) - {"batch_size", "show_progress_bar", "precision"}:
            raise TypeError(f"{', '.join(sorted(unknown))}: there are batch_size, show_progress_bar and precision")
        texts = [text for batch in inputs for text in batch["text"]]
        instruction = self.instruction(task_metadata, prompt_type)
        precision, progress = kwargs.get("precision", "float32"), kwargs.get("show_progress_bar", False)
        how: Any = {"instruction": instruction, "precision": precision, "progress": progress, **self._how}
        return self.embedder.encode(texts, **how)
