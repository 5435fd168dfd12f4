"""The knowledge graph of all models: flat, with inverses, as a DGL graph and its arrays.

`KGDataset.graph` is the heterograph of the train triples, with one edge type per relation. Messages
and paths follow the same edges and their inverses in one homogeneous graph, which stores the
relation of each edge as `dgl.ETYPE`. The kernels read the arrays of that graph without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset, edge_type, with_inverses
from kgtool.ops import CSC, edge_norm, find_edges, inverse_edges, neighbourhood

if TYPE_CHECKING:
    import dgl


class KnowledgeGraph:
    """The edges of a knowledge graph and their inverses, sorted by tail, then relation, then head.

    An edge id is the edge's position in this order. A group is the set of edges with the same tail
    and relation: `N_r(v)` of R-GCN's equation 2.

    Args:
        csc: the edges into each entity, by relation id, then head. The graph shares its arrays.
        num_relation_ids: number of relation ids, inverses counted.

    Attributes:
        csc: the arrays, for the kernels.
        flat: the same arrays as a homogeneous int32 `dgl.DGLGraph`, in CSC format only, with the
            relation ids as edge data `dgl.ETYPE`.
        offsets: `(num_entities + 1,)` int32: the edges into v are `offsets[v]:offsets[v + 1]`.
        head, relation: `(e,)` int32: head and relation id of each edge.
        weight: `(e,)` float32, the weight of each edge's triple; None if all are 1.
    """

    def __init__(self, csc: CSC, num_relation_ids: int) -> None:
        from kgtool.ops.runtime.dgl import dgl

        self.csc, self.num_relation_ids = csc, num_relation_ids
        self.offsets, self.head, self.relation = (
            torch.from_numpy(ids) for ids in (csc.offsets, csc.source, csc.type)
        )
        self.weight = None if csc.weight is None else torch.from_numpy(csc.weight)
        no_ids: list[int] = []  # an edge's id is its position
        self.flat: dgl.DGLGraph = dgl.graph(
            ("csc", (self.offsets, self.head, no_ids)), num_nodes=csc.num_sources
        )
        self.flat.edata[dgl.ETYPE] = self.relation

    @classmethod
    def from_heterograph(
        cls, graph: dgl.DGLGraph, held: Tensor | None = None
    ) -> KnowledgeGraph:  # fmt: skip
        """The knowledge graph of a heterograph such as `KGDataset.graph`, with inverses added.

        Args:
            graph: its edge types are named by relation id, without inverses. With several node
                types, the node data `dgl.NID` are the ids of the entities.
            held: `(num_entities,)` bool: keep only the edges into these entities; None for all.

        Raises:
            ValueError: when the edge types are not relation ids in order.
        """
        of_relation: dict[str, list[tuple[str, str, str]]] = {}
        for kind in graph.canonical_etypes:
            of_relation.setdefault(kind[1], []).append(kind)
        num_relations = len(of_relation)
        names = [edge_type(relation, num_relations) for relation in range(num_relations)]
        if sorted(of_relation) != names:
            raise ValueError("edge types are not relation ids in order; see KGDataset.graph")
        ends = [_ends(graph, of_relation[name]) for name in names]
        csc = CSC.with_inverses(ends, graph.num_nodes(), held)
        return cls(csc, 2 * num_relations)

    @classmethod
    def from_dataset(cls, dataset: KGDataset, held: Tensor | None = None) -> KnowledgeGraph:
        """The knowledge graph of `dataset.graph`, the train triples; see `from_heterograph`.

        An edge and its inverse have the weight of their triple.
        """
        graph = cls.from_heterograph(dataset.graph, held)
        weight = dataset.weights.get("train")
        if weight is None or bool((weight == 1).all()):
            return graph
        edge = torch.from_numpy(
            find_edges(graph.csc, with_inverses(dataset.train, dataset.num_relations))
        )
        there = edge >= 0  # with `held`, other processes have the rest
        weights = torch.ones(graph.num_edges)
        weights[edge[there]] = weight.repeat(2)[there]
        return cls(replace(graph.csc, weight=weights.numpy()), graph.num_relation_ids)

    @property
    def num_entities(self) -> int:
        """Number of nodes."""
        return self.csc.num_sources

    @property
    def num_edges(self) -> int:
        """Number of edges, inverses counted."""
        return self.csc.num_edges

    @cached_property
    def tail(self) -> Tensor:
        """`(e,)` int32: tail of each edge."""
        return torch.from_numpy(self.csc.destinations())

    @cached_property
    def inverse(self) -> Tensor:
        """`(e,)` int32: the edge `(t, r⁻¹, h)` of each edge `(h, r, t)`.

        Raises:
            ValueError: when an edge lacks its inverse.
        """
        inverse = inverse_edges(self.csc, self.num_relation_ids)
        if inverse.min(initial=0) < 0:
            raise ValueError("the inverse of an edge is not in the knowledge graph")
        return torch.from_numpy(inverse)

    def inverse_of(self, relation: Tensor) -> Tensor:
        """The inverse of each relation id, in the same shape. The inverse of `r⁻¹` is `r`."""
        return (relation + self.num_relation_ids // 2) % max(self.num_relation_ids, 1)

    @cached_property
    def group(self) -> Tensor:
        """`(e,)` int64: the group of each edge, ascending."""
        return torch.from_numpy(self.csc.group_begins).cumsum(0).sub_(1)

    @property
    def num_groups(self) -> int:
        """Number of distinct (tail, relation) pairs."""
        return int(self.group[-1]) + 1 if self.num_edges else 0

    @cached_property
    def groups(self) -> Tensor:
        """`(num_groups, 2)` int64: tail and relation of each group."""
        first = torch.searchsorted(self.group, torch.arange(self.num_groups))
        return self.triples(first)[:, [2, 1]]

    def triples(self, edges: Tensor | None = None) -> Tensor:
        """`(n, 3)` int64: head, relation and tail of edges `(n,)` int, or of all edges."""
        if edges is None:
            return torch.stack([self.head, self.relation, self.tail], dim=1).long()
        tail = torch.searchsorted(self.offsets, edges.int(), right=True) - 1
        return torch.stack([self.head[edges].long(), self.relation[edges].long(), tail], dim=1)

    def draw(self, share: float, generator: torch.Generator | None = None) -> Tensor:
        """`(e,)` bool: draw each edge, with its inverse, with probability `share`.

        The random numbers come from the generator, or torch's default one for None.
        """
        # The lower id of an edge and its inverse decides for both.
        drawn = torch.rand(self.num_edges, generator=generator) < share
        lower = torch.arange(self.num_edges, dtype=torch.int32)
        return drawn[torch.minimum(lower, self.inverse, out=lower)]

    def subgraph(self, kept: Tensor) -> KnowledgeGraph:
        """The same nodes with the edges where `kept` `(e,)` bool is true, in the same order."""
        before = torch.zeros(self.num_edges + 1, dtype=torch.int32)
        torch.cumsum(kept, 0, out=before[1:])
        offsets = before[self.offsets].numpy()
        mask, csc = kept.numpy(), self.csc
        weight = None if csc.weight is None else csc.weight[mask]
        part = CSC(offsets, csc.source[mask], csc.type[mask], csc.num_sources, weight)
        return KnowledgeGraph(part, self.num_relation_ids)

    def without(self, edges: Tensor) -> KnowledgeGraph:
        """The same nodes without edges `(k,)` int64 and their inverses, in the same order.

        For a few edges it takes much less time than `subgraph`.

        Raises:
            ValueError: when an edge lacks its inverse.
        """
        csc, inverse = self.csc, self.inverse.numpy()
        gone = np.unique(np.concatenate([edges.numpy(), inverse[edges.numpy()]]))
        before = np.zeros(csc.num_edges + 1, np.int32)  # the removed edges before each edge
        before[gone + 1] = 1
        np.cumsum(before, out=before)
        source, type_, left = (np.delete(ids, gone) for ids in (csc.source, csc.type, inverse))
        offsets = csc.offsets - before[csc.offsets]
        weight = None if csc.weight is None else np.delete(csc.weight, gone)
        part = KnowledgeGraph(
            CSC(offsets, source, type_, csc.num_sources, weight), self.num_relation_ids
        )
        part.inverse = torch.from_numpy(left - before[left])
        return part

    def around(self, head: int, num_steps: int, most: int) -> tuple[KnowledgeGraph, Tensor]:
        """The part around an entity, see `kgtool.ops.neighbourhood`, which has the arguments.

        Returns:
            The part, whose entities are numbered from 0, and their ids `(k,)` int64, ascending.
        """
        entity, csc = neighbourhood(self.csc, head, num_steps, most)
        return KnowledgeGraph(csc, self.num_relation_ids), torch.from_numpy(entity).long()

    def find(self, triples: Tensor) -> Tensor:
        """`(n,)` int64: the edge id of each triple `(n, 3)` int64.

        Raises:
            ValueError: when a triple is not an edge.
        """
        edge = find_edges(self.csc, triples)
        if edge.min(initial=0) < 0:
            raise ValueError("a triple is not in the knowledge graph")
        return torch.from_numpy(edge)

    def scale(self, kept: Tensor | None, dtype: torch.dtype) -> Tensor:
        """`1 / c_{v,r}` of each kept edge, else 0; `c_{v,r}` counts the kept edges of its group.

        With weights `ω` it is `ω_e / Σ ω`, with the sum over the kept edges of the group.

        Args:
            kept: `(e,)` bool, or None for all edges.
            dtype: of the result, float32 or float64.

        Returns:
            `(e,)` of `dtype`.
        """
        return edge_norm(self.csc, kept, dtype)


def _ends(graph: dgl.DGLGraph, kinds: Sequence[tuple[str, str, str]]) -> tuple[Tensor, Tensor]:
    """Head and tail entities, `(n,)` int32 each, of the edges of some canonical edge types."""
    from kgtool.ops.runtime.dgl import dgl

    heads, tails = [], []
    for kind in kinds:
        head, tail = (ids.int() for ids in graph.edges(etype=kind))
        if len(graph.ntypes) > 1:
            of_head, of_tail = (graph.nodes[end].data[dgl.NID] for end in kind[::2])
            head, tail = of_head[head.long()], of_tail[tail.long()]
        heads.append(head)
        tails.append(tail)
    if len(kinds) == 1:
        return heads[0], tails[0]
    return torch.cat(heads), torch.cat(tails)
