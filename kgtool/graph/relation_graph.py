"""The graph of relations: how the relations of a knowledge graph meet at its entities.

Its nodes are the relation ids, inverses included. An edge `r → r'` has one of four kinds, by an
entity that both touch: it is the head of both, the tail of both, the head of r and the tail of r',
or the tail of r and the head of r' (Galkin et al. 2024, "Towards Foundation Models for Knowledge
Graph Reasoning", ULTRA). The graph holds nothing of the entities.

A tail of `r` is a head of `r⁻¹`. So one matrix holds all four kinds: `A[r', r]`, the number of
entities that are heads of both. With the permutation P of each relation to its inverse, the heads
meet by A, the tails by `P A P`, heads of r and tails of r' by `P A`, the last kind by `A P`.

An edge says that two relations meet, and not how often. `RelationGraph.statistics` says that, and
how well one relation foretells the other.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import in_threads, relation_walks
from kgtool.ops.graph.relation_walks import NUM_LONG_WALKS, NUM_WALKS

if TYPE_CHECKING:
    import dgl

KINDS = ("head-head", "tail-tail", "head-tail", "tail-head")
# Matrices of at most this many relation ids are dense: 256 MB each at the most.
DENSE = 8192
# Shares at which relations meet, of both ends of a query's relation and both of the other, each of
# two sizes.
NUM_MET = 8
# Statistics of a pair of relations: each share on two scales, and three sizes of each relation.
NUM_STATISTICS = 2 * (NUM_MET + NUM_WALKS + NUM_LONG_WALKS) + 2 * 3


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
        self._csc = csc = graph.csc
        self._walks: dict[int, Tensor] = {}
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

    def statistics(self, relation: Tensor) -> Tensor:
        """How each relation stands to the relations of queries, `(C, R, NUM_STATISTICS)` float32.

        For the relation q of a query and each relation id r:

        - the shares of the entities at which an end of q and an end of r meet, among the entities
          at that end of q, and among those at that end of r;
        - the shares of walks from heads of q to its tails that begin with r, and of those of two
          edges that end with r, see `kgtool.ops.relation_walks`: the support and the confidence of
          rules;
        - the numbers of edges, heads and tails of q and of r, as logarithms.

        Shares are there as they are, and on a logarithmic scale, on which small ones differ.

        Args:
            relation: `(C,)` int64, the relation ids of the queries.
        """
        inverse, sizes = self.opposite[relation], self._sizes.log1p() / 5  # about 0 to 2
        in_threads(self._walk, torch.unique(torch.cat([relation, inverse])).tolist())
        forth = torch.stack([self._walks[q] for q in relation.tolist()])
        back = torch.stack([self._walks[q] for q in inverse.tolist()])
        back = back[:, self.opposite, -NUM_LONG_WALKS:]
        shares = torch.cat([self._met(relation), forth, back], dim=2)
        of_query = sizes[relation].unsqueeze(1).expand(-1, len(sizes), -1)
        of_each = sizes.expand(len(relation), -1, -1)
        return torch.cat([shares, (999 * shares).log1p() / 7, of_query, of_each], dim=2)

    def _walk(self, relation: int) -> None:
        """Keep the shares of the walks of a relation."""
        if relation not in self._walks:
            shares = relation_walks(self._csc, self._num_edges, relation)
            self._walks[relation] = torch.from_numpy(shares).float()

    @cached_property
    def _num_edges(self) -> NDArray[np.int64]:
        """`(R,)`, the number of edges of each relation."""
        return np.bincount(self._csc.type, minlength=self.num_relation_ids)

    @cached_property
    def _sizes(self) -> Tensor:
        """`(R, 3)` float32: the numbers of edges, heads and tails of each relation."""
        edges = torch.from_numpy(self._num_edges)
        heads = torch.from_numpy(self.shared.diagonal())
        return torch.stack([edges, heads, heads[self.opposite]], dim=1).float()

    def _met(self, relation: Tensor) -> Tensor:
        """`(C, R, NUM_MET)` float32: the shares of entities at which two relations meet."""
        heads, shares = self._sizes[:, 1], []
        for of in (relation, self.opposite[relation]):
            rows = torch.from_numpy(self.shared[of.numpy()].toarray()).float()
            for to in (torch.arange(self.num_relation_ids), self.opposite):
                met = rows[:, to]
                sizes = heads[of].unsqueeze(1), heads[to]
                shares += [met / size.clamp(min=1) for size in sizes]
        return torch.stack(shares, dim=2)
