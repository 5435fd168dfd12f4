"""Metrics as sums over queries, and bootstrap intervals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.evaluation.metrics import (
    Grouping,
    addends,
    interval,
    metrics_from,
    metrics_of,
    resampled_sums,
)
from kgtool.evaluation.ranking import Ranks

RANKS = st.lists(st.integers(1, 200), min_size=1, max_size=30)


@given(RANKS, st.lists(st.integers(0, 100), min_size=30, max_size=30))
def test_metrics_are_their_definitions(ranks, spare):
    rank = torch.tensor(ranks).double()
    candidates = torch.tensor(ranks) + torch.tensor(spare[: len(ranks)])
    found = metrics_from(addends(rank, candidates, (1, 5)).sum(0), (1, 5))
    n = len(ranks)
    chance = sum((c + 1) / 2 for c in candidates.tolist()) / n
    assert float(found["mrr"]) == pytest.approx(sum(1 / r for r in ranks) / n)
    assert float(found["mr"]) == pytest.approx(sum(ranks) / n)
    assert float(found["gmr"]) == pytest.approx(math.prod(r ** (1 / n) for r in ranks))
    assert float(found["amr"]) == pytest.approx(sum(ranks) / n / chance)
    index = 1 - (sum(ranks) / n - 1) / (chance - 1) if chance > 1 else 0
    assert float(found["amri"]) == pytest.approx(index)
    assert float(found["hits@5"]) == sum(r <= 5 for r in ranks) / n


def test_no_query_and_no_candidates_are_nan():
    rank = torch.tensor([2.0, 4.0], dtype=torch.double)
    unknown = metrics_from(addends(rank, torch.full((2,), torch.nan)).sum(0))
    assert float(unknown["mr"]) == 3
    assert math.isnan(unknown["amr"])
    assert math.isnan(unknown["amri"])
    nothing = metrics_from(addends(rank, torch.tensor([9, 9]))[:0].sum(0))
    assert all(math.isnan(value) for value in nothing.values())


@settings(deadline=None)
@given(RANKS)
def test_a_geometric_mean_is_between_harmonic_and_arithmetic(ranks):
    n = len(ranks)
    ranking = Ranks(torch.tensor(ranks) - 1, torch.zeros(n).long(), torch.full((n,), 300))
    found = metrics_of(ranking)["realistic"]
    assert 1 / found["mrr"] <= found["gmr"] + 1e-9
    assert found["gmr"] <= found["mr"] + 1e-9


def test_resampled_sums_are_draws_of_clusters():
    # A cluster is drawn as often for both of its rows: their difference is always zero.
    values = torch.tensor([[1.0, 3.0], [1.0, -3.0], [1.0, 5.0]])
    cluster = torch.tensor([0, 0, 1])
    everyone = Grouping(("all",), torch.zeros(3, dtype=torch.long))
    apart = Grouping(("a", "none", "b"), torch.tensor([0, 0, 2]))
    together, split = resampled_sums(values, cluster, [everyone, apart], resamples=4000)
    assert together.shape == (1, 2, 4000)
    assert split.shape == (3, 2, 4000)
    assert bool((together[0, 0] == (2 * (split[0, 0] / 2).round() + split[2, 0])).all())
    assert bool((split[0, 1] == 0).all())
    assert bool((split[1] == 0).all())
    counts = split[2, 0]
    assert float(counts.mean()) == pytest.approx(1, abs=0.06)
    assert float(counts.var()) == pytest.approx(1, abs=0.1)
    again = resampled_sums(values, cluster, [everyone, apart], resamples=4000)
    assert torch.equal(again[0], together)
    other = resampled_sums(values, cluster, [everyone], resamples=4000, seed=1)
    assert not torch.equal(other[0], together)


def test_chunks_of_rows_change_no_mean(monkeypatch):
    values = torch.ones(1000, 1)
    everyone = Grouping(("all",), torch.zeros(1000, dtype=torch.long))
    monkeypatch.setattr("kgtool.evaluation.metrics.CHUNK_ROWS", 64)
    sums = resampled_sums(values, torch.arange(1000), [everyone], resamples=500)[0][0, 0]
    assert float(sums.mean()) == pytest.approx(1000, rel=0.01)
    assert float(sums.std()) == pytest.approx(1000**0.5, rel=0.15)


def test_the_interval_covers_as_often_as_it_says():
    # 300 samples of 200 reciprocal ranks whose mean is known: 95 % of intervals should hold it.
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([1, 0.5, 0.25, 0.1])
    everyone = Grouping(("all",), torch.zeros(200, dtype=torch.long))
    held = 0
    for seed in range(300):
        sample = values[torch.randint(4, (200,), generator=generator)]
        rows = torch.stack([torch.ones(200), sample], dim=1)
        sums = resampled_sums(rows, torch.arange(200), [everyone], 300, seed)[0][0]
        low, high = interval(sums[1] / sums[0])
        held += int(low <= values.mean() <= high)
    assert 0.90 <= held / 300 <= 0.985


def test_intervals_leave_nan_out():
    values = torch.tensor([[3.0, torch.nan, 1.0, 2.0], [torch.nan] * 4])
    low, high = interval(values, 0.5)
    assert (float(low[0]), float(high[0])) == (1.0, 3.0)
    assert low[1].isnan()
    assert high[1].isnan()
