"""Data frames of Spark, with two processes of Python."""

import sys

import pytest
from pyspark.sql import SparkSession
from rows import check, read, write

from qembed_q import OptionError
from qembed_q.spark import embed


@pytest.fixture(scope="module")
def spark():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        session = session.config("spark.sql.execution.arrow.maxRecordsPerBatch", "64").getOrCreate()
        yield session
        session.stop()


def test_the_vectors_are_those_of_one_embedder(spark, tmp_path):
    rows = write(tmp_path / "rows", 1500, files=3)
    frame = embed(spark.read.parquet(str(tmp_path / "rows")).repartition(7), dim=128, prompt_name="query")
    frame.write.parquet(str(tmp_path / "out"))
    check(read(tmp_path / "out"), rows, dim=128, prompt_name="query")


def test_a_process_opens_the_model_once_with_the_threads_of_a_task(spark):
    def state(batches):
        import os

        import pyarrow

        from qembed_q import columns

        for _ in batches:
            kept = [f"{id(embedder)}: {embedder.threads}" for embedder in columns._kept.values()]
            yield pyarrow.RecordBatch.from_pydict({"process": [os.getpid()], "kept": [kept]})

    frame = spark.createDataFrame([(f"text {i}",) for i in range(40)], "text string").repartition(8)
    found = {}
    for _ in range(4):
        embed(frame, dim=32).collect()
        for row in frame.mapInArrow(state, "process long, kept array<string>").collect():
            found.setdefault(row.process, set()).update(row.kept)
    opened = [kept for kept in found.values() if kept]
    assert opened and all(len(kept) == 1 and kept.pop().endswith(": 1") for kept in opened), found


def test_a_text_that_cannot_be_embedded_ends_the_job_and_is_named(spark):
    frame = spark.createDataFrame([("a", "text"), ("b", None)], "id string, text string")
    with pytest.raises(Exception, match="is null.*'id': 'b'"):
        embed(frame).collect()


def test_columns_are_looked_at_before_the_job(spark):
    frame = spark.createDataFrame([("a", "text")], "embedding string, text string")
    with pytest.raises(OptionError, match="'embedding'.*name another"):
        embed(frame)
    with pytest.raises(OptionError, match="'body'.*'embedding', 'text'"):
        embed(frame, text="body")
