"""A table of rows by entity, spread over processes: each holds some rows, and fetches others.

What a step reads of other processes' rows it asks them for, and it sends them the gradients: bytes
are those of the rows that it reads, whatever the size of the table, and a process holds its own
part of table and optimiser's state alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kgtool.distributed import process_group

# Rows of a table that each process sends at a time where one is to have them all.
PIECE = 1 << 16


@dataclass(frozen=True, eq=False)
class Shards:
    """Which process holds which entity.

    Attributes:
        place: `(N,)` int64, where an entity's row stands in the whole table, the rows of one
            process after those of another.
        first: `(processes + 1,)` ints: the rows of process i are `first[i]` to `first[i + 1]`.
    """

    place: Tensor
    first: tuple[int, ...]

    @classmethod
    def of_owner(cls, owner: Tensor) -> Shards:
        """By the process that holds each entity, `(N,)` int64; its rows in the order of ids."""
        place = torch.empty_like(owner)
        place[torch.argsort(owner, stable=True)] = torch.arange(len(owner))
        sizes = torch.bincount(owner, minlength=process_group.size())
        return cls(place, process_group.bounds(sizes.tolist()))

    @property
    def own(self) -> slice:
        """The rows of this process."""
        i = process_group.rank()
        return slice(self.first[i], self.first[i + 1])

    @property
    def entities(self) -> Tensor:
        """`(count,)` int64, ascending: whose rows this process holds, in their order."""
        return self.held(torch.arange(len(self.place))).nonzero().squeeze(1)

    @property
    def count(self) -> int:
        """How many rows this process holds."""
        return self.own.stop - self.own.start

    def held(self, entity: Tensor) -> Tensor:
        """`(n,)` bool: whether this process holds each entity `(n,)`."""
        place = self.place[entity]
        return (place >= self.own.start) & (place < self.own.stop)

    def row(self, entity: Tensor) -> Tensor:
        """`(n,)` int64: the row here of each entity `(n,)`, which this process holds."""
        return self.place[entity] - self.own.start

    def split(self, entity: Tensor) -> list[Tensor]:
        """Where entities `(n,)` stand that each process holds, in the order of its rows."""
        place = self.place[entity]
        order = torch.argsort(place)
        cuts = torch.searchsorted(place[order], torch.tensor(self.first))
        return list(order.tensor_split(cuts[1:-1]))

    def own_of(self, whole: Tensor) -> Tensor:
        """This process's rows `(count, ...)` of a table by entity `(N, ...)`.

        Raises:
            ValueError: when its rows are not the entities'.
        """
        if len(whole) != len(self.place):
            raise ValueError(f"{len(whole)} rows are not of {len(self.place)} entities")
        return whole[self.entities]

    def whole(self, own: Tensor) -> Tensor:
        """The table by entity `(N, ...)` whose rows here are `(count, ...)`; in all processes."""
        return torch.cat(process_group.gather(own.detach()))[self.place]

    def collect(self, own: Tensor) -> Tensor:
        """As `whole`, in the first process; in the others, nothing `(0, ...)`.

        Beside the table itself, which may be larger than the memory, it takes little.
        """
        own, first = own.detach(), process_group.rank() == 0
        whole = torch.empty(len(self.place) if first else 0, *own.shape[1:], dtype=own.dtype)
        entity = torch.argsort(self.place)
        nothing = [own[:0]] * (process_group.size() - 1)
        for start in range(0, int(torch.tensor(self.first).diff().max()), PIECE):
            told = process_group.exchange([own[start : start + PIECE], *nothing])
            for begin, rows in zip(self.first, told if first else (), strict=False):
                whole[entity[begin + start : begin + start + len(rows)]] = rows
        return whole

    def collect_named(self, tensors: dict[str, Tensor], spread: Sequence[str]) -> dict[str, Tensor]:
        """A checkpoint's tensors, `collect`ed where they have rows of entities.

        Args:
            tensors: by name.
            spread: parameters that have: a tensor is of one whose name its own name holds.
        """
        return {n: self.collect(t) if _of(n, t, spread) else t for n, t in tensors.items()}

    def held_named(self, tensors: dict[str, Tensor], spread: Sequence[str]) -> dict[str, Tensor]:
        """The reverse: the rows that this process holds, where tensors have rows of entities."""
        return {n: self.own_of(t) if _of(n, t, spread) else t for n, t in tensors.items()}

    def fetch(self, table: Tensor, entity: Tensor) -> Tensor:
        """The rows of entities, wherever they are held, with a sparse gradient there.

        All processes must call it together.

        Args:
            table: `(count, ...)` float, the rows that this process holds.
            entity: `(n,)` int64, each once.

        Returns:
            `(n, ...)`, in the order of `entity`. The gradient of `table` is a coalesced sparse
            tensor: the sum of what all processes made of the rows that are held here.
        """
        out: Tensor = _Fetch.apply(table, entity, self)  # type: ignore[no-untyped-call]
        return out


def _of(name: str, tensor: Tensor, spread: Sequence[str]) -> bool:
    return bool(tensor.dim()) and any(parameter in name for parameter in spread)


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, entity: Tensor, shards: Shards) -> Tensor:
        parts = shards.split(entity)
        asked = [
            shards.row(ids) for ids in process_group.exchange([entity[part] for part in parts])
        ]
        told = process_group.exchange([table.index_select(0, rows) for rows in asked])
        ctx.shape, ctx.asked = table.shape, asked
        ctx.sizes = [len(part) for part in parts]
        order = torch.cat(parts)
        ctx.save_for_backward(order)
        out = table.new_empty(len(entity), *table.shape[1:])
        return out.index_copy_(0, order, torch.cat(told))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        received = torch.cat(process_group.exchange(grads[0][order].split(ctx.sizes)))
        ids, position = torch.unique(torch.cat(ctx.asked), return_inverse=True)
        values = received.new_zeros(len(ids), *received.shape[1:])
        # One process after the other, in their order: the same bits each time.
        values.index_add_(0, position, received)
        gradient = torch.sparse_coo_tensor(
            ids.unsqueeze(0), values, ctx.shape, check_invariants=False, is_coalesced=True
        )
        return gradient, None, None
