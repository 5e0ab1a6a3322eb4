"""Two nodes of Ray, of which one is killed while a job reads and writes."""

import threading
import time

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from rows import check, read, write

from qembed_q.ray import embed

ROWS, BLOCK = 8_000, 200


@pytest.fixture
def cluster():
    # The actor of the node that dies finds its place on the other: a CPU for each of two actors, and one that reads and writes.
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "object_store_memory": 200 << 20})
    made.second = made.add_node(num_cpus=2, object_store_memory=200 << 20)
    ray.init(address=made.address)
    yield made
    ray.shutdown()
    made.shutdown()


def written(folder):
    return len(list(folder.glob("*.parquet")))


def test_a_node_that_dies_loses_no_row_and_doubles_none(cluster, tmp_path):
    rows = write(tmp_path / "rows", ROWS, files=6)
    dataset = ray.data.read_parquet(str(tmp_path / "rows")).repartition(target_num_rows_per_block=BLOCK)
    out, failed = tmp_path / "out", []

    def job():
        try:
            embed(dataset, actors=2, num_cpus=1, batch_size=100).write_parquet(str(out))
        except BaseException as error:
            failed.append(error)

    running = threading.Thread(target=job)
    running.start()
    while written(out) < ROWS // BLOCK // 2:
        assert running.is_alive() and not failed, failed
        time.sleep(0.02)
    raylet = psutil.Process(cluster.second.all_processes["raylet"][0].process.pid)
    workers = raylet.children(recursive=True)
    actors = [worker for worker in workers if "EmbedActor" in " ".join(worker.cmdline())]
    assert len(actors) == 1, "the node that is to die is to have one of the actors"
    assert actors[0].cpu_times().user > 1, "which is to have done something"
    for process in [raylet, *workers]:
        process.kill()
    assert running.is_alive(), f"nothing was left to do: {written(out)} files"
    running.join(timeout=300)
    assert not running.is_alive() and not failed, failed
    assert sum(node["Alive"] for node in ray.nodes()) == 1
    check(read(out), rows)
