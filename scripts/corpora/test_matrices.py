"""NumPy files and databases, and what searches in them."""

import json

import apsw
import faiss
import numpy
import pytest
import sqlite_vec
from conftest import KEPT, ROWS

TYPES = ["f32", "f16", "int8", "ubinary"]
IDS = [row["id"] for row in ROWS]


@pytest.mark.parametrize("dtype", TYPES)
def test_numpy(outputs, stored, dtype):
    for mode in [None, "r"]:
        found = numpy.load(outputs("npy", dtype), mmap_mode=mode)
        assert found.dtype == stored[dtype].dtype and numpy.array_equal(found, stored[dtype])
    assert outputs("raw", dtype).read_bytes() == stored[dtype].tobytes()


def test_faiss(outputs, vectors):
    found = numpy.load(outputs("npy"), mmap_mode="r")
    index = faiss.IndexFlatIP(found.shape[1])
    index.add(found)
    assert index.search(vectors, 1)[1][:, 0].tolist() == list(range(len(ROWS)))
    bits = numpy.load(outputs("npy", "ubinary"))
    index = faiss.IndexBinaryFlat(bits.shape[1] * 8)
    index.add(bits)
    distances, found = index.search(bits, 1)
    assert not distances.any() and found[:, 0].tolist() == list(range(len(ROWS)))


def database(path):
    """The file, read only, beside an empty database, with sqlite-vec. By APSW: Python's own module often cannot load extensions."""
    connection = apsw.Connection(":memory:", flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI)
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.execute("ATTACH ? AS written", [f"{path.resolve().as_uri()}?mode=ro"])
    return connection


@pytest.mark.parametrize("dtype", TYPES)
def test_sqlite(outputs, stored, dtype):
    connection = database(outputs("db", dtype))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = connection.execute("SELECT id, text_sha256, metadata, embedding FROM embeddings").fetchall()
    assert [row[0] for row in rows] == IDS
    assert len({row[1] for row in rows}) == len(ROWS) and {len(row[1]) for row in rows} == {32}
    assert [json.loads(row[2]) for row in rows] == [{name: row[name] for name in KEPT} for row in ROWS]
    assert b"".join(row[3] for row in rows) == stored[dtype].tobytes()
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    assert meta["qembed.dtype"] == dtype


@pytest.mark.parametrize(("dtype", "vector", "of"), [("f32", "", "float"), ("int8", "vec_int8", "int8"), ("ubinary", "vec_bit", "bit")])
def test_sqlite_vec(outputs, stored, vectors, dtype, vector, of):
    connection = database(outputs("db", dtype))
    size = vectors.shape[1]
    connection.execute(f"CREATE VIRTUAL TABLE nearest USING vec0(id INTEGER PRIMARY KEY, embedding {of}[{size}])")
    connection.execute(f"INSERT INTO nearest SELECT id, {vector}(embedding) FROM embeddings")
    for i in [0, 17, 330]:
        query = f"SELECT id, distance FROM nearest WHERE embedding MATCH {vector}(?) AND k = 1"
        assert connection.execute(query, [stored[dtype][i].tobytes()]).fetchall() == [(IDS[i], 0)]
    distance = "vec_distance_hamming" if dtype == "ubinary" else "vec_distance_l2"
    query = f"SELECT id FROM embeddings ORDER BY {distance}({vector}(embedding), {vector}(?)) LIMIT 1"
    assert connection.execute(query, [stored[dtype][17].tobytes()]).fetchall() == [(IDS[17],)]
