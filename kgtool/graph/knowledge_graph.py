"""From triples to graphs: a DGL heterograph, and the message graph that the encoder runs on."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.ops import Incidence, begins, find_edges, offsets_of

# DGL asks for a backend, and writes one to the home folder, unless this is set before its import.
os.environ.setdefault("DGLBACKEND", "pytorch")

if TYPE_CHECKING:
    import dgl

ENTITY = "entity"


def edge_type(relation: int, num_relation_ids: int) -> str:
    """The heterograph's name of a relation id, zero-padded: DGL sorts edge types as strings."""
    return f"r{relation:0{len(str(max(num_relation_ids - 1, 0)))}d}"


def to_heterograph(dataset: KGDataset) -> dgl.DGLHeteroGraph:
    """The train triples as a DGL heterograph: one edge type a relation, inverses as their own.

    The node type is `"entity"`; the edge type of relation id `r` (inverses: `r + num_relations`)
    is `edge_type(r, 2 * num_relations)`, so that DGL's order of edge types is the order of ids.
    Relations without a train edge keep an empty edge type.
    """
    import dgl

    num_relation_ids = 2 * dataset.num_relations
    triples = with_inverses(dataset.train, dataset.num_relations)
    triples = triples[torch.argsort(triples[:, 1], stable=True)]
    counts = torch.bincount(triples[:, 1], minlength=num_relation_ids).tolist()
    edges = {
        (ENTITY, edge_type(relation, num_relation_ids), ENTITY): (part[:, 0], part[:, 2])
        for relation, part in enumerate(triples.split(counts))
    }
    return dgl.heterograph(edges, num_nodes_dict={ENTITY: dataset.num_entities})


