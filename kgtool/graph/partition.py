"""The partition of entities over processes: computed once, and saved with the run."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset
from kgtool.distributed import process_group
from kgtool.distributed.sharding import Shards
from kgtool.errors import RunError
from kgtool.ops import distinct_ways
from kgtool.storage.checkpoint import fault, load_fitted, save_tensors


def shards_of(dataset: KGDataset, path: Path, save: bool = True) -> Shards | None:
    """Assign entities to processes, neighbours together; None for a single process.

    METIS (Karypis & Kumar 1998) cuts few edges; each cut edge sends a row to another process. Its
    result may differ between calls. So the first process saves the partition, reads it again when a
    run resumes in the same number of processes, and broadcasts it to the others.

    Args:
        dataset: its train triples are the edges.
        path: the file of the partition.
        save: write the file if it is missing, or made for another number of processes.

    Raises:
        RunError: when the file is damaged or of other entities.
        KGToolError: when the file cannot be written.
    """
    if process_group.world_size() == 1:
        return None
    owner = torch.zeros(dataset.num_entities, dtype=torch.long)
    if process_group.rank() == 0:
        saved = _read(path, owner) if path.exists() else None
        if saved is not None:
            owner = saved
        else:
            owner = metis(dataset.train, dataset.num_entities, process_group.world_size())
            if save:
                save_tensors(path, {"owner": owner}, {"processes": process_group.world_size()})
    return Shards.of_owner(process_group.broadcast(owner))


def _read(path: Path, like: Tensor) -> Tensor | None:
    """The owner of each entity, `(N,)` int64; None if saved for another number of processes."""
    try:
        tensors, state = load_fitted(path, {"owner": like})
    except RunError as error:
        raise RunError(f"{fault(error)} Remedy: remove it; kgtool makes it again.") from error
    owner = tensors["owner"]
    if state.get("processes") != process_group.world_size():
        return None
    if not bool(((owner >= 0) & (owner < process_group.world_size())).all()):
        raise RunError(
            f"{path}: does not belong to this run. Remedy: remove it; kgtool makes it again."
        )
    return owner


def metis(triples: Tensor, num_entities: int, parts: int) -> Tensor:
    """`(num_entities,)` int64: the part of each entity; all parts have about as many edges.

    Args:
        triples: `(n, 3)` int64.
        num_entities: all entity ids are below it.
        parts: number of parts.
    """
    from kgtool.ops.runtime.dgl import dgl

    # With parallel edges or loops, METIS reads and writes out of bounds.
    ends = triples[triples[:, 0] != triples[:, 2]][:, ::2]
    flat = dgl.graph(distinct_ways(ends, num_entities), num_nodes=num_entities)
    with redirect_stdout(io.StringIO()):  # DGL prints the time
        part: Tensor = dgl.metis_partition_assignment(flat, parts, balance_edges=True)
    return part
