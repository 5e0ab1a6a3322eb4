"""How far a call has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

#: ``True`` shows a bar; a function is called with the numbers of texts that are done and of all (``None`` where nobody knows).
Progress: TypeAlias = bool | Callable[[int, int | None], object] | None


@contextmanager
def shown(progress: Progress, total: int | None) -> Iterator[Callable[[int], object] | None]:
    """What to call with the number of texts that are done.

    Raises ImportError when a bar is wanted and there is no tqdm.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("progress=True shows a bar of tqdm, which is not installed: pip install tqdm") from error
        with tqdm(total=total, unit=" texts") as bar:
            yield lambda done: bar.update(done - bar.n)
    else:
        yield lambda done: progress(done, total)