@dataclass(frozen=True, eq=False)
class MessageGraph:
    """The edges that messages travel, sorted by tail, then relation, then head.

    A group is the set of edges with one tail and one relation: `N_r(v)` of R-GCN's equation 2.

    Attributes:
        num_entities: number of nodes.
        num_relation_ids: number of relation ids, inverses counted.
        head, relation, tail: `(e,)` int64.
        group: `(e,)` int64, the group of each edge, ascending.
    """

    num_entities: int
    num_relation_ids: int
    head: Tensor
    relation: Tensor
    tail: Tensor
    group: Tensor

    @classmethod
    def from_heterograph(cls, graph: dgl.DGLHeteroGraph) -> MessageGraph:
        """The message graph of a heterograph whose edge types are relation ids in order.

        Raises:
            ValueError: when the edge types are not relation ids in order.
        """
        import dgl

        num_relation_ids = len(graph.etypes)
        names = [edge_type(relation, num_relation_ids) for relation in range(num_relation_ids)]
        if graph.etypes != names:
            raise ValueError("edge types are not relation ids in order; see to_heterograph")
        flat = dgl.to_homogeneous(graph)
        head, tail = (ids.long() for ids in flat.edges())
        sizes = graph.num_nodes(ENTITY), num_relation_ids
        return cls._of_keys(_keys(head, flat.edata[dgl.ETYPE].long(), tail, *sizes), *sizes)

    @classmethod
    def from_dataset(cls, dataset: KGDataset, held: Tensor | None = None) -> MessageGraph:
        """The message graph of the train triples and their inverses, as of their heterograph.

        Args:
            dataset: the triples.
            held: `(num_entities,)` bool: only the edges into these entities; None for all.
        """
        sizes, train = (dataset.num_entities, 2 * dataset.num_relations), dataset.train
        keys = []
        for tail, head, inverse in ((2, 0, 0), (0, 2, dataset.num_relations)):
            there = train if held is None else train[held[train[:, tail]]]
            keys.append(_keys(there[:, head], there[:, 1] + inverse, there[:, tail], *sizes))
        return cls._of_keys(torch.cat(keys), *sizes)

    @classmethod
    def _of_keys(cls, keys: Tensor, num_entities: int, num_relation_ids: int) -> MessageGraph:
        """The message graph of edges in any order, whose keys it sorts where they stand."""
        keys.numpy().sort()
        head = keys % num_entities
        pair = keys.div_(num_entities, rounding_mode="floor")
        group = torch.from_numpy(begins(pair.numpy())).long()
        return cls(
            num_entities, num_relation_ids, head, pair % num_relation_ids,
            pair.div_(num_relation_ids, rounding_mode="floor"), group.cumsum_(0).sub_(1),
        )  # fmt: skip

    @cached_property
    def offsets(self) -> Tensor:
        """`(num_entities + 1,)` int64: the edges into v are `offsets[v]` to `offsets[v + 1]`."""
        return offsets_of(self.tail, self.num_entities)

    @property
    def num_edges(self) -> int:
        """Number of edges, inverses counted."""
        return len(self.head)

    @cached_property
    def num_groups(self) -> int:
        """Number of distinct (tail, relation) pairs."""
        return int(self.group[-1]) + 1 if self.num_edges else 0

    @cached_property
    def groups(self) -> Tensor:
        """`(num_groups, 2)` int64: tail and relation of each group."""
        first = torch.searchsorted(self.group, torch.arange(self.num_groups))
        return torch.stack([self.tail[first], self.relation[first]], dim=1)

    @cached_property
    def inverse(self) -> Tensor:
        """`(e,)` int64: the edge `(t, r⁻¹, h)` of each edge `(h, r, t)`.

        Raises:
            ValueError: when an edge lacks its inverse.
        """
        return self._find(self.tail, self.inverse_of(self.relation), self.head)

    def inverse_of(self, relation: Tensor) -> Tensor:
        """The inverse of each relation id, of the same shape; that of an inverse is direct."""
        return (relation + self.num_relation_ids // 2) % max(self.num_relation_ids, 1)

    @cached_property
    def opposite(self) -> NDArray[np.int32]:
        """`(e,)` int32: `inverse`, for the kernels."""
        return self.inverse.numpy().astype(np.int32)

    @cached_property
    def incidence(self) -> Incidence:
        """The edges from heads to tails, typed by relation."""
        return Incidence.from_edges(
            self.head, self.tail, self.relation, self.num_entities, self.num_entities
        )

    def draw(self, share: float, generator: torch.Generator | None = None) -> Tensor:
        """`(e,)` bool: edges at random, each with its inverse, each with probability `share`.

        Draws from a generator, torch's default where None.
        """
        # The two say the same: the lower-numbered decides.
        drawn = torch.rand(self.num_edges, generator=generator) < share
        return drawn[torch.minimum(torch.arange(self.num_edges), self.inverse)]

    def subgraph(self, kept: Tensor) -> MessageGraph:
        """The same nodes with the edges where `kept` `(e,)` bool holds, in the same order."""
        group = torch.unique_consecutive(self.group[kept], return_inverse=True)[1]
        return replace(
            self,
            head=self.head[kept], relation=self.relation[kept], tail=self.tail[kept], group=group,
        )  # fmt: skip

    def find(self, triples: Tensor) -> Tensor:
        """`(n,)` int64: the edge of each triple `(n, 3)`.

        Raises:
            ValueError: when a triple is no edge.
        """
        return self._find(*triples.unbind(1))

    def _find(self, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        edge = find_edges(self.offsets, self.relation, self.head, (head, relation, tail))
        if edge.min(initial=0) < 0:
            raise ValueError("a triple is no edge of the message graph")
        return torch.from_numpy(edge)

    def scale(self, kept: Tensor | None, dtype: torch.dtype) -> Tensor:
        """`1 / c_{v,r}` of each kept edge, with `c_{v,r}` the kept edges of its group; else 0.

        Args:
            kept: `(e,)` bool, or None for all edges.
            dtype: of the result.

        Returns:
            `(e,)` of `dtype`.
        """
        present = torch.ones(self.num_edges, dtype=dtype) if kept is None else kept.to(dtype)
        count = torch.zeros(self.num_groups, dtype=dtype).index_add_(0, self.group, present)
        return present / count.clamp_(min=1)[self.group]


def _keys(
    head: Tensor, relation: Tensor, tail: Tensor, num_entities: int, num_relation_ids: int
) -> Tensor:
    """`(e,)` int64, one an edge, ascending by tail, then relation, then head."""
    return tail.mul(num_relation_ids).add_(relation).mul_(num_entities).add_(head)
