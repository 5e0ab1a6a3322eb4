"""sentence-transformers: a `SentenceTransformer` whose vectors come from here.

It is one of theirs: prompts, similarities, evaluators and whatever else takes one work as they do. What the engine does not do is an
error: training, saving, vectors of tokens, other devices, several processes.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, cast

try:
    import sentence_transformers
    import torch
    from sentence_transformers.base.modules import InputModule
    from sentence_transformers.util.quantization import quantize_embeddings
except ImportError as error:
    raise ImportError(
        'qembed_q.sentence_transformers needs sentence-transformers 6: pip install "qembed-q[sentence-transformers]"'
    ) from error

from ._qembed_q import DEFAULT_TASK
from .adapter import opened
from .errors import OptionError
from .tasks import named

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .adapter import Model
    from .embedder import Embedder, Empty, Opening, Truncate

_INSTRUCTION = re.compile(r"Instruct: (.+)\nQuery:", re.DOTALL)


class QembedModule(InputModule):
    """The engine as the one module of a model."""

    def __init__(self, embedder: Embedder, truncate: Truncate, empty: Empty) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.embedder = embedder
        self.truncate = truncate
        self.empty = empty

    def vectors(self, texts: list[str], prompt: str | None, **options: Any) -> Any:
        """Vectors of texts, [texts × dimensions], as NumPy has them."""
        instruction = None
        if prompt:
            if found := _INSTRUCTION.fullmatch(prompt):
                instruction = found[1]
            else:
                texts = [prompt + text for text in texts]
        how = {"instruction": instruction, "truncate": self.truncate, "empty": self.empty, **options}
        return self.embedder.encode(texts, **how)

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Token ids, [texts × tokens], end token left out, and the texts themselves, which are what is embedded."""
        ids = [self.embedder.tokenize((prompt or "") + text) for text in inputs]
        rows = [torch.tensor(row, dtype=torch.int64) for row in ids]
        masks = [torch.ones_like(row) for row in rows]
        padded = [torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in (rows, masks)]
        return {"input_ids": padded[0], "attention_mask": padded[1], "texts": list(inputs), "prompt": prompt}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding``, [texts × dimensions]. There is no gradient."""
        vectors = self.vectors(features["texts"], features["prompt"])
        return {**features, "sentence_embedding": torch.from_numpy(vectors)}

    def get_embedding_dimension(self) -> int:
        """Dimensions of the model."""
        return self.embedder.dim

    @property
    def max_seq_length(self) -> int:
        """The most tokens that a text may have, prompt and end token included."""
        return self.embedder.max_tokens

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        if value != self.embedder.max_tokens:
            raise OptionError(f"max_seq_length={value}: the model reads {self.embedder.max_tokens} tokens, and texts are cut there alone")

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Raises OptionError: the model is its GGUF file."""
        raise OptionError(f"{output_path}: the model is its GGUF file and is not saved in another form")


class SentenceTransformer(sentence_transformers.SentenceTransformer):
    """A model of sentence-transformers whose vectors come from here.

    As there, a text that is longer than the model's context is cut at its right end, and an empty one has the vector of the end token.
    """

    def __init__(
        self,
        model_name_or_path: Model = None,
        *,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        instruction: str | None = None,
        task: str | None = None,
        similarity_fn_name: Any = None,
        truncate_dim: int | None = None,
        truncate: Truncate = "right",
        empty: Empty = "end",
        **opening: Unpack[Opening],
    ) -> None:
        """
        Args:
            model_name_or_path: A GGUF file, the name of a model on this machine, or an open `Embedder`; ``None`` for the built-in model.
            prompts: What may stand before texts, by name. ``"Instruct: …\\nQuery:"`` is an instruction.
            default_prompt_name: The prompt of `encode` where none is given.
            instruction: What ``prompts["query"]`` says, in your own words; by default the model's usual instruction.
            task: The same by the name of a task.
            similarity_fn_name: As in sentence-transformers.
            truncate_dim: Vectors are cut to so many dimensions; `encode(normalize_embeddings=True)` brings them to length 1.
            truncate: Which end is cut of a text that is too long; ``"error"`` for an error.
            empty: Whether an empty text is an ``"error"``.
            opening: The keywords of `Embedder`.
        """
        if instruction is not None and task is not None:
            raise OptionError("instruction and task say the same in two ways: give one of them")
        words = named(task).instruction if task is not None else instruction or DEFAULT_TASK
        usual = {"query": f"Instruct: {words}\nQuery:" if words else "", "document": ""}
        super().__init__(
            modules=[QembedModule(opened(model_name_or_path, **opening), truncate, empty)],
            device="cpu",
            prompts={**usual, **(prompts or {})},
            default_prompt_name=default_prompt_name,
            similarity_fn_name=similarity_fn_name,
            truncate_dim=truncate_dim,
        )

    @property
    def embedder(self) -> Embedder:
        """The model itself."""
        return self._module.embedder

    @property
    def _module(self) -> QembedModule:
        return cast(QembedModule, self[0])

    def encode(  # type: ignore[override]
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Any = None,
        chunk_size: int | None = None,
        *,
        sentences: Any = None,
        task: str | None = None,
    ) -> Any:
        """Vectors, [texts × dimensions]; of a string its vector, [dimensions].

        As in sentence-transformers, except that ``batch_size`` and ``chunk_size`` say nothing: a vector does not depend on what else is
        in the call, and the engine makes its own batches. Vectors have length 1; those cut by ``truncate_dim`` have it with
        ``normalize_embeddings`` alone. ``precision="int8"`` and ``"uint8"`` take their ranges from the texts of the call, as there;
        those of `Embedder.encode` depend on the text alone.
        """
        if output_value != "sentence_embedding":
            raise OptionError(f"output_value={output_value!r}: there are vectors of texts alone, sentence_embedding")
        if device is not None and str(device) != "cpu":
            raise OptionError(f"device={device!r}: where the model runs is said when it is opened")
        if pool is not None:
            raise OptionError("pool: work is shared by threads; open the model with threads=…")
        if batch_size <= 0:
            raise OptionError(f"batch_size={batch_size}: it is 1 or more")
        if precision not in (None, "float32", "int8", "uint8", "binary", "ubinary"):
            raise OptionError(f"precision={precision!r}: there are float32, int8, uint8, binary, ubinary")
        texts = inputs if sentences is None else sentences
        single = isinstance(texts, str)
        rows = [texts] if single else list(texts)
        if show_progress_bar is None:
            level = logging.getLogger("sentence_transformers").getEffectiveLevel()
            show_progress_bar = level in (logging.INFO, logging.DEBUG)
        dim = self.truncate_dim if truncate_dim is None else truncate_dim
        if dim is not None and not 1 <= dim <= self.embedder.dim:
            raise OptionError(f"truncate_dim={dim}: the model has {self.embedder.dim} dimensions")
        how = {"progress": show_progress_bar, "dim": dim if normalize_embeddings else None}
        vectors = self._module.vectors(rows, self._resolve_prompt(prompt, prompt_name), **how)
        if dim is not None:
            vectors = vectors[:, :dim].copy()
        if len(rows) and precision not in (None, "float32"):
            vectors = quantize_embeddings(vectors, precision=precision)  # type: ignore[arg-type]
        if convert_to_tensor or not convert_to_numpy:
            vectors = torch.from_numpy(vectors)
            if not convert_to_tensor:
                vectors = list(vectors)
        return vectors[0] if single else vectors
