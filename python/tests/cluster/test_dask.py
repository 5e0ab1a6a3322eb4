"""Data frames of Dask, on two workers."""

import dask.dataframe
import distributed
import pandas
import pytest
from rows import check, read, write

from qembed_q import OptionError, TextError
from qembed_q.dask import embed


@pytest.fixture(scope="module", autouse=True)
def client():
    with distributed.Client(n_workers=2, threads_per_worker=2, dashboard_address=None) as made:
        yield made


def test_the_vectors_are_those_of_one_embedder(tmp_path, client):
    rows = write(tmp_path / "rows", 1500, files=7)
    # Lists are objects for pandas, which Dask does not write.
    frame = dask.dataframe.read_parquet(tmp_path / "rows", dtype_backend="pyarrow")
    embedded = embed(frame, dim=128, prompt_name="query")
    assert embedded.dtypes["embedding"].pyarrow_dtype.list_size == 128
    embedded.to_parquet(tmp_path / "out", write_index=False)
    check(read(tmp_path / "out"), rows, dim=128, prompt_name="query")

    def state():
        from qembed_q import columns

        return [embedder.threads for embedder in columns._kept.values()]

    assert list(client.run(state).values()) == [[2], [2]], "each worker opens the model once, with its threads"


def test_an_index_and_its_divisions_are_kept():
    frame = pandas.DataFrame({"text": [f"text {i}" for i in range(9)]}, index=range(10, 19))
    embedded = embed(dask.dataframe.from_pandas(frame, npartitions=3))
    assert embedded.divisions == (10, 13, 16, 18)
    assert list(embedded.compute().index) == list(frame.index)


def test_a_text_that_cannot_be_embedded_ends_the_job_and_is_named():
    frame = pandas.DataFrame({"text": ["a", "b", None]}, index=pandas.Index(["x", "y", "z"], name="key"))
    with pytest.raises(TextError, match="is null.*'key': 'z'"):
        embed(dask.dataframe.from_pandas(frame, npartitions=1)).compute()


def test_columns_are_looked_at_before_the_job():
    frame = dask.dataframe.from_pandas(pandas.DataFrame({"text": ["a"]}), npartitions=1)
    with pytest.raises(OptionError, match="'body'.*'text'"):
        embed(frame, text="body")
