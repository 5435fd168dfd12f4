"""Ranking metrics and their bootstrap intervals.

Every metric is a function of sums over queries. The metrics of a group of queries, or of a
bootstrap resample, are therefore the same function of a weighted sum of the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from kgtool.evaluation.ranking import Ranks

POLICIES = ("realistic", "optimistic", "pessimistic")
HITS = (1, 3, 10)
# Random negatives of the sampled protocol (GraIL, Teru et al. 2020).
NEGATIVES = 50
RESAMPLES = 1000
LEVEL = 0.95
# Rows whose bootstrap weights are in memory at a time: 8 MB.
CHUNK_ROWS = 8192

Metrics = dict[str, float]


def addends(rank: Tensor, candidates: Tensor, hits: Sequence[int] = HITS) -> Tensor:
    """The summands of each query; metrics are functions of their sums.

    Args:
        rank: `(n,)` float64, 1-based.
        candidates: `(n,)`, number of entities ranked, including the answer.
        hits: the k of Hits@k.

    Returns:
        `(n, 5 + len(hits))` float64: 1, 1/rank, log rank, rank, the expected rank of random scores
        `(candidates + 1) / 2`, and for each k whether the rank is at most k.
    """
    columns = [torch.ones_like(rank), 1 / rank, rank.log(), rank, (candidates.double() + 1) / 2]
    return torch.stack([*columns, *((rank <= k).double() for k in hits)], dim=1)


def metrics_from(sums: Tensor, hits: Sequence[int] = HITS) -> dict[str, Tensor]:
    """Metric → values, from sums of `addends` `(..., 5 + len(hits))`; NaN without queries.

    - `mrr`: mean reciprocal rank; `hits@k`: the share of ranks of at most k.
    - `mr`, `gmr`: arithmetic and geometric mean rank.
    - `amr`: the mean rank divided by its expectation for random scores; 1 is random, 0 is best.
    - `amri`: `1 - (mr - 1) / (chance - 1)`; 0 is random, 1 is best (Berrendorf et al. 2020, eq. 6
      and 8). If the answer is the only candidate, both have the value of random scores.
    """
    count, reciprocal, logarithm, rank, chance = sums[..., :5].unbind(-1)
    spare = (chance - count).clamp(min=0)
    return {
        "mrr": reciprocal / count,
        "mr": rank / count,
        "gmr": (logarithm / count).exp(),
        "amr": rank / chance,
        "amri": torch.where(spare == 0, 0 * count / count, 1 - (rank - count) / spare),
        **{f"hits@{k}": sums[..., 5 + i] / count for i, k in enumerate(hits)},
    }


def metrics_of(
    ranks: Ranks, hits: Sequence[int] = HITS, weight: Tensor | None = None
) -> dict[str, Metrics]:
    """Tie policy → metric → value, by `metrics_from`.

    With weights `(n,)`, above 0, all sums over queries are weighted: the MRR is
    `Σ ω / rank / Σ ω`.

    Raises:
        ValueError: if there are no ranks.
    """
    if not len(ranks.better):
        raise ValueError("no ranks to summarise")
    table = {}
    for policy in POLICIES:
        rows = addends(getattr(ranks, policy), ranks.candidates, hits)
        sums = (rows if weight is None else rows * weight.double().unsqueeze(1)).sum(0)
        table[policy] = {name: float(value) for name, value in metrics_from(sums, hits).items()}
    return table


@dataclass(frozen=True, eq=False)
class Grouping:
    """A group for each query.

    Attributes:
        names: the groups, in display order.
        of: `(q,)` int64, the position in `names` of each query's group.
    """

    names: tuple[str, ...]
    of: Tensor


def in_short(metrics: Metrics) -> str:
    """The MRR and Hits@k in a line: `MRR 0.9123, Hits@1 0.874`."""
    hits = (f"{name.capitalize()} {metrics[name]:.3f}" for name in metrics if name[:5] == "hits@")
    return ", ".join([f"MRR {metrics['mrr']:.4f}", *hits])


def resampled_sums(
    values: Tensor,
    cluster: Tensor,
    groupings: Sequence[Grouping],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Tensor]:
    """Sums of rows by group in bootstrap resamples.

    The weight of each cluster of rows is a draw from Poisson(1). For many rows this approximates
    drawing with replacement, and it does not need the number of rows (Hanley & MacGibbon 2006). The
    two queries of a triple are one cluster, because their ranks are dependent.

    Args:
        values: `(q, k)` float.
        cluster: `(q,)` int64. Rows of one cluster and one group get the same weight.
        groupings: groupings of the rows.
        resamples: b.
        seed: of the draws.

    Returns:
        For each grouping with g names `(g, k, b)` float32.
    """
    sums, laid = [], []
    for grouping in groupings:
        # Sorted by group: a group's rows are consecutive.
        stride = int(cluster.max()) + 1 if len(cluster) else 1
        key, row = torch.unique(grouping.of * stride + cluster, return_inverse=True)
        rows = torch.zeros(len(key), values.shape[1], dtype=values.dtype)
        size = torch.bincount(key // stride, minlength=len(grouping.names))
        ends = [0, *size.cumsum(0).tolist()]
        laid.append((rows.index_add_(0, row, values).float(), ends))
        sums.append(torch.zeros(len(grouping.names), values.shape[1], resamples))
    random, chance = np.random.default_rng(seed), _poisson_table()
    for first in range(0, max((len(rows) for rows, _ in laid), default=0), CHUNK_ROWS):
        draws = random.integers(0, 2**16, (CHUNK_ROWS, resamples), dtype=np.uint16)
        weight = torch.from_numpy(chance[draws])
        for out, (rows, ends) in zip(sums, laid, strict=True):
            for i, (begin, end) in enumerate(pairwise(ends)):
                low, high = max(begin, first), min(end, first + CHUNK_ROWS)
                if low < high:
                    out[i].addmm_(rows[low:high].t(), weight[low - first : high - first])
    return sums


def _poisson_table() -> np.ndarray:
    """The Poisson(1) count for each of 2¹⁶ equally likely draws."""
    counts = np.arange(9)
    below = np.exp(-1) * np.cumsum(1 / np.cumprod(np.maximum(counts, 1)))
    return np.searchsorted(below, (np.arange(2**16) + 0.5) / 2**16).astype(np.float32)


def interval(values: Tensor, level: float = LEVEL) -> tuple[Tensor, Tensor]:
    """The bootstrap percentile interval over the last dimension; NaN resamples do not count."""
    values = values.sort(dim=-1)[0]  # NaN last
    count = (~values.isnan()).sum(-1, keepdim=True)
    ends = (((1 - level) / 2, torch.floor), ((1 + level) / 2, torch.ceil))
    low, high = (
        values.gather(-1, rounded(share * (count - 1).clamp(min=0)).long()).squeeze(-1)
        for share, rounded in ends
    )
    return low, high


def sampled_metrics_of(
    ranks: Ranks, negatives: int = NEGATIVES, hits: Sequence[int] = HITS
) -> Metrics:
    """The expected metrics of a ranking against a few random negatives.

    GraIL (Teru et al. 2020) and later papers rank an answer among 50 random entities. Let `b` of
    the `c` other candidates be better than the answer. A sample of `n` candidates, drawn without
    replacement, has `k` better ones with the hypergeometric probability
    `C(b, k) C(c - b, n - k) / C(c, n)`; the expectation needs no sampling. These metrics are far
    higher than those of a full ranking, and not comparable to them.

    Args:
        ranks: of full rankings; the result is the mean of winning all ties and of losing all ties.
        negatives: n, or all other candidates if they are fewer.
        hits: the k of Hits@k.

    Returns:
        `mrr`, and `hits@k` for each k.
    """
    others = (ranks.candidates - 1).double().unsqueeze(1)
    drawn = others.clamp(max=negatives)
    k = torch.arange(negatives + 1).double()
    chances = []
    for better in (ranks.better, ranks.better + ranks.equal):
        b = better.double().unsqueeze(1)
        log = _log_binomial(b, k) + _log_binomial(others - b, drawn - k)
        chances.append((log - _log_binomial(others, drawn)).exp())
    chance = (chances[0] + chances[1]) / 2  # (n, negatives + 1)
    return {
        "mrr": float((chance / (k + 1)).sum(1).mean()),
        **{f"hits@{h}": float(chance[:, :h].sum(1).mean()) for h in hits},
    }


def _log_binomial(n: Tensor, k: Tensor) -> Tensor:
    """`log C(n, k)`, minus infinity for `k` below 0 or above `n`."""
    inside = (k >= 0) & (k <= n)
    k = k.clamp(min=0).minimum(n)
    log = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return torch.where(inside, log, -torch.inf)
