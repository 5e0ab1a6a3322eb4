"""Vectors as a column of a data frame of Dask.

    import dask.dataframe
    from qembed_q.dask import embed

    rows = dask.dataframe.read_parquet("passages")
    embed(rows, model="/models/qwen3-embedding-0.6b-q4.gguf").to_parquet("vectors")

Every worker opens the model when its first partition comes, and keeps it. One worker a machine (``dask worker --nworkers 1``) is best; where there
are more, they share the pages of the model's file.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import distributed
import pandas
import pyarrow

from .columns import Column
from .embedder import ModelOptions, TextOptions

if TYPE_CHECKING:
    import dask.dataframe
    from typing_extensions import Unpack


def embed(
    df: dask.dataframe.DataFrame,
    *,
    text: str = "text",
    vector: str = "embedding",
    model: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    opening: ModelOptions | None = None,
    **options: Unpack[TextOptions],
) -> dask.dataframe.DataFrame:
    """A data frame with the vectors of its texts as a further column, a fixed-size list of float32 of Arrow.

    The bits of a vector depend on nothing but text, model and instruction set: where machines differ, ``opening={"isa": "avx2"}`` has all of
    them use one.

    Args:
        df: Rows, of any columns; all are kept, and so are the index and its divisions.
        text: The column of texts.
        vector: What the new column is called.
        model: As for `Embedder`; a file must have the same path on every machine, and on this one too unless ``dim`` is given.
        threads: Threads of a worker's engine, whichever partitions it is at; by default as many as the worker has.
        opening: Other options of `Embedder`, such as ``memory``.
        options: As for `Embedder.encode`. A text that is empty or too long ends the job, unless ``empty`` or ``truncate`` says what becomes
            of it.
    """
    column = Column(text, vector, model, options, opening or {})
    column.check(df.columns)
    values = pyarrow.list_(pyarrow.float32(), options.get("dim") or column.open(threads).dim)
    rows: Any = df
    meta = rows._meta.assign(**{vector: pandas.Series(dtype=pandas.ArrowDtype(values))})
    embedded: dask.dataframe.DataFrame = rows.map_partitions(_embedded, column, threads, meta=meta)
    return embedded


#: One partition at a time has all threads; several at once would take the memory of several.
_turn = threading.Lock()


def _embedded(frame: pandas.DataFrame, column: Column, threads: int | None) -> pandas.DataFrame:
    """A partition with its vectors."""
    texts = pyarrow.Table.from_pandas(frame[[column.text]])  # with the index, which an error shows
    embedder = column.kept(threads or _threads())
    with _turn:
        vectors = column.append(embedder, texts).column(column.vector)
    kind = pandas.ArrowDtype(vectors.type)
    return frame.assign(**{column.vector: pandas.Series(pandas.array(vectors, dtype=kind), index=frame.index)})


def _threads() -> int | None:
    """Threads of the worker that this is; ``None`` where it is none."""
    try:
        return int(distributed.get_worker().state.nthreads)
    except ValueError:
        return None
