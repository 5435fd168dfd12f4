"""A table with a row per entity, sharded over processes.

A process holds its own rows and their optimiser state only. A step fetches the rows that it reads
from their owners and sends the gradients back. The traffic depends on the rows read, not on the
size of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kgtool.distributed import process_group

# Rows that each process sends at a time when one process collects the whole table.
PIECE = 1 << 16


@dataclass(frozen=True, eq=False)
class Shards:
    """Which process owns which entity.

    Attributes:
        place: `(N,)` int64, the position of each entity's row when the rows of all processes are
            concatenated by rank.
        first: `(processes + 1,)` ints: process i owns the positions `first[i]` to `first[i + 1]`.
    """

    place: Tensor
    first: tuple[int, ...]

    @classmethod
    def of_owner(cls, owner: Tensor) -> Shards:
        """Shards by the rank that owns each entity, `(N,)` int64; rows are in the order of ids."""
        place = torch.empty_like(owner)
        place[torch.argsort(owner, stable=True)] = torch.arange(len(owner))
        sizes = torch.bincount(owner, minlength=process_group.world_size())
        return cls(place, process_group.offsets(sizes.tolist()))

    @property
    def own(self) -> slice:
        """The positions of this process's rows."""
        i = process_group.rank()
        return slice(self.first[i], self.first[i + 1])

    @property
    def entities(self) -> Tensor:
        """`(count,)` int64, ascending: the entities that this process owns, in row order."""
        return self.is_local(torch.arange(len(self.place))).nonzero().squeeze(1)

    @property
    def count(self) -> int:
        """The number of rows of this process."""
        return self.own.stop - self.own.start

    def is_local(self, entity: Tensor) -> Tensor:
        """`(n,)` bool: whether this process owns each entity `(n,)`."""
        place = self.place[entity]
        return (place >= self.own.start) & (place < self.own.stop)

    def row(self, entity: Tensor) -> Tensor:
        """`(n,)` int64: the local row of each entity `(n,)`; this process must own them."""
        return self.place[entity] - self.own.start

    def split(self, entity: Tensor) -> list[Tensor]:
        """For each process, the positions in `entity` `(n,)` that it owns, in its row order."""
        place = self.place[entity]
        order = torch.argsort(place)
        cuts = torch.searchsorted(place[order], torch.tensor(self.first))
        return list(order.tensor_split(cuts[1:-1]))

    def local_rows(self, whole: Tensor) -> Tensor:
        """This process's rows `(count, ...)` of a table by entity `(N, ...)`.

        Raises:
            ValueError: when the table does not have N rows.
        """
        if len(whole) != len(self.place):
            raise ValueError(f"the table has {len(whole)} rows, not {len(self.place)}")
        return whole[self.entities]

    def whole(self, own: Tensor) -> Tensor:
        """The table by entity `(N, ...)`, in all processes, from the local rows `(count, ...)`."""
        return torch.cat(process_group.all_gather(own.detach()))[self.place]

    def collect(self, own: Tensor) -> Tensor:
        """As `whole`, in the first process only; the others get an empty tensor `(0, ...)`.

        It needs little memory in addition to the table, which may be mapped to a file.
        """
        own, first = own.detach(), process_group.rank() == 0
        whole = torch.empty(len(self.place) if first else 0, *own.shape[1:], dtype=own.dtype)
        entity = torch.argsort(self.place)
        nothing = [own[:0]] * (process_group.world_size() - 1)
        for start in range(0, int(torch.tensor(self.first).diff().max()), PIECE):
            pieces = process_group.all_to_all([own[start : start + PIECE], *nothing])
            for begin, rows in zip(self.first, pieces if first else (), strict=False):
                whole[entity[begin + start : begin + start + len(rows)]] = rows
        return whole

    def whole_tensors(self, tensors: dict[str, Tensor], spread: Sequence[str]) -> dict[str, Tensor]:
        """A checkpoint's tensors; the sharded ones are `collect`ed.

        Args:
            tensors: by name.
            spread: names of the sharded parameters; a tensor is sharded if its name contains one.
        """
        return {n: self.collect(t) if _of(n, t, spread) else t for n, t in tensors.items()}

    def local_tensors(self, tensors: dict[str, Tensor], spread: Sequence[str]) -> dict[str, Tensor]:
        """The inverse of `whole_tensors`: this process's rows of the sharded tensors."""
        return {n: self.local_rows(t) if _of(n, t, spread) else t for n, t in tensors.items()}

    def fetch(self, table: Tensor, entity: Tensor) -> Tensor:
        """Fetch the rows of entities from their owners; differentiable.

        All processes must call it together.

        Args:
            table: `(count, ...)` float, this process's rows.
            entity: `(n,)` int64, without duplicates.

        Returns:
            `(n, ...)`, in the order of `entity`. The gradient of `table` is a coalesced sparse
            tensor: the sum of the gradients of all processes.
        """
        out: Tensor = _Fetch.apply(table, entity, self)  # type: ignore[no-untyped-call]
        return out


def _of(name: str, tensor: Tensor, spread: Sequence[str]) -> bool:
    return bool(tensor.dim()) and any(parameter in name for parameter in spread)


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, entity: Tensor, shards: Shards) -> Tensor:
        parts = shards.split(entity)
        requested = [
            shards.row(ids) for ids in process_group.all_to_all([entity[part] for part in parts])
        ]
        received = process_group.all_to_all([table.index_select(0, rows) for rows in requested])
        ctx.shape, ctx.requested = table.shape, requested
        ctx.sizes = [len(part) for part in parts]
        order = torch.cat(parts)
        ctx.save_for_backward(order)
        out = table.new_empty(len(entity), *table.shape[1:])
        return out.index_copy_(0, order, torch.cat(received))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        received = torch.cat(process_group.all_to_all(grads[0][order].split(ctx.sizes)))
        ids, position = torch.unique(torch.cat(ctx.requested), return_inverse=True)
        values = received.new_zeros(len(ids), *received.shape[1:])
        # In the order of ranks: the sums have the same bits each time.
        values.index_add_(0, position, received)
        gradient = torch.sparse_coo_tensor(
            ids.unsqueeze(0), values, ctx.shape, check_invariants=False, is_coalesced=True
        )
        return gradient, None, None
