from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, TypedDict

from numpy import float32
from numpy.typing import NDArray

from .embedder import ArrowArray

VERSION: str
DEFAULT_TASK: str

class Opening(TypedDict):
    threads: int | None
    memory: int | None
    isa: str | None
    device: str
    tokenizer: str | PathLike[str] | None
    allow: list[str]

class Options(TypedDict):
    instruction: str | None
    dim: int | None
    normalize: bool
    truncate: str
    empty: str

class Watch(TypedDict):
    signals: bool
    progress: Callable[[int], object] | None
    cancel: Cancel | None

class Cancel:
    def __init__(self) -> None: ...
    def set(self) -> None: ...

class Engine:
    def __init__(self, model: str | PathLike[str] | None, opening: Opening) -> None: ...
    def encode(
        self, texts: Sequence[str], out: NDArray[float32] | None, options: Options, watch: Watch
    ) -> NDArray[float32]: ...
    def encode_arrow(self, texts: Any, options: Options, watch: Watch) -> ArrowArray: ...
    def tokenize(self, text: str) -> list[int]: ...
    def detokenize(self, ids: Sequence[int]) -> str: ...
    def count(self, texts: Sequence[str], options: Options) -> list[int]: ...
    @property
    def digest(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def file_size(self) -> int: ...
    @property
    def warnings(self) -> list[str]: ...

def tasks() -> list[tuple[str, list[str], str | None, str, int]]: ...
