"""Datasets of Ray on this machine."""

import numpy as np
import pyarrow
import pytest
import ray
from rows import check, read, write

from qembed_q import Embedder, OptionError
from qembed_q.ray import EmbedActor, embed

ROWS = 1500


@pytest.fixture(scope="module", autouse=True)
def machine():
    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=200 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray") / "rows"
    return folder, write(folder, ROWS, files=3)


def blocks(source):
    return ray.data.read_parquet(str(source[0])).repartition(target_num_rows_per_block=150)


def test_two_actors_write_what_one_embedder_gives(source, tmp_path):
    # 64 does not divide 150: batches of several sizes.
    embed(blocks(source), actors=2, num_cpus=1, batch_size=64).write_parquet(str(tmp_path))
    found = read(tmp_path)
    assert found.schema.field("embedding").type.list_size == 256
    check(found, source[1])


def test_options_are_those_of_encode(source, tmp_path):
    embed(blocks(source), actors=1, num_cpus=1, task="sts", dim=64).write_parquet(str(tmp_path))
    check(read(tmp_path), source[1], task="sts", dim=64)


def test_without_counts_there_is_an_actor_with_all_cpus_but_one(monkeypatch):
    rows, asked = ray.data.from_items([{"text": "a"}]), {}
    monkeypatch.setattr(rows, "map_batches", lambda _, **given: asked.update(given))
    embed(rows)
    assert asked["num_cpus"] == 2
    assert (asked["compute"].min_size, asked["compute"].max_size) == (1, 1)
    with pytest.raises(OptionError, match="no node of the cluster has 4 CPUs"):
        embed(rows, num_cpus=3)


def test_an_actor_has_as_many_threads_as_cpus():
    class Told(EmbedActor):
        def __call__(self, batch):
            return {"threads": [self.embedder.threads] * len(batch)}

    rows = ray.data.from_items([{"text": "a"}])
    pool = ray.data.ActorPoolStrategy(size=1)
    assert rows.map_batches(Told, batch_format="pyarrow", num_cpus=2, compute=pool).take_all() == [{"threads": 2}]


def test_empty_texts_and_long_ones_become_what_options_say():
    texts = ["", "river " * 20_000, "bank"]
    rows = ray.data.from_items([{"text": text} for text in texts])
    taken = embed(rows, actors=1, num_cpus=1, empty="end", truncate="right").take_all()
    expected = Embedder().encode(texts, empty="end", truncate="right")
    by_text = {row["text"]: row["embedding"] for row in taken}
    assert all(np.array_equal(by_text[text], vector) for text, vector in zip(texts, expected, strict=True))


def test_a_text_that_cannot_be_embedded_ends_the_job_and_is_named():
    rows = ray.data.from_items([{"id": f"row {i}", "text": "" if i == 7 else "text"} for i in range(10)])
    with pytest.raises(Exception, match=r"is empty: .*'id': 'row 7'"):
        embed(rows, actors=1, num_cpus=1).materialize()


def test_a_filter_that_leaves_nothing_is_no_error(source):
    rows = blocks(source).filter(lambda row: row["id"] < 3)
    assert embed(rows, actors=1, num_cpus=1).count() == 3


@pytest.mark.parametrize("fault", ["lost", "twice", "exchanged", "one bit"])
def test_a_planted_fault_is_found(source, tmp_path, fault):
    class Faulty(EmbedActor):
        def __call__(self, batch):
            table = super().__call__(batch)
            if 0 not in batch["id"].to_pylist():
                return table
            if fault == "lost":
                return table.slice(1)
            if fault == "twice":
                return pyarrow.concat_tables([table, table.slice(3, 1)])
            vectors = np.stack(table["embedding"].to_numpy())
            if fault == "exchanged":
                vectors[[4, 5]] = vectors[[5, 4]]
            else:
                vectors.view(np.uint32)[4, 5] ^= 1
            array = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
            return table.set_column(table.num_columns - 1, "embedding", array)

    dataset = blocks(source).map_batches(
        Faulty, batch_format="pyarrow", batch_size=64, num_cpus=1, compute=ray.data.ActorPoolStrategy(size=1)
    )
    dataset.write_parquet(str(tmp_path))
    with pytest.raises(AssertionError, match="rows are lost|other bits"):
        check(read(tmp_path), source[1])
