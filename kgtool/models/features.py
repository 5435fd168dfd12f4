"""Projects entity features, see `kgtool.data.features`, to initial states of entities.

    x_v = b + Σ_f (W_f (z_{v,f} − μ_f) / σ_f  if v has a vector z_{v,f} of source f,  else m_f)

`W`, `b` and `m` are learned. The mean `μ` and the deviation `σ` are those of the entities that
occur in train. They are saved with the weights, so that other graphs are normalised alike. A number
that is the same for all entities of train counts as 0 everywhere.

Shapes: N entities, D numbers of all sources, S sources, d dims.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kgtool.data.features import BLOCK
from kgtool.ops import normal_, product

# Without gradients, the states of this many entities are computed at a time: it saves memory.
ENTITIES = 1 << 17


class FeatureProjection(nn.Module):
    """Initial states of entities from their vectors.

    Args:
        table: `(N, D)` float32, the vectors by entity; NaN where an entity lacks a source. It is
            not saved with the weights.
        widths: the width of each source; their sum is D.
        dim: d.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, table: Tensor, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.table = table
        self.starts = [sum(widths[:i]) for i in range(len(widths))]
        width = table.shape[1]
        self.weight = nn.Parameter(torch.empty(dim, width))  # W
        self.bias = nn.Parameter(torch.empty(dim))  # b
        self.missing = nn.Parameter(torch.empty(len(widths), dim))  # m
        self.register_buffer("mean", torch.zeros(width))  # μ
        self.register_buffer("scale", torch.ones(width))  # 1/σ, 0 for a constant number
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """States with the standard deviation of new embeddings, 0.1."""
        normal_(self.weight, std=0.1 / math.sqrt(self.weight.shape[1]))
        nn.init.zeros_(self.bias)
        normal_(self.missing, std=0.1)

    @torch.no_grad()
    def fit(self, entity: Tensor) -> None:
        """Set mean and deviation to those of entities `(n,)` int64; missing vectors do not count.

        They are computed in float64, a block of rows at a time.
        """
        width = self.table.shape[1]
        count, total, squares = (torch.zeros(width, dtype=torch.float64) for _ in range(3))
        least, most = torch.full((width,), torch.inf), torch.full((width,), -torch.inf)
        for some in entity.split(BLOCK):
            rows = self.table[some]
            present = ~rows.isnan()
            count += present.sum(0)
            total += rows.double().nan_to_num(nan=0.0).sum(0)
            least = torch.minimum(least, rows.nan_to_num(nan=torch.inf).amin(0))
            most = torch.maximum(most, rows.nan_to_num(nan=-torch.inf).amax(0))
        mean = total / count.clamp(min=1)
        for some in entity.split(BLOCK):
            squares += (self.table[some].double() - mean).square().nan_to_num(nan=0.0).sum(0)
        deviation = (squares / count.clamp(min=1)).sqrt()
        varies = (most > least) & (deviation > 0)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, 1 / deviation, 0.0))

    def forward(self, entity: Tensor | None = None) -> Tensor:
        """`(n, d)` states of entities `(n,)` int64; of all entities by default."""
        if entity is not None:
            return self._project(self.table[entity])
        if torch.is_grad_enabled() or len(self.table) <= ENTITIES:
            return self._project(self.table)
        states = torch.empty(len(self.table), len(self.bias), dtype=self.bias.dtype)
        for begin in range(0, len(self.table), ENTITIES):
            states[begin : begin + ENTITIES] = self._project(self.table[begin : begin + ENTITIES])
        return states

    def _project(self, rows: Tensor) -> Tensor:
        normal = ((rows.to(self.mean.dtype) - self.mean) * self.scale).nan_to_num(nan=0.0)
        states = product(normal, self.weight.t()) + self.bias
        lacking = rows[:, self.starts].isnan()
        if lacking.any():
            states = states + lacking.to(states.dtype) @ self.missing
        return states.to(self.missing.dtype)
