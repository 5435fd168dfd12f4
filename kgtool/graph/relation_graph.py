"""The graph of relations: how the relations of a knowledge graph meet at its entities.

Its nodes are the relation ids, inverses included. An edge `r → r'` has one of four kinds, by an
entity that both touch: it is the head of both, the tail of both, the head of r and the tail of r',
or the tail of r and the head of r' (Galkin et al. 2024, "Towards Foundation Models for Knowledge
Graph Reasoning", ULTRA). The graph holds nothing of the entities.

A tail of `r` is a head of `r⁻¹`. So one matrix holds all four kinds: `A[r', r]`, the number of
entities that are heads of both. With the permutation P of each relation to its inverse, the heads
meet by A, the tails by `P A P`, heads of r and tails of r' by `P A`, the last kind by `A P`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from kgtool.graph.knowledge_graph import KnowledgeGraph

if TYPE_CHECKING:
    import dgl

KINDS = ("head-head", "tail-tail", "head-tail", "tail-head")
# Matrices of at most this many relation ids are dense: 256 MB each at the most.
DENSE = 8192


class RelationGraph:
    """The graph of the relations of a knowledge graph.

    Args:
        graph: the knowledge graph.

    Attributes:
        shared: `(R, R)`, sparse: the number of entities that are heads of both relations; R
            relation ids, inverses included.
        opposite: `(R,)` int64, the inverse of each relation id.
    """

    def __init__(self, graph: KnowledgeGraph) -> None:
        size = graph.num_relation_ids
        self.opposite = graph.inverse_of(torch.arange(size))
        csc = graph.csc
        relation = self.opposite.numpy()[csc.type[csc.group_begins]]  # a tail of r⁻¹ heads r
        groups_until = np.concatenate([[0], csc.group_begins.cumsum()])[csc.offsets]
        touches = csr_array(
            (np.ones(len(relation), np.int32), relation, groups_until),
            shape=(graph.num_entities, size),
        )
        self.shared = csr_array(touches.T @ touches)

    @property
    def num_relation_ids(self) -> int:
        """R, the number of nodes."""
        return int(self.shared.shape[0])

    @cached_property
    def heterograph(self) -> dgl.DGLGraph:
        """A DGL heterograph of the nodes "relation", with the four edge types of `KINDS`.

        The edge data `count` are the numbers of entities at which two relations meet. A relation
        has no edge to itself of the kinds head-head and tail-tail.
        """
        from kgtool.ops.runtime.dgl import dgl

        met = self.shared.tocoo()
        to, source = (torch.from_numpy(ids.astype(np.int32)) for ids in met.coords)
        count = torch.from_numpy(met.data)
        other = (~(to == source), torch.ones(len(to), dtype=torch.bool))
        turned = self.opposite.int()
        ends = {
            "head-head": (source, to, other[0]),
            "tail-tail": (turned[source.long()], turned[to.long()], other[0]),
            "head-tail": (source, turned[to.long()], other[1]),
            "tail-head": (turned[source.long()], to, other[1]),
        }
        edges = {
            ("relation", kind, "relation"): (u[on], v[on]) for kind, (u, v, on) in ends.items()
        }
        graph = dgl.heterograph(edges, {"relation": self.num_relation_ids}, idtype=torch.int32)
        for kind, (_, _, on) in ends.items():
            graph.edges[kind].data["count"] = count[on]
        return graph

    @cached_property
    def mean(self) -> Tensor:
        """`(R, R)` float32: `1 / n` in row r' at each of the n relations that share heads with r'.

        Multiplied with states of relations it is their mean over the edges of the kind head-head.
        Dense, or sparse above `DENSE` relation ids.
        """
        row, column = self.shared.nonzero()
        other = row != column
        row, column = row[other], column[other]
        share = torch.from_numpy(1 / np.bincount(row, minlength=self.num_relation_ids)[row])
        place, size = torch.from_numpy(np.stack([row, column])), self.shared.shape
        matrix = torch.sparse_coo_tensor(place, share.float(), size, check_invariants=True)
        return matrix.to_dense() if self.num_relation_ids <= DENSE else matrix.coalesce()
