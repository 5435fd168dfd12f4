"""The all-paths GRU decoder: one pass from a head reads every relation path that leaves it.

The GRU's state lives on entities. From a head `h`, with `s_v^0 = [v = h] · init`,

    m_v^i = AGG_{(u, r)→v} s_u^{i-1} ⊙ w_r^i,   s_v^i = GRU(m_v^i, s_v^{i-1}),   i = 1 … L,
    score(h, r, t) = ⟨q_r, [s_t^L, relu(V s_t^L + b)]⟩,

so that every path of at most L edges from h to t has its say, in time linear in the edges reached,
and one pass serves all queries of its head. An entity that no path reaches has the state 0.

Where there is an encoder, with states x_v and z_r, the pass starts from `init + x_h`, and the score
reads `s_t^L + x_t` and `q_r + z_r`.

Kin: NBFNet (Zhu et al. 2021), whose passes read the query relation too, RED-GNN (Zhang & Yao 2022),
AdaProp (Zhang et al. 2023). Nothing here belongs to an entity: without an encoder's embeddings, the
weights serve any graph with the same relations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import Reach, Region, Task, path_step, reach
from kgtool.ops.all_paths.region import EDGES_AN_ENTITY

# Edges that a part of a batch reads in all its steps. With fewer than the least, threads wait for
# Python's lock more than they gain; more than the most only take memory.
LEAST_EDGES, MOST_EDGES = 1 << 21, 1 << 23
# An edge that a budgeted pass reads takes the time of so many of a whole one.
READING = 8


class Feed(NamedTuple):
    """States of an encoder that a pass is given.

    Attributes:
        entities: `(N, d)` float: what the head starts from beside `init`, and what is added to an
            entity's last state.
        relations: `(2 · num_relations, d)` float: what is added to `q_r`.
    """

    entities: Tensor
    relations: Tensor


class AllPathsDecoder(nn.Module):
    """A GRU that reads all paths at once.

    Its cell is torch's, `s' = (1 - z) ∗ n + z ∗ s`, its input the mean and the standard deviation
    of the messages, see `kgtool.ops.all_paths.path_step`. The cell is one for all steps; relation
    weights and scalers are each step's own.

    Args:
        num_relations: relations, inverses not counted.
        dim: d, of the states.
        layers: L, edges of the longest path.
        mlp_dim: m, dims of the non-linear part of the score.
        node_budget: the budget of a pass: most entities that a layer may add to a head's, see
            `kgtool.ops.all_paths.region`; 0 for no budget.
    """

    # See `kgtool.models.model.Model.rows_of`.
    rows_of: Mapping[str, tuple[str, int]] = {
        "weights": ("relation", 1), "priority": ("relation", 0),
        "relations": ("relation", 0), "relations_hidden": ("relation", 0),
    }  # fmt: skip

    def __init__(
        self, num_relations: int, dim: int, layers: int, mlp_dim: int, node_budget: int = 0
    ) -> None:
        super().__init__()
        num_types = 2 * num_relations
        self.dim, self.node_budget = dim, node_budget
        self.init = nn.Parameter(torch.empty(dim))
        self.weights = nn.Parameter(torch.empty(layers, num_types, dim))  # w_r^i
        self.scalers = nn.Parameter(torch.empty(layers, 2, dim))
        self.messages_in = nn.Parameter(torch.empty(2 * dim, 3 * dim))  # to z, r, n
        self.state_in = nn.Parameter(torch.empty(dim, 3 * dim))
        self.bias = nn.Parameter(torch.empty(4 * dim))  # of z, r, n, and of n's part of the state
        self.hidden = nn.Linear(dim, mlp_dim)  # V, b
        self.relations = nn.Parameter(torch.empty(num_types, dim))  # q_r, its part for the state
        self.relations_hidden = nn.Parameter(torch.empty(num_types, mlp_dim))
        if node_budget:
            self.priority = nn.Parameter(torch.empty(num_types, dim + 1))  # a_r, b_r
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Messages that at first pass states on, little changed by the relation."""
        nn.init.normal_(self.init, std=0.5)
        nn.init.normal_(self.weights, mean=1.0, std=0.3)
        nn.init.zeros_(self.scalers)
        nn.init.normal_(self.messages_in, std=1 / math.sqrt(2 * self.dim))
        nn.init.normal_(self.state_in, std=1 / math.sqrt(self.dim))
        nn.init.zeros_(self.bias)
        nn.init.normal_(self.relations, std=0.1)
        nn.init.normal_(self.relations_hidden, std=0.1)
        if self.node_budget:
            nn.init.zeros_(self.priority)

    @property
    def layers(self) -> int:
        """L."""
        return len(self.weights)

    def split(self, graph: KnowledgeGraph, head: Tensor) -> tuple[Tensor, ...]:
        """Heads in parts of even size, `(b,)` each: one a thread, if that is work enough."""
        edges = graph.num_edges
        if self.node_budget:
            edges = min(edges, self.node_budget * EDGES_AN_ENTITY) * READING
        edges *= len(head) * self.layers
        parts = min(max(torch.get_num_threads(), edges // MOST_EDGES), edges // LEAST_EDGES)
        return head.tensor_split(max(1, min(parts, len(head))))

    def reach(
        self,
        graph: KnowledgeGraph,
        head: Tensor,
        excluded_edges: Sequence[Tensor] | None = None,
        task: Task | None = None,
    ) -> Reach | Region:
        """What paths of at most L edges reach from each head; with a budget, what is kept of it.

        Args:
            graph: the knowledge graph.
            head: `(B,)` int64.
            excluded_edges: of each head, `(k,)` int64, edges into it that are not there for this
                head, nor are their inverses; None excludes none.
            task: what a budgeted pass of training is for; None for one that answers.

        Returns:
            Of a budget, the heads alone: the pass itself, `states`, makes it grow.
        """
        if self.node_budget:
            types = graph.num_relation_ids
            return Region(graph.csc, head, types, self.node_budget, excluded_edges, task)
        return reach(graph.csc, graph.inverse.numpy(), head, self.layers, excluded_edges)

    def forward(self, reached: Reach | Region, feed: Feed | None = None) -> Tensor:
        """What entities are scored by after a pass from each head, as the last of `states`."""
        last = self.states(reached, feed)[-1]
        if feed is None:
            return last
        given = feed.entities.index_select(0, reached.entities())
        return last + nn.functional.pad(given, (0, 0, 0, len(last) - len(given))).to(last.dtype)

    def states(self, reached: Reach | Region, feed: Feed | None = None) -> list[Tensor]:
        """The states after each step from 0 to L, `(rows(step), d)` and more.

        The rows beyond, one at least but at step 0, are zero: the state of what no path reaches.
        """
        states = [self.init.expand(reached.num_heads, -1)]
        if feed is not None:
            given = feed.entities.index_select(0, torch.from_numpy(reached.head))
            states = [states[0] + given]
        context = torch.zeros(reached.num_heads, dtype=torch.long)
        matrix = self.matrix()
        for step in range(1, self.layers + 1):
            if isinstance(reached, Region):
                reached.grow(states[-1], self.priority)
            state = path_step(
                states[-1], self.weights[step - 1 : step], self.scalers[step - 1], matrix,
                self.bias, context, reached, step,
            )  # fmt: skip
            states.append(state)
        return states

    def walk_loss(self, reached: Reach | Region) -> Tensor | None:
        """The loss of a budget's choice of entities after its pass; None without a budget."""
        return reached.walk_loss(self.priority) if isinstance(reached, Region) else None

    def matrix(self) -> Tensor:
        """`(3d, 4d)`: from messages and state to z, r and the two parts of n."""
        d, x, s = self.dim, self.messages_in, self.state_in
        upper = torch.cat([x, x.new_zeros(2 * d, d)], dim=1)
        lower = torch.cat([s[:, : 2 * d], s.new_zeros(d, d), s[:, 2 * d :]], dim=1)
        return torch.cat([upper, lower])

    def features(self, state: Tensor) -> Tensor:
        """`(n, d + m)`: what a state is scored by, `[s, relu(V s + b)]`, of states `(n, d)`."""
        return torch.cat([state, torch.relu(self.hidden(state)).to(state.dtype)], dim=1)

    def queries(self, relation: Tensor, feed: Feed | None = None) -> Tensor:
        """`(n, d + m)`: `q_r` of relation ids `(n,)`, inverses included."""
        linear = self.relations if feed is None else self.relations + feed.relations
        both = torch.cat([linear, self.relations_hidden], dim=1)
        return both.index_select(0, relation.to(both.device))
