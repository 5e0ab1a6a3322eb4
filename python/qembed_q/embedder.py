"""A model, ready to use."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._qembed_q import DEFAULT_TASK, Cancel, Engine
from .errors import OptionError, TextError
from .precision import Precision, check, quantized
from .progress import Progress, shown
from .tasks import named

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._qembed_q import Options, Watch

Id = TypeVar("Id")
#: Which end of a text is cut that is too long for the model; by default it is an error.
Truncate: TypeAlias = Literal["error", "left", "right"]
#: Whether an empty text is an error, as by default, or has the vector of the end token, as in the model's reference implementation.
Empty: TypeAlias = Literal["error", "end"]


class ArrowArray(Protocol):
    """An array that any Arrow library takes: ``pyarrow.array(it)``, ``polars.Series(it)``."""

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]: ...


class ModelOptions(TypedDict, total=False):
    """How a model is opened, threads apart: keywords of `Embedder`."""

    memory: int | None
    isa: str | None
    device: Literal["cpu", "metal", "auto"]
    tokenizer: str | os.PathLike[str] | None
    allow: Sequence[str]


class Opening(ModelOptions, total=False):
    """How a model is opened: all keywords of `Embedder`."""

    threads: int | None


class TextOptions(TypedDict, total=False):
    """What is made of texts: keywords of `Embedder.encode`."""

    instruction: str | None
    task: str | None
    prompt_name: str | None
    dim: int | None
    normalize: bool
    truncate: Truncate
    empty: Empty


class EncodeOptions(TextOptions, total=False):
    """The same, and what a value is."""

    precision: Precision


class CallOptions(EncodeOptions, total=False):
    """The same, and where the vectors of one call go, and how it is watched."""

    out: NDArray[np.float32] | None
    progress: Progress


class Embedder:
    """A Qwen3-Embedding model.

    Any number of threads may use one at once, and processes that were forked off after it was opened. Pickled, it is its path and its
    options: where it is unpickled, the file is opened anew, and its pages are shared by all processes of a machine.

    A vector never depends on what else was in the call, nor on threads: the same bits, on one instruction set.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        memory: int | None = None,
        isa: str | None = None,
        device: Literal["cpu", "metal", "auto"] = "cpu",
        tokenizer: str | os.PathLike[str] | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        """Opens a model.

        Args:
            model: A GGUF file, any part of one that is split, or the name of a model that ``qembed-q pull`` has brought (``"0.6b"``);
                ``None`` for the small built-in one, which is good for a first try and for tests.
            threads: Threads to work with; the number of physical cores by default.
            memory: The most memory that a pass may take beside the model, in bytes; by default half of what the system has to give.
            isa: Instruction set, such as ``"avx2"``; by default what QEMBED_ISA names, else the best.
            device: Where the model runs.
            tokenizer: A ``tokenizer.json`` that takes the place of the file's own tokenizer.
            allow: Metadata keys and tensors that may be passed over although they are not understood.

        Raises:
            ModelNotFound: There is no such file, and no model of that name on this machine.
            ModelError: The file is no such model, or is damaged.
            MemoryBudgetError: There is not enough memory.
            OptionError: The machine lacks the instruction set, the device or the threads.
        """
        if model is not None and os.path.exists(model):
            model = os.path.abspath(model)
        self._model = model
        self._opening: dict[str, Any] = {
            "threads": threads,
            "memory": memory,
            "isa": isa,
            "device": device,
            "tokenizer": None if tokenizer is None else os.path.abspath(tokenizer),
            "allow": list(allow),
        }
        self._engine = Engine(model, self._opening)  # type: ignore[arg-type]
        for warning in self._engine.warnings:
            warnings.warn(warning, stacklevel=2)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **self._opening), (self._model,)

    def __repr__(self) -> str:
        model = "built-in" if self._model is None else os.fspath(self._model)
        return f"<Embedder {model}: {self.dim} dimensions, {self.isa}, {self.threads} threads>"

    @property
    def model(self) -> str | None:
        """The file or the name that it was opened by; ``None`` for the built-in model."""
        return None if self._model is None else os.fspath(self._model)

    @property
    def opening(self) -> dict[str, Any]:
        """The keywords that it was opened with."""
        return dict(self._opening)

    @property
    def name(self) -> str:
        """What the file calls the model; empty if it says nothing."""
        return self._engine.name

    @property
    def level(self) -> str:
        """How its weights are quantized, such as ``Q4_K_M``."""
        return self._engine.level

    @property
    def digest(self) -> str:
        """SHA-256 of the file, all parts, in hexadecimal. The first time, all of the file is read."""
        return self._engine.digest

    @property
    def dim(self) -> int:
        """The most dimensions that vectors can have, and by default have."""
        return self._engine.dim

    @property
    def max_tokens(self) -> int:
        """The most tokens that a text may have, instruction and end token included."""
        return self._engine.max_tokens

    @property
    def threads(self) -> int:
        """Threads that work."""
        return self._engine.threads

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._engine.isa

    @property
    def device(self) -> str:
        """The device in use."""
        return self._engine.device

    @property
    def file_size(self) -> int:
        """Bytes of the file, all parts."""
        return self._engine.file_size

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        instruction: str | None = None,
        task: str | None = None,
        prompt_name: str | None = None,
        dim: int | None = None,
        normalize: bool = True,
        precision: Precision = "float32",
        truncate: Truncate = "error",
        empty: Empty = "error",
        out: NDArray[np.float32] | None = None,
        progress: Progress = None,
    ) -> NDArray[Any]:
        """Vectors, [texts × dimensions] in the order of the texts; of a single string its vector, [dimensions].

        Args:
            texts: A string, or strings: a list, a column of a table.
            instruction: What queries are for, in your own words; by default texts have none, as documents have.
            task: The same by the name of a task (`TASKS`).
            prompt_name: ``"query"`` for the model's usual instruction, ``"document"`` for none, or a task.
            dim: Vectors are cut to so many dimensions, before they are brought to length 1.
            normalize: Whether vectors have length 1; else they are the model's final hidden states, cut and no more.
            precision: What a value is.
            truncate: Which end is cut of a text that is too long, instead of an error.
            empty: What becomes of a text without a character.
            out: Where the vectors go, such as a `numpy.memmap`: float32, contiguous.
            progress: ``True`` for a bar, or a function of (done, all).

        Raises:
            TextError: A text cannot be embedded; then there is no vector.
            MemoryBudgetError: A text takes more memory than there may be.
            OptionError: An option cannot be had.
        """
        options = self._options(instruction, task, prompt_name, dim, normalize, truncate, empty)
        rows, single = _rows(texts), isinstance(texts, str)
        if out is not None and precision != "float32":
            raise OptionError(f"precision={precision!r}: out takes float32")
        if out is not None and single and out.ndim == 1:
            out = out.reshape(1, -1)
        with shown(progress, len(rows)) as done:
            watch: Watch = {"signals": _gets_signals(), "progress": done, "cancel": None}
            block = self._encode(rows, out, options, precision, watch)
        return block[0] if single else block

    def encode_query(self, texts: str | Iterable[str], **options: Unpack[CallOptions]) -> NDArray[Any]:
        """`encode` for queries: with the model's usual instruction, unless another is given."""
        if not any(options.get(name) for name in ("instruction", "task", "prompt_name")):
            options["instruction"] = DEFAULT_TASK
        return self.encode(texts, **options)

    def encode_document(self, texts: str | Iterable[str], **options: Unpack[CallOptions]) -> NDArray[Any]:
        """`encode` for what is to be found: without an instruction, unless one is given."""
        return self.encode(texts, **options)

    @overload
    def stream(
        self, items: Iterable[str], *, batch: int = 4096, progress: Progress = None, **options: Unpack[EncodeOptions]
    ) -> Iterator[tuple[list[int], NDArray[Any]]]: ...
    @overload
    def stream(
        self,
        items: Iterable[tuple[Id, str]],
        *,
        batch: int = 4096,
        progress: Progress = None,
        **options: Unpack[EncodeOptions],
    ) -> Iterator[tuple[list[Id], NDArray[Any]]]: ...
    def stream(
        self,
        items: Iterable[Any],
        *,
        batch: int = 4096,
        progress: Progress = None,
        **options: Unpack[EncodeOptions],
    ) -> Iterator[tuple[list[Any], NDArray[Any]]]:
        """Blocks of vectors of any number of texts, in constant memory: ids, and [ids × dimensions].

        Args:
            items: Texts, whose ids are then their numbers, or pairs of an id and a text.
            batch: Texts of a block.
            progress: As for `encode`; of how many, only where ``items`` has a length.
            options: As for `encode`.
        """
        items_of, first = iter(items), 0
        total = len(items) if isinstance(items, Sequence) else None
        with shown(progress, total) as done:
            while rows := list(itertools.islice(items_of, batch)):
                if isinstance(rows[0], str):
                    ids, texts = list(range(first, first + len(rows))), rows
                else:
                    ids, texts = [row[0] for row in rows], [row[1] for row in rows]
                before = first
                first += len(rows)
                tell = None if done is None else lambda count, _: done(before + count)
                yield ids, self.encode(texts, progress=tell, **options)

    def encode_arrow(
        self,
        texts: Any,
        *,
        instruction: str | None = None,
        task: str | None = None,
        prompt_name: str | None = None,
        dim: int | None = None,
        normalize: bool = True,
        truncate: Truncate = "error",
        empty: Empty = "error",
        progress: Progress = None,
    ) -> Any:
        """Vectors as an Arrow array, a fixed-size list of float32.

        Args:
            texts: Strings, as whatever speaks Arrow's PyCapsule interface: an array or a chunked array of pyarrow, a series of polars. They
                are read where they lie.

        Returns:
            A ``pyarrow.FixedSizeListArray`` where ``texts`` are pyarrow's; else an array that any Arrow library takes.
        """
        options = self._options(instruction, task, prompt_name, dim, normalize, truncate, empty)
        total = len(texts) if hasattr(texts, "__len__") else None
        with shown(progress, total) as done:
            watch: Watch = {"signals": _gets_signals(), "progress": done, "cancel": None}
            array = self._engine.encode_arrow(texts, options, watch)
        if type(texts).__module__.startswith("pyarrow"):
            import pyarrow

            return pyarrow.array(array)
        return array

    async def aencode(
        self, texts: str | Iterable[str], *, precision: Precision = "float32", **options: Unpack[TextOptions]
    ) -> NDArray[Any]:
        """`encode` on a thread of its own, so that the event loop goes on. Where the task is cancelled, the work ends at the next layer."""
        cancel = Cancel()
        watch: Watch = {"signals": False, "progress": None, "cancel": cancel}
        how = self._options(**options)
        try:
            block = await asyncio.to_thread(self._encode, _rows(texts), None, how, precision, watch)
        except asyncio.CancelledError:
            cancel.set()
            raise
        return block[0] if isinstance(texts, str) else block

    def similarity(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
        """Cosines of all pairs of two lists of vectors, [a × b]."""
        cosines: NDArray[np.float32] = _unit(a) @ _unit(b).T
        return cosines

    def similarity_pairwise(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
        """Cosines of vectors that stand at the same place, [pairs]."""
        cosines: NDArray[np.float32] = np.sum(_unit(a) * _unit(b), axis=-1)
        return cosines

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text's tokens, without an instruction and without the end token."""
        return self._engine.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of tokens."""
        return self._engine.detokenize(ids)

    @overload
    def count(  # type: ignore[overload-overlap]  # a string is no list of texts
        self, texts: str, **options: Unpack[TextOptions]
    ) -> int: ...
    @overload
    def count(self, texts: Iterable[str], **options: Unpack[TextOptions]) -> list[int]: ...
    def count(self, texts: str | Iterable[str], **options: Unpack[TextOptions]) -> int | list[int]:
        """How many tokens the model reads for each text, instruction and end token included."""
        options.setdefault("empty", "end")
        counts = self._engine.count(_rows(texts), self._options(**options))
        return counts[0] if isinstance(texts, str) else counts

    def _encode(
        self,
        rows: list[str],
        out: NDArray[np.float32] | None,
        options: Options,
        precision: Precision,
        watch: Watch,
    ) -> NDArray[Any]:
        check(precision, options["normalize"])
        try:
            vectors = self._engine.encode(rows, out, options, watch)
        except (TypeError, UnicodeEncodeError):
            _check(rows)
            raise
        return quantized(vectors, precision)

    @staticmethod
    def _options(
        instruction: str | None = None,
        task: str | None = None,
        prompt_name: str | None = None,
        dim: int | None = None,
        normalize: bool = True,
        truncate: Truncate = "error",
        empty: Empty = "error",
    ) -> Options:
        if sum(option is not None for option in (instruction, task, prompt_name)) > 1:
            raise OptionError("instruction, task and prompt_name say the same in three ways: give one of them")
        name = task if task is not None else prompt_name
        if name is not None:
            instruction = named(name).instruction
        return {"instruction": instruction, "dim": dim, "normalize": normalize, "truncate": truncate, "empty": empty}


def _gets_signals() -> bool:
    """Whether this is the thread that handles Ctrl-C."""
    return threading.current_thread() is threading.main_thread()


def _rows(texts: str | Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    return texts if isinstance(texts, list) else list(texts)


def _check(texts: Sequence[Any]) -> None:
    """Names the first that is no text."""
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"text {at + 1} is {text!r} ({type(text).__name__}): texts are strings", at)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(f"text {at + 1} is not Unicode: {error}", at) from error


def _unit(vectors: ArrayLike) -> NDArray[np.float32]:
    """Vectors brought to length 1, [vectors × dimensions]."""
    rows = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    lengths[lengths == 0] = 1
    unit: NDArray[np.float32] = rows / lengths
    return unit
