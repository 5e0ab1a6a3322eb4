"""Vectors as a column of a data frame of Spark.

    from qembed_q.spark import embed

    rows = spark.read.parquet("passages")
    embed(rows, model="/models/qwen3-embedding-0.6b-q4.gguf").write.parquet("vectors")

Every process of an executor opens the model when its first batch comes, and keeps it for the tasks that follow. There are as many processes as an
executor has tasks at once, and each has the threads of a task: ``spark.task.cpus`` is best what ``spark.executor.cores`` is. All share the
pages of the model's file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow
from pyspark import TaskContext
from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

from .columns import Column
from .embedder import ModelOptions, TextOptions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from typing_extensions import Unpack


def embed(
    df: DataFrame,
    *,
    text: str = "text",
    vector: str = "embedding",
    model: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    opening: ModelOptions | None = None,
    **options: Unpack[TextOptions],
) -> DataFrame:
    """A data frame with the vectors of its texts as a further column, ``array<float>``, which is never null.

    A batch has ``spark.sql.execution.arrow.maxRecordsPerBatch`` rows at most. The bits of a vector depend on nothing but text, model and instruction
    set: where machines differ, ``opening={"isa": "avx2"}`` has all of them use one.

    Args:
        df: Rows, of any columns; all are kept.
        text: The column of texts.
        vector: What the new column is called.
        model: As for `Embedder`; a file must have the same path on every machine.
        threads: Threads of a process; by default the CPUs of a task.
        opening: Other options of `Embedder`, such as ``memory``.
        options: As for `Embedder.encode`. A text that is empty or too long ends the job, unless ``empty`` or ``truncate`` says what becomes
            of it.
    """
    column = Column(text, vector, model, options, opening or {})
    column.check(df.columns)
    schema = StructType([*df.schema.fields, StructField(vector, ArrayType(FloatType(), False), False)])

    def batches(rows: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        context = TaskContext.get()
        embedder = column.kept(threads or (context.cpus() if context else None))
        for batch in rows:
            batch = column.append(embedder, batch)
            # Spark has no list of fixed size.
            last = batch.column(vector).cast(pyarrow.list_(pyarrow.field("element", pyarrow.float32(), nullable=False)))
            yield batch.set_column(batch.num_columns - 1, pyarrow.field(vector, last.type, nullable=False), last)

    return df.mapInArrow(batches, schema)
