"""Rows with texts in Parquet, and whether they have come back: none lost, none twice, each with its own vector."""

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from qembed_q import Embedder

#: Columns that are to be kept as they are.
COLUMNS = ["id", "text", "weight", "tags"]


def write(folder: Path, rows: int, files: int) -> pyarrow.Table:
    """Writes rows with numbers as ids, and gives them."""
    table = pyarrow.table(
        {
            "id": range(rows),
            "text": [f"The {i}th of them is about{' rivers and their banks' * (i % 9)}." for i in range(rows)],
            "weight": [None if i % 5 == 0 else i / 8 for i in range(rows)],
            "tags": [[str(i)] * (i % 3) for i in range(rows)],
        }
    )
    folder.mkdir()
    for file in range(files):
        first, after = rows * file // files, rows * (file + 1) // files
        pyarrow.parquet.write_table(table.slice(first, after - first), folder / f"{file}.parquet")
    return table


def read(folder: Path) -> pyarrow.Table:
    """What a job has written, in the order of ids."""
    return pyarrow.parquet.read_table(folder).sort_by("id")


def matrix(table: pyarrow.Table) -> np.ndarray:
    """The column of vectors, [rows × dimensions]."""
    vectors = table["embedding"].combine_chunks()
    return vectors.flatten().to_numpy().reshape(len(vectors), -1)


def check(found: pyarrow.Table, rows: pyarrow.Table, **options: object) -> None:
    """Every row once and as it was, with the bits of a vector that `Embedder.encode` gives alone."""
    assert found["id"].to_pylist() == rows["id"].to_pylist(), "rows are lost, or there twice"
    for column in COLUMNS:
        assert found[column].to_pylist() == rows[column].to_pylist(), f"{column} is changed"
    expected = Embedder().encode(rows["text"].to_pylist(), **options)
    vectors = matrix(found)
    assert vectors.dtype == np.float32 and vectors.shape == expected.shape
    wrong = np.flatnonzero((vectors.view(np.uint32) != expected.view(np.uint32)).any(axis=1))
    assert not len(wrong), f"the vectors of {len(wrong)} rows, the first of them {wrong[:5]}, have other bits"
