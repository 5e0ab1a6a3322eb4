"""LanceDB, as shipped."""

import lancedb
import pyarrow as pa
import pytest
from framework_texts import DOCUMENTS, INSTRUCTION, QUERIES, same
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector
from qembed_q.lancedb import QembedEmbeddings


@pytest.fixture
def database(tmp_path):
    return lancedb.connect(tmp_path)


def test_vectors(reference):
    function = get_registry().get("qembed-q").create()
    assert isinstance(function, QembedEmbeddings)
    assert function.ndims() == 256
    same(function.compute_source_embeddings(DOCUMENTS), reference(DOCUMENTS))
    same(function.compute_source_embeddings(pa.array(DOCUMENTS)), reference(DOCUMENTS))
    same(function.compute_query_embeddings(QUERIES[0]), reference(QUERIES[:1], "--query"))


def table_of(database, function):
    class Row(LanceModel):
        text: str | None = function.SourceField()
        vector: Vector(function.ndims()) | None = function.VectorField(default=None)

    return database.create_table("texts", schema=Row)


def test_table(database, reference):
    function = get_registry().get("qembed-q").create(instruction=INSTRUCTION, dim=64, threads=1)
    table = table_of(database, function)
    table.add([{"text": text} for text in DOCUMENTS])
    rows = {row["text"]: row["vector"] for row in table.to_arrow().to_pylist()}
    same([rows[text] for text in DOCUMENTS], reference(DOCUMENTS, "--dim", "64"))
    # Opened anew, by what the table has kept of the function.
    for opened in table, database.open_table("texts"):
        found = opened.search(QUERIES[0]).distance_type("cosine").limit(len(DOCUMENTS)).to_list()
        cosines = (reference(QUERIES[:1], "--instruct", INSTRUCTION, "--dim", "64") @ reference(DOCUMENTS, "--dim", "64").T)[0]
        assert [row["text"] for row in found] == [DOCUMENTS[at] for at in (-cosines).argsort()]
        assert [row["_distance"] for row in found] == pytest.approx(sorted(1 - cosines), abs=1e-6)


def test_no_text_has_no_vector(database, reference):
    table = table_of(database, get_registry().get("qembed-q").create())
    table.add(pa.table({"text": [DOCUMENTS[0], None, DOCUMENTS[1]]}), on_bad_vectors="null")
    vectors = [row["vector"] for row in table.to_arrow().to_pylist()]
    assert vectors[1] is None
    same([vectors[0], vectors[2]], reference(DOCUMENTS[:2]))


def test_errors(database):
    with pytest.raises(ValueError, match="dimensions"):
        get_registry().get("qembed-q").create(dimensions=64)
    # At once, not after seven retries.
    with pytest.raises(Exception, match="text 1"):
        table_of(database, get_registry().get("qembed-q").create()).add([{"text": ""}])
