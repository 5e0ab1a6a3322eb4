"""Vectors as a column of a dataset of Ray.

    import ray
    from qembed_q.ray import embed

    rows = ray.data.read_parquet("passages").repartition(target_num_rows_per_block=4096)
    embed(rows, model="/models/qwen3-embedding-0.6b-q4.gguf").write_parquet("vectors")

One actor a machine, or a NUMA node, with as many threads as it has CPUs, and not one for each core: its threads work at one batch, and take the memory of
one. Where a machine has several actors all the same, they share the pages of the model's file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray

from .columns import Column
from .embedder import ModelOptions, TextOptions
from .errors import OptionError

if TYPE_CHECKING:
    import pyarrow
    from typing_extensions import Unpack


class EmbedActor:
    """What an actor does, for those who call ``Dataset.map_batches`` themselves, with ``batch_format="pyarrow"`` and ``num_cpus``: it has
    as many threads as CPUs.

        dataset.map_batches(
            EmbedActor, batch_format="pyarrow", batch_size=1024, num_cpus=16, compute=ActorPoolStrategy(size=4),
            fn_constructor_kwargs={"model": "/models/qwen3-embedding-0.6b-q4.gguf", "truncate": "right"},
        )
    """

    def __init__(
        self,
        *,
        text: str = "text",
        vector: str = "embedding",
        model: str | os.PathLike[str] | None = None,
        opening: ModelOptions | None = None,
        **options: Unpack[TextOptions],
    ) -> None:
        """Opens the model; arguments are those of `embed`."""
        context: Any = ray.get_runtime_context()
        cpus = context.get_assigned_resources().get("CPU", 1)
        self.column = Column(text, vector, model, options, opening or {})
        self.embedder = self.column.open(threads=max(1, int(cpus)))

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """The batch, with the vectors of its texts as a further column."""
        return self.column.append(self.embedder, batch)


def embed(
    dataset: ray.data.Dataset,
    *,
    text: str = "text",
    vector: str = "embedding",
    model: str | os.PathLike[str] | None = None,
    actors: int | tuple[int, int] | None = None,
    num_cpus: int | None = None,
    batch_size: int = 1024,
    opening: ModelOptions | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **options: Unpack[TextOptions],
) -> ray.data.Dataset:
    """A dataset with the vectors of its texts as a further column, a fixed-size list of float32.

    The bits of a vector depend on nothing but text, model and instruction set: where machines differ, ``opening={"isa": "avx2"}`` has all of
    them use one.

    Args:
        dataset: Rows, of any columns; all are kept.
        text: The column of texts.
        vector: What the new column is called.
        model: As for `Embedder`; a file must have the same path on every machine.
        actors: How many actors, or the least and the most; by default as many as fit into the cluster as it is, with a CPU left on each node
            for what reads and writes.
        num_cpus: CPUs of an actor, and its threads. By default one less than the smallest node has. Where Ray counts two CPUs a core, half of
            them do the work.
        batch_size: Texts that the engine gets at once.
        opening: Other options of `Embedder`, such as ``memory``.
        ray_remote_args: Further arguments of ``Dataset.map_batches``, such as ``resources``.
        options: As for `Embedder.encode`. A text that is empty or too long ends the job, unless ``empty`` or ``truncate`` says what becomes
            of it.
    """
    cluster: Any = ray
    nodes = [int(node["Resources"]["CPU"]) for node in cluster.nodes() if node["Alive"] and "CPU" in node["Resources"]]
    num_cpus = num_cpus or max(1, min(nodes, default=1) - 1)
    actors = actors or sum((cpus - 1) // num_cpus for cpus in nodes)
    if actors == 0:
        raise OptionError(
            f"no node of the cluster has {num_cpus + 1} CPUs: {num_cpus} for an actor, and one for what reads and writes; "
            "give actors and num_cpus if others are to come"
        )
    least, most = (actors, actors) if isinstance(actors, int) else actors
    column = Column(text, vector, model, options, opening or {})
    return dataset.map_batches(
        EmbedActor,
        batch_format="pyarrow",
        batch_size=batch_size,
        num_cpus=num_cpus,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        fn_constructor_kwargs={
            "text": text,
            "vector": vector,
            "model": column.model,
            "opening": column.opening,
            **options,
        },
        **(ray_remote_args or {}),
    )
