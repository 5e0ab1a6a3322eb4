"""Parquet files, and text files where the same programs read them."""

import hashlib
import json

import duckdb
import lancedb
import numpy
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
from conftest import KEPT, ROWS

TYPES = ["f32", "f16", "int8", "ubinary"]
ARROW = {"f32": pyarrow.float32(), "f16": pyarrow.float16(), "int8": pyarrow.int8(), "ubinary": pyarrow.uint8()}
IDS = [row["id"] for row in ROWS]


@pytest.mark.parametrize("dtype", TYPES)
def test_pyarrow(outputs, stored, dtype):
    table = pyarrow.parquet.read_table(outputs("parquet", dtype))
    assert table.column_names == ["id", *KEPT, "text_sha256", "embedding"]
    of = table.schema.field("embedding").type
    assert (of.value_type, of.list_size) == (ARROW[dtype], stored[dtype].shape[1])
    assert (of.value_field.name, of.value_field.nullable) == ("element", False)
    embedding = table["embedding"].combine_chunks()
    found = embedding.flatten().to_numpy(zero_copy_only=False).reshape(stored[dtype].shape)
    assert found.dtype == stored[dtype].dtype and numpy.array_equal(found, stored[dtype])
    for name in ["id", "text", "title", "score", "count", "flag", "nothing"]:
        assert table[name].to_pylist() == [row[name] for row in ROWS], name
    assert [json.loads(tags) for tags in table["tags"].to_pylist()] == [row["tags"] for row in ROWS]
    types = {name: str(table.schema.field(name).type) for name in ["id", "score", "flag", "title"]}
    assert types == {"id": "int64", "score": "double", "flag": "bool", "title": "string"}
    metadata = pyarrow.parquet.read_metadata(outputs("parquet", dtype)).metadata
    assert metadata[b"qembed.dtype"] == dtype.encode()
    assert (b"qembed.int8_range" in metadata) == (dtype == "int8")
    hashes = table["text_sha256"].to_pylist()
    assert all(len(hash) == len(hashlib.sha256().hexdigest()) for hash in hashes) and len(set(hashes)) == len(ROWS)


@pytest.mark.parametrize("dtype", TYPES)
def test_pandas(outputs, stored, dtype):
    frame = pandas.read_parquet(outputs("parquet", dtype))
    assert list(frame["id"]) == IDS
    assert numpy.array_equal(numpy.stack(frame["embedding"]), stored[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_polars(outputs, stored, dtype):
    for frame in [polars.read_parquet(outputs("parquet", dtype)), polars.scan_parquet(outputs("parquet", dtype)).collect()]:
        assert isinstance(frame["embedding"].dtype, polars.Array)
        assert frame["id"].to_list() == IDS
        assert numpy.array_equal(frame["embedding"].to_numpy(), stored[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_duckdb(outputs, stored, dtype):
    """The size of vectors is not in the file as DuckDB reads it: it is cast to."""
    of = {"f32": "FLOAT", "f16": "FLOAT", "int8": "TINYINT", "ubinary": "UTINYINT"}[dtype]
    size = stored[dtype].shape[1]
    query = f"SELECT id, embedding::{of}[{size}] FROM '{outputs('parquet', dtype)}'"
    rows = duckdb.sql(query).fetchall()
    assert [row[0] for row in rows] == IDS
    assert numpy.array_equal(numpy.array([row[1] for row in rows], stored[dtype].dtype), stored[dtype])


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
def test_duckdb_searches(outputs, vectors, extension):
    size = vectors.shape[1]
    query = f"""
        WITH rows AS (SELECT id, embedding::FLOAT[{size}] AS embedding FROM '{outputs(extension)}')
        SELECT id FROM rows ORDER BY array_cosine_similarity(embedding, ?::FLOAT[{size}]) DESC LIMIT 1"""
    for i in [0, 17, 330]:
        assert duckdb.execute(query, [vectors[i].tolist()]).fetchall() == [(IDS[i],)]


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_lancedb(outputs, vectors, tmp_path, dtype):
    table = lancedb.connect(tmp_path).create_table("texts", pyarrow.parquet.read_table(outputs("parquet", dtype)))
    for i in [0, 17, 330]:
        found = table.search(vectors[i], vector_column_name="embedding").limit(1).to_list()
        assert found[0]["id"] == IDS[i] and found[0]["_distance"] < 1e-4
