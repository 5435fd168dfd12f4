"""Significance of the difference between runs, by the paired bootstrap.

All runs answer the same queries, and the bootstrap resamples the same triples for all of them. So
the difficulty of a triple cancels in the differences (Efron & Tibshirani 1993; for rankings Sakai
2006). A row is one metric of one run, group and side; ranks are filtered, ties realistic:

by, group, side, metric   as in the breakdown
run                       name of the run
value, low, high          the metric and its 95 % bootstrap interval
difference                to the first run; empty for the first run itself
difference_low, difference_high    its 95 % bootstrap interval
p                         two-sided p-value of the difference
verdict                   better, worse, or no significant difference
queries                   number of queries of the group on that side
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgtool.evaluation.analysis.breakdown import RankedQueries, by_side, in_use, sum_sides
from kgtool.evaluation.evaluator import SIDES
from kgtool.evaluation.metrics import (
    HITS,
    LEVEL,
    RESAMPLES,
    Grouping,
    addends,
    interval,
    metrics_from,
    resampled_sums,
)

BETTER, WORSE, NOISE = "better", "worse", "no significant difference"
NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high", "p")
COLUMNS = ("by", "group", "side", "metric", "run", *NUMBERS, "verdict", "queries")
# The column of `addends` for each metric except Hits@k.
ADDEND = {"mrr": 1, "gmr": 2, "mr": 3, "amr": 3, "amri": 3}
TINY = 1e-12  # bound for the rounding error of a zero sum
LESS_IS_BETTER = ("mr", "gmr", "amr")


def compare(
    runs: Mapping[str, RankedQueries],
    groups: Mapping[str, Grouping],
    hits: Sequence[int] = HITS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the metrics of each run with the first run: for all queries, then for each group.

    Args:
        runs: name → ranks of the same queries in the same order, as from `read_matched`.
        groups: name → grouping of those queries.
        hits: the k of Hits@k.
        resamples: number of bootstrap resamples.
        seed: of the resamples.

    Returns:
        The table of the module docstring, with runs in the given order.

    Raises:
        ValueError: for fewer than two runs, or for runs with different queries.
    """
    all_queries = [*runs.values()]
    if len(runs) < 2:
        raise ValueError("a comparison needs at least two runs")
    queries = all_queries[0]
    for other in all_queries[1:]:
        if not (
            torch.equal(other.triple, queries.triple)
            and torch.equal(other.head_side, queries.head_side)
        ):
            raise ValueError("the runs have different queries")
    rows = [
        by_side(addends(run.ranks["realistic"], run.candidates, hits), run.head_side)
        for run in all_queries
    ]
    # The differences are summed: equal runs then have a difference of exactly 0 in all resamples.
    values = torch.cat([rows[0], *(row - rows[0] for row in rows[1:])], dim=1)
    everything = Grouping(("all",), torch.zeros_like(queries.triple))
    used = {by: in_use(grouping) for by, grouping in ({"all": everything} | dict(groups)).items()}
    drawn = resampled_sums(values, queries.triple, [*used.values()], resamples, seed)
    tables = [
        _table([*runs], by, grouping, values, triple=queries.triple, resampled=resampled, hits=hits)
        for (by, grouping), resampled in zip(used.items(), drawn, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def p_value(differences: Tensor, differing: Tensor) -> Tensor:
    """The two-sided p-value of a difference, by the paired bootstrap.

    It is twice the share of resamples on the rarer side of zero, with one resample added there
    (Davison & Hinkley 1997, chapter 4). The bootstrap is overconfident for few triples. So p is at
    least `2 / 2^n`, the p-value of the sign test if all n differing triples have the same sign: a
    significant difference needs at least six of them.

    Args:
        differences: `(..., b)`, one per resample; NaN if the resample is empty.
        differing: `(...)`, number of triples that differ.

    Returns:
        `(...)` float64; 1 if no triple differs, NaN if all differences are NaN.
    """
    below, above = ((side).sum(-1) for side in (differences <= 0, differences >= 0))
    drawn = (~differences.isnan()).sum(-1)
    p = 2 * (torch.minimum(below, above) + 1).double() / (drawn + 1)
    p = p.maximum(2 * torch.exp2(-differing.double())).clamp(max=1)
    return torch.where(drawn > 0, p, torch.nan)


def _table(
    names: Sequence[str],
    by: str,
    grouping: Grouping,
    values: Tensor,
    *,
    triple: Tensor,
    resampled: Tensor,
    hits: Sequence[int],
) -> pd.DataFrame:
    """The rows of a grouping.

    Args:
        names: names of the r runs.
        by: name of the grouping.
        grouping: g non-empty groups.
        values: `(q, r · w)` float64: the first run's addends by side, then for each other run its
            difference to them.
        triple: `(q,)` int64.
        resampled: `(g, r · w, b)`, resampled sums of `values`.
        hits: the k of Hits@k.
    """
    width = values.shape[1] // len(names)
    sums = values.new_zeros(len(grouping.names), values.shape[1])
    sums = sums.index_add_(0, grouping.of, values)
    first, *others = sums.split(width, dim=1)
    first_drawn, *others_drawn = resampled.transpose(1, 2).split(width, dim=2)
    changes = values.split(width, dim=1)[1:]
    metrics = [*metrics_from(sum_sides(first), hits)]
    # A metric differs if its column of `addends` does; Hits@k has the column at its own position.
    column = [ADDEND.get(metric, place) for place, metric in enumerate(metrics)]
    value, value_drawn = _metrics(first, hits), _metrics(first_drawn, hits)
    unknown = torch.full_like(value, torch.nan)
    columns = [(value, *interval(value_drawn), *[unknown] * 4)]
    for change, sum_, drawn in zip(changes, others, others_drawn, strict=True):
        ours, ours_drawn = _metrics(first + sum_, hits), _metrics(first_drawn + drawn, hits)
        differences = ours_drawn - value_drawn
        p = p_value(differences, _differing(change, grouping, triple)[..., column])
        columns.append((ours, *interval(ours_drawn), ours - value, *interval(differences), p))
    index = pd.MultiIndex.from_product(
        [[by], grouping.names, SIDES, metrics, names], names=COLUMNS[:5]
    )
    table = pd.DataFrame(
        {  # (groups, sides, metrics, runs)
            name: torch.stack(numbers, dim=-1).flatten().numpy()
            for name, numbers in zip(NUMBERS, zip(*columns, strict=True), strict=True)
        },
        index,
    ).reset_index()
    gain = table["difference"].where(~table["metric"].isin(LESS_IS_BETTER), -table["difference"])
    shown = table["p"] < 1 - LEVEL
    table["verdict"] = np.select(
        [table["p"].isna(), shown & (gain > 0), shown & (gain < 0)], ["", BETTER, WORSE], NOISE
    )
    size = sum_sides(first)[..., 0].long()  # (groups, sides)
    table["queries"] = size.flatten().repeat_interleave(len(metrics) * len(names)).numpy()
    return table[table["queries"] > 0]


def _metrics(sums: Tensor, hits: Sequence[int]) -> Tensor:
    """Metrics `(g, sides, m, …)` from sums `(g, …, w)`."""
    return torch.stack([*metrics_from(sum_sides(sums), hits).values()], dim=2)


def _differing(change: Tensor, grouping: Grouping, triple: Tensor) -> Tensor:
    """`(g, sides, w)`: the number of triples of a group whose addends differ between two runs.

    Args:
        change: `(q, 2 · w)`, the differences by side.
        grouping: g groups.
        triple: `(q,)` int64.
    """
    stride = int(triple.max()) + 1
    key, row = torch.unique(grouping.of * stride + triple, return_inverse=True)
    sums = sum_sides(change.new_zeros(len(key), change.shape[1]).index_add_(0, row, change))
    count = torch.zeros(len(grouping.names), *sums.shape[1:], dtype=torch.long)
    return count.index_add_(0, key // stride, (sums.abs() > TINY).long())
