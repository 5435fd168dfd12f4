"""The report's tables of metrics, from the files of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kgtool.evaluation.evaluator import SIDES
from kgtool.evaluation.metrics import POLICIES
from kgtool.report.stored import Stored


@dataclass(frozen=True)
class MetricRow:
    """Metrics of some queries under one tie policy.

    Attributes:
        side, ties: the side and the tie policy.
        metrics: name → value.
        low, high: name → end of the 95 % interval; empty without intervals.
    """

    side: str
    ties: str
    metrics: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """Metrics of a group of queries, filtered, realistic ties.

    Attributes:
        name: the name of the group.
        queries: side → number of queries; sides without queries are left out, also below.
        metrics: side → metric → value.
        low, high: side → ends of the 95 % interval of MRR.
        note: what to say of the group, such as that no path reaches its answers.
    """

    name: str
    queries: dict[str, int]
    metrics: dict[str, dict[str, float]]
    low: dict[str, float]
    high: dict[str, float]
    note: str = ""


def metric_rows(stored: Stored) -> dict[str, list[MetricRow]]:
    """The metrics of all queries: filtered, raw, and of triples whose labels occur in train."""
    parts: dict[str, Mapping[str, Any]] = {"filtered": stored.metrics}
    parts |= {name: stored.metrics[name] for name in ("raw", "seen") if stored.metrics.get(name)}
    return {
        name: [
            MetricRow(side, ties, part[side][ties], *_ends(stored.breakdown, name, side, ties))
            for side in SIDES
            for ties in POLICIES
        ]
        for name, part in parts.items()
    }


def _ends(
    breakdown: pd.DataFrame, filter_: str, side: str, ties: str
) -> tuple[dict[str, float], dict[str, float]]:
    rows = breakdown[
        (breakdown["by"] == "all")
        & (breakdown["filter"] == filter_)
        & (breakdown["side"] == side)
        & (breakdown["ties"] == ties)
    ].dropna(subset=["low", "high"])
    metrics = rows["metric"].tolist()
    return dict(zip(metrics, rows["low"], strict=True)), dict(
        zip(metrics, rows["high"], strict=True)
    )


def groups_of(breakdown: pd.DataFrame, by: str) -> list[Group]:
    """The groups of a grouping, in the table's order; empty if the table lacks the grouping."""
    rows = breakdown[
        (breakdown["by"] == by)
        & (breakdown["filter"] == "filtered")
        & (breakdown["ties"] == "realistic")
    ]
    groups: dict[str, Group] = {}
    for row in rows.itertuples():
        group = groups.setdefault(row.group, Group(row.group, {}, {}, {}, {}, row.note))
        group.metrics.setdefault(row.side, {})[row.metric] = row.value
        if row.metric == "mrr":
            group.queries[row.side] = int(row.queries)
            group.low[row.side], group.high[row.side] = row.low, row.high
    return list(groups.values())


def by_queries(groups: Sequence[Group]) -> list[Group]:
    """The groups with most queries first."""
    return sorted(groups, key=lambda group: -group.queries["both"])
