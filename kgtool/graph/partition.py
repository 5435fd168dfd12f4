"""Which process holds which entity: found once, and kept with the run."""

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


def shards_of(dataset: KGDataset, kept: Path, keep: bool = True) -> Shards | None:
    """Entities by process, neighbours together; None for a process that is alone.

    METIS (Karypis & Kumar 1998) cuts few edges, each a row that would travel. It may answer
    otherwise the next time: so the first process keeps what it said, reads it for a run that goes
    on in as many processes, and tells the others.

    Args:
        dataset: its train triples are the edges.
        kept: the file.
        keep: write it where there is none, or one of another number of processes.

    Raises:
        RunError: when the file is damaged or not of these entities.
        KGToolError: when it cannot be written.
    """
    if process_group.world_size() == 1:
        return None
    owner = torch.zeros(dataset.num_entities, dtype=torch.long)
    if process_group.rank() == 0:
        found = _read(kept, owner) if kept.exists() else None
        if found is None:
            found = metis(dataset.train, dataset.num_entities, process_group.world_size())
            if keep:
                save_tensors(kept, {"owner": found}, {"processes": process_group.world_size()})
        owner = found
    return Shards.of_owner(process_group.broadcast(owner))


def _read(kept: Path, like: Tensor) -> Tensor | None:
    """The owner of each entity `(N,)`, int64; None of another number of processes."""
    try:
        tensors, state = load_fitted(kept, {"owner": like})
    except RunError as error:
        raise RunError(f"{fault(error)} Remedy: remove it, and it is made again.") from error
    owner = tensors["owner"]
    if state.get("processes") != process_group.world_size():
        return None
    if not bool(((owner >= 0) & (owner < process_group.world_size())).all()):
        raise RunError(f"{kept}: not this run's. Remedy: remove it, and it is made again.")
    return owner


def metis(triples: Tensor, num_entities: int, parts: int) -> Tensor:
    """`(num_entities,)` int64: the part of each entity, of parts of about as many edges.

    Args:
        triples: `(n, 3)` int64.
        num_entities: all ids are below it.
        parts: how many.
    """
    from kgtool.ops.runtime.dgl import dgl

    # Of parallel edges and loops it reads, and writes, what is not its own.
    ends = triples[triples[:, 0] != triples[:, 2]][:, ::2]
    flat = dgl.graph(distinct_ways(ends, num_entities), num_nodes=num_entities)
    with redirect_stdout(io.StringIO()):  # DGL prints how long it took
        found: Tensor = dgl.metis_partition_assignment(flat, parts, balance_edges=True)
    return found
