"""The encoder over the graph of relations: how each relation stands to the relation of a query.

An R-GCN (Schlichtkrull et al. 2018, eq. 2) over `kgtool.graph.relation_graph`, with a matrix for
each of its four kinds of edges. For the relation q of a query,

    x_r^0 = [r = q] · init + U relu(V φ(q, r) + c) + e,
    x_r^i = x_r^{i-1} + relu(norm(Σ_k mean_{r' → r, kind k} x_{r'}^{i-1} W_k + x_r^{i-1} W_0 + b)).

where φ are the statistics of the two relations (`RelationGraph.statistics`): how often they meet,
and how well walks by r foretell the answers of q.

The states depend on how relations meet, and not on which relations and entities they are. So the
weights serve any graph (as ULTRA, Galkin et al. 2024, and TRIX, Zhang et al. 2024).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kgtool.graph.relation_graph import KINDS, NUM_STATISTICS, RelationGraph
from kgtool.ops import normal_


class RelationEncoder(nn.Module):
    """An R-GCN over the graph of relations, conditioned on the relation of a query.

    Args:
        dim: d, of the states.
        layers: number of layers.
    """

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.dim = dim
        self.init = nn.Parameter(torch.empty(dim))
        self.statistics = nn.Sequential(
            nn.Linear(NUM_STATISTICS, dim), nn.ReLU(), nn.Linear(dim, dim)
        )
        self.kinds = nn.Parameter(torch.empty(layers, len(KINDS) * dim, dim))  # W_k
        self.self_loop = nn.Parameter(torch.empty(layers, dim, dim))  # W_0
        self.bias = nn.Parameter(torch.zeros(layers, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the start state and the matrices."""
        normal_(self.init, std=0.5)
        normal_(self.kinds, std=1 / math.sqrt(self.kinds.shape[1]))
        normal_(self.self_loop, std=1 / math.sqrt(self.dim))

    def forward(self, graph: RelationGraph, relation: Tensor) -> Tensor:
        """`(C, R, d)`: the states of all R relation ids for each query relation `(C,)` int64."""
        count, size = len(relation), graph.num_relation_ids
        at = self.init.new_zeros(size, count, 1)
        at[relation, torch.arange(count)] = 1
        statistics = graph.statistics(relation).to(self.init.dtype)
        x = at * self.init + self.statistics(statistics).transpose(0, 1)
        for i, norm in enumerate(self.norms):
            turned = x.index_select(0, graph.opposite)
            both = torch.cat([x, turned], dim=2).view(size, -1)
            of_heads = (graph.mean.to(both.dtype) @ both).view(size, count, -1)
            met = torch.cat([of_heads, of_heads.index_select(0, graph.opposite)], dim=2)
            read = met @ self.kinds[i] + x @ self.self_loop[i] + self.bias[i]
            x = x + torch.relu(norm(read))
        return x.transpose(0, 1)
