"""The all-paths GRU decoder: one pass from a head reads every relation path that leaves it.

The GRU's state lives on entities. From a head `h`, with `s_v^0 = [v = h] · init`,

    m_v^i = AGG_{(u, r)→v} s_u^{i-1} ⊙ w_r^i,   s_v^i = GRU(m_v^i, s_v^{i-1}),   i = 1 … L,
    score(h, r, t) = ⟨q_r, [s_t^L, relu(V s_t^L + b)]⟩,

so that every path of at most L edges from h to t adds to the score. The time is linear in the edges
reached. One pass serves all queries of its head. An entity that no path reaches has the state 0.

With an encoder, whose states are x_v and z_r, the pass starts from `init + x_h`, and the score
reads `s_t^L + x_t` and `q_r + z_r`.

Related models: NBFNet (Zhu et al. 2021), whose passes also read the query relation, RED-GNN (Zhang
& Yao 2022), AdaProp (Zhang et al. 2023). The decoder has no parameter of an entity: without an
encoder's embeddings, the weights serve any graph with the same relations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import Reach, Region, Task, normal_, path_step, reach
from kgtool.ops.all_paths.growth import EDGES_AN_ENTITY

# A part of a batch reads at least this many edges in all its layers. With fewer, threads lose more
# time waiting for Python's lock than they gain.
PART_EDGES = 4_000_000
# A budgeted pass takes as long for an edge as a full pass takes for this many.
READING = 8


class Feed(NamedTuple):
    """The encoder's states, which a pass reads.

    Attributes:
        entities: `(N, d)` float. The pass adds the head's row to `init`, and each entity's row to
            its last state.
        relations: `(2 · num_relations, d)` float. The score adds them to `q_r`.
    """

    entities: Tensor
    relations: Tensor


class Parts(NamedTuple):
    """How passes over a large graph are limited to the part around their head.

    See `kgtool.ops.all_paths.neighbourhood`. The limit has no parameter.

    Attributes:
        whole: the most edges, inverses included, of a graph that each pass reads as a whole.
        nearest: entities that each step may add to the part.
    """

    whole: int
    nearest: int


class PathGRU(nn.Module):
    """The GRU that reads all paths at once; a subclass has the parameters of relations.

    The cell is torch's, `s' = (1 - z) ∗ n + z ∗ s`. Its input is the mean and the standard
    deviation of the messages, see `kgtool.ops.all_paths.path_step`. All layers share one cell; each
    layer has its own scalers.

    Args:
        dim: d, of the states.
        layers: L, edges of the longest path.
        node_budget: the largest number of entities that a layer may add to a head's pass, see
            `kgtool.ops.all_paths.region`; 0 for no budget.
        parts: the limit of passes without a budget; None for passes over the whole graph.
    """

    def __init__(
        self, dim: int, layers: int, node_budget: int = 0, parts: Parts | None = None
    ) -> None:
        super().__init__()
        self.dim, self.layers, self.node_budget, self.parts = dim, layers, node_budget, parts

    def most(self, graph: KnowledgeGraph) -> int:
        """The most entities that a layer adds to a pass over a graph; 0 for no limit."""
        if self.node_budget or not self.parts or graph.num_edges <= self.parts.whole:
            return self.node_budget
        return self.parts.nearest

    def add_cell(self, mlp_dim: int) -> None:
        """Add the parameters, which `reset_cell` draws, after those that a subclass has first.

        Args:
            mlp_dim: m, dims of the non-linear part of the score.
        """
        dim = self.dim
        self.scalers = nn.Parameter(torch.zeros(self.layers, 2, dim))
        self.messages_in = nn.Parameter(torch.empty(2 * dim, 3 * dim))  # to z, r, n
        self.state_in = nn.Parameter(torch.empty(dim, 3 * dim))
        self.bias = nn.Parameter(torch.zeros(4 * dim))  # of z, r, n, and of n's part of the state
        self.hidden = nn.Linear(dim, mlp_dim)  # V, b

    def reset_cell(self) -> None:
        """Draw the matrices of the cell so that they keep the size of what they read."""
        normal_(self.messages_in, std=1 / math.sqrt(2 * self.dim))
        normal_(self.state_in, std=1 / math.sqrt(self.dim))

    def split(self, graph: KnowledgeGraph, head: Tensor) -> tuple[Tensor, ...]:
        """Split heads into even parts, `(b,)` each, by the work of their passes.

        The number of parts is a power of two, which divides evenly among threads. It does not
        depend on the number of threads. Without heads there are no parts.
        """
        if not len(head):
            return ()
        edges = graph.num_edges
        if most := self.most(graph):
            edges = min(edges, most * EDGES_AN_ENTITY) * READING
        edges *= len(head) * self.layers
        parts = 1 << max(0, (edges // PART_EDGES).bit_length() - 1)
        return head.tensor_split(min(parts, len(head)))

    def reach(
        self,
        graph: KnowledgeGraph,
        head: Tensor,
        excluded_edges: Sequence[Tensor] | None = None,
        task: Task | None = None,
    ) -> Reach | Region:
        """The entities that paths of at most L edges reach from each head, within the budget.

        Args:
            graph: the knowledge graph.
            head: `(B,)` int64.
            excluded_edges: per head, `(k,)` int64 edges into it. The head's pass takes neither
                these edges nor their inverses. None excludes no edge.
            task: the targets of a budgeted training pass; None outside of training.

        Returns:
            With a budget, a region that holds only the heads; `states` makes it grow.
        """
        if self.node_budget:
            types = graph.num_relation_ids
            return Region(graph.csc, head, types, self.node_budget, excluded_edges, task)
        inverse = None if excluded_edges is None else graph.inverse.numpy()
        return reach(graph.csc, head, self.layers, excluded_edges, inverse, self.most(graph))

    def run(
        self,
        reached: Reach | Region,
        start: Tensor,
        weights: Tensor,
        context: Tensor,
        priority: Tensor | None = None,
    ) -> list[Tensor]:
        """The states after each layer from 0 to L, `(rows(layer), d)` and padding rows.

        The padding rows are zero, the state of an entity that no path reaches. There is at least
        one, except at layer 0.

        Args:
            reached: the entities of B passes.
            start: `(B, d)`, the states of the heads before the first layer.
            weights: `(L, C, R, d)`: `w_r^i`, inverses included, in C contexts.
            context: `(B,)` int64, the context of each pass.
            priority: `(R, d + 1)`, of a pass on a node budget.
        """
        states, matrix = [start], self.matrix()
        for step in range(1, self.layers + 1):
            if isinstance(reached, Region):
                assert priority is not None
                reached.grow(states[-1], priority)
            state = path_step(
                states[-1], weights[step - 1], self.scalers[step - 1], matrix, self.bias, context,
                reached, step,
            )  # fmt: skip
            states.append(state)
        return states

    def matrix(self) -> Tensor:
        """`(3d, 4d)`: from messages and state to z, r and the two parts of n."""
        d, x, s = self.dim, self.messages_in, self.state_in
        upper = torch.cat([x, x.new_zeros(2 * d, d)], dim=1)
        lower = torch.cat([s[:, : 2 * d], s.new_zeros(d, d), s[:, 2 * d :]], dim=1)
        return torch.cat([upper, lower])

    def features(self, state: Tensor) -> Tensor:
        """`(n, d + m)` features of states `(n, d)` for the score: `[s, relu(V s + b)]`."""
        return torch.cat([state, torch.relu(self.hidden(state)).to(state.dtype)], dim=1)


class AllPathsDecoder(PathGRU):
    """A GRU that reads all paths at once, with weights for each relation.

    Args:
        num_relations: relations, inverses not counted.
        dim, layers, node_budget: see `PathGRU`.
        mlp_dim: m, dims of the non-linear part of the score.
    """

    # See `kgtool.models.model.Model.rows_of`.
    rows_of: Mapping[str, tuple[str, int]] = {
        "weights": ("relation", 1), "priority": ("relation", 0),
        "relations": ("relation", 0), "relations_hidden": ("relation", 0),
    }  # fmt: skip

    def __init__(
        self, num_relations: int, dim: int, layers: int, mlp_dim: int, node_budget: int = 0
    ) -> None:
        super().__init__(dim, layers, node_budget)
        num_types = 2 * num_relations
        self.init = nn.Parameter(torch.empty(dim))
        self.weights = nn.Parameter(torch.empty(layers, num_types, dim))  # w_r^i
        self.add_cell(mlp_dim)
        self.relations = nn.Parameter(torch.empty(num_types, dim))  # q_r, its part for the state
        self.relations_hidden = nn.Parameter(torch.empty(num_types, mlp_dim))
        if node_budget:
            self.priority = nn.Parameter(torch.zeros(num_types, dim + 1))  # a_r, b_r
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Relation weights near 1: at first, messages hardly depend on the relation."""
        normal_(self.init, std=0.5)
        normal_(self.weights, mean=1.0, std=0.3)
        self.reset_cell()
        normal_(self.relations, std=0.1)
        normal_(self.relations_hidden, std=0.1)

    def forward(self, reached: Reach | Region, feed: Feed | None = None) -> Tensor:
        """The entity states that the score reads, in the rows of the last of `states`."""
        last = self.states(reached, feed)[-1]
        if feed is None:
            return last
        fed = feed.entities.index_select(0, reached.entities())
        return last + nn.functional.pad(fed, (0, 0, 0, len(last) - len(fed))).to(last.dtype)

    def states(self, reached: Reach | Region, feed: Feed | None = None) -> list[Tensor]:
        """The states after each layer from 0 to L; see `PathGRU.run`."""
        start = self.init.expand(reached.num_heads, -1)
        if feed is not None:
            start = start + feed.entities.index_select(0, torch.from_numpy(reached.head))
        context = torch.zeros(reached.num_heads, dtype=torch.long)
        priority = self.priority if self.node_budget else None
        return self.run(reached, start, self.weights.unsqueeze(1), context, priority)

    def walk_loss(self, reached: Reach | Region) -> Tensor | None:
        """The loss of the budgeted choice of entities, after a pass; None without a budget."""
        return reached.walk_loss(self.priority) if isinstance(reached, Region) else None

    def queries(self, relation: Tensor, feed: Feed | None = None) -> Tensor:
        """`(n, d + m)` queries `q_r` of relation ids `(n,)`, inverses included."""
        linear = self.relations if feed is None else self.relations + feed.relations
        both = torch.cat([linear, self.relations_hidden], dim=1)
        return both.index_select(0, relation.to(both.device))
