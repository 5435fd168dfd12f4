"""The paired bootstrap, compared with loops, scipy, simulation and known results."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.evaluation.analysis.breakdown import RankedQueries, breakdown
from kgtool.evaluation.analysis.significance import BETTER, COLUMNS, NOISE, WORSE, compare, p_value
from kgtool.evaluation.evaluator import SIDES
from kgtool.evaluation.metrics import Grouping

CANDIDATES = 100
NOTHING: dict[str, Grouping] = {}


def queries_of(ranks: Any, candidates: int = CANDIDATES) -> RankedQueries:
    """Ranks of n tails, and then of the n heads of the same triples."""
    rank = torch.as_tensor(ranks, dtype=torch.double)
    n = len(rank) // 2
    return RankedQueries(
        torch.arange(n).repeat(2), torch.arange(2 * n) >= n, {"realistic": rank}, {},
        torch.full((2 * n,), candidates), torch.full((2 * n,), torch.nan),
    )  # fmt: skip


def row_of(table: pd.DataFrame, run: str, metric: str = "mrr", **where: str) -> Any:
    chosen = {"by": "all", "group": "all", "side": "both", "metric": metric, "run": run} | where
    rows = table.set_index([*chosen]).sort_index().loc[[(*chosen.values(),)]]
    assert len(rows) == 1
    return rows.iloc[0]


def some_ranks(seed: int, triples: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).geometric(0.1, 2 * triples).clip(max=CANDIDATES)


def slow_metric(metric: str, ranks: list[float]) -> float:
    n = len(ranks)
    chance = (CANDIDATES + 1) / 2
    return {
        "mrr": sum(1 / rank for rank in ranks) / n,
        "mr": sum(ranks) / n,
        "amri": 1 - (sum(ranks) / n - 1) / (chance - 1),
        "hits@1": sum(rank <= 1 for rank in ranks) / n,
        "hits@4": sum(rank <= 4 for rank in ranks) / n,
    }[metric]


RANKS = st.integers(1, 12)


@settings(deadline=None, max_examples=6)
@given(st.lists(st.tuples(RANKS, RANKS, RANKS, RANKS, st.sampled_from("xyz")), min_size=1))
def test_values_and_differences_are_those_of_loops(triples):
    first = queries_of([t[0] for t in triples] + [t[1] for t in triples])
    second = queries_of([t[2] for t in triples] + [t[3] for t in triples])
    kinds = Grouping(("x", "y", "z"), torch.tensor(["xyz".index(t[4]) for t in triples] * 2))
    table = compare({"one": first, "two": second}, {"kind": kinds}, (1, 4), resamples=20)
    assert tuple(table.columns) == COLUMNS
    rows = table.set_index([*COLUMNS[:5]]).sort_index()
    groups = [("all", "all"), *(("kind", kind) for kind in "xyz")]
    for by, group in groups:
        members = [t for t in triples if group in ("all", t[4])]
        for side in SIDES if members else ():
            ours = {
                "one": [*[t[0] for t in members if side != "head"],
                        *[t[1] for t in members if side != "tail"]],
                "two": [*[t[2] for t in members if side != "head"],
                        *[t[3] for t in members if side != "tail"]],
            }  # fmt: skip
            for metric in ("mrr", "mr", "amri", "hits@1", "hits@4"):
                one, two = (rows.loc[by, group, side, metric, run] for run in ("one", "two"))
                expected = [slow_metric(metric, [*map(float, ours[run])]) for run in ours]
                assert (one["value"], two["value"]) == pytest.approx(expected)
                assert two["difference"] == pytest.approx(expected[1] - expected[0])
                assert one["queries"] == two["queries"] == len(ours["one"])
                assert pd.isna(one["difference"])
                assert one["verdict"] == ""
    assert set(table["group"]) == {"all", *(t[4] for t in triples)}


def test_a_run_beside_itself_differs_in_nothing():
    ranks = queries_of(some_ranks(0))
    kinds = {"kind": Grouping(("a", "b"), torch.arange(400) % 2)}
    table = compare({"one": ranks, "two": ranks}, kinds)
    second = table[table["run"] == "two"]
    for name in ("difference", "difference_low", "difference_high"):
        assert (second[name] == 0).all()
    assert (second["p"] == 1).all()
    assert (second["verdict"] == NOISE).all()
    first = table[table["run"] == "one"]
    for name in ("value", "low", "high"):
        assert first[name].tolist() == second[name].tolist()


def test_a_run_that_is_better_is_called_so():
    ranks = some_ranks(0) + 1
    table = compare(
        {"one": queries_of(ranks), "two": queries_of(ranks - 1), "three": queries_of(ranks + 3)},
        NOTHING,
    )
    for metric in ("mrr", "mr", "gmr", "amr", "amri"):
        assert row_of(table, "two", metric)["verdict"] == BETTER
        assert row_of(table, "three", metric)["verdict"] == WORSE
        assert row_of(table, "two", metric)["p"] == pytest.approx(2 / 1001)
    assert row_of(table, "three", "hits@1")["verdict"] == NOISE  # none had rank 1 before
    assert row_of(table, "two", "mr")["difference"] == -1
    assert list(table["run"].unique()) == ["one", "two", "three"]


def test_the_interval_and_p_are_scipys():
    one, two = some_ranks(1, 400), some_ranks(1, 400)
    two[:500] = np.random.default_rng(5).geometric(0.11, 500)  # some are a little better
    table = compare({"one": queries_of(one), "two": queries_of(two)}, NOTHING, resamples=4000)
    change = (1 / two - 1 / one).reshape(2, 400).mean(0)  # of a triple
    theirs = scipy.stats.bootstrap(
        (change,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    )
    row = row_of(table, "two")
    spread = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert row["difference_low"] == pytest.approx(theirs.confidence_interval.low, abs=0.06 * spread)
    assert row["difference_high"] == pytest.approx(
        theirs.confidence_interval.high, abs=0.06 * spread
    )
    assert row["p"] == pytest.approx(scipy.stats.ttest_1samp(change, 0).pvalue, abs=0.04)
    assert 0.02 < row["p"] < 0.9  # so that it could have been wrong


def test_a_pair_of_runs_is_told_apart_where_two_samples_are_not():
    hard = some_ranks(3) + 1.0  # what makes triples hard is common to both
    other = hard.copy()
    other[::10] -= 1
    table = compare({"one": queries_of(hard), "two": queries_of(other)}, NOTHING)
    row, first = row_of(table, "two"), row_of(table, "one")
    assert row["verdict"] == BETTER
    assert row["low"] < first["high"]  # the intervals of the two overlap


def test_the_other_way_round_has_the_other_sign():
    one, two = queries_of(some_ranks(1)), queries_of(some_ranks(2))
    there = compare({"one": one, "two": two}, NOTHING)
    back = compare({"two": two, "one": one}, NOTHING)
    words = {BETTER: WORSE, WORSE: BETTER, NOISE: NOISE}
    there, back = there[there["run"] == "two"], back[back["run"] == "one"]
    assert there["difference"].to_numpy() == pytest.approx(-back["difference"].to_numpy())
    for low, high in (("difference_low", "difference_high"), ("difference_high", "difference_low")):
        assert there[low].to_numpy() == pytest.approx(-back[high].to_numpy(), rel=1e-3, abs=1e-5)
    assert there["p"].to_numpy() == pytest.approx(back["p"].to_numpy(), abs=0.004)
    assert [words[verdict] for verdict in there["verdict"]] == back["verdict"].tolist()


def test_intervals_are_those_of_the_breakdown():
    ranks = queries_of(some_ranks(4))
    ours = compare({"one": ranks, "two": queries_of(some_ranks(5))}, NOTHING)
    theirs = breakdown(ranks, NOTHING)
    keys = ["by", "group", "side", "metric"]
    numbers = ["value", "low", "high"]
    one = ours[ours["run"] == "one"].set_index(keys)[numbers]
    pd.testing.assert_frame_equal(one, theirs.set_index(keys)[numbers], check_dtype=False)


@pytest.mark.parametrize("gain", [0.0, 0.095])
def test_intervals_cover_and_noise_is_called_so_as_often_as_it_should(gain):
    # 200 pairs of runs over 60 triples each, ranked 1 or 2, whose true difference is known.
    samples, n = 200, 200 * 60
    generator = np.random.default_rng(7)
    hard = np.tile(generator.random(n) < 0.5, 2)  # both queries of a triple are
    one, two = (
        queries_of(2 - (generator.random(2 * n) < np.where(hard, 0.3, 0.8) + more))
        for more in (0, gain)
    )
    sample = Grouping(tuple(map(str, range(samples))), torch.arange(n).repeat(2) // 60)
    table = compare({"one": one, "two": two}, {"sample": sample}, (1,))
    rows = table[
        (table["by"] == "sample") & (table["side"] == "both") & (table["metric"] == "hits@1")
        & (table["run"] == "two")
    ]  # fmt: skip
    assert len(rows) == samples
    covered = (rows["difference_low"] <= gain) & (gain <= rows["difference_high"])
    assert 0.91 <= covered.mean() <= 0.98
    called = {words: (rows["verdict"] == words).mean() for words in (BETTER, WORSE)}
    if gain == 0:
        assert called[BETTER] + called[WORSE] <= 0.08
    else:
        # A difference of 1.7 standard errors, by the normal approximation.
        assert called[BETTER] == pytest.approx(0.4, abs=0.1)
        assert called[WORSE] <= 0.01


def test_p_worked_by_hand():
    many = torch.tensor(50)
    differences = torch.tensor([1.0, 2.0, 3.0, -1.0, 2.0, 5.0, 1.0, 2.0, 1.0])
    assert float(p_value(differences, many)) == pytest.approx(2 * 2 / 10)
    assert float(p_value(-differences, many)) == pytest.approx(2 * 2 / 10)
    assert float(p_value(differences.abs(), many)) == pytest.approx(2 * 1 / 10)
    assert float(p_value(0 * differences, torch.tensor(0))) == 1
    unknown = torch.tensor([1.0, torch.nan, 1.0, 1.0])
    assert float(p_value(unknown, many)) == pytest.approx(2 * 1 / 4)
    assert p_value(unknown * torch.nan, many).isnan()


@pytest.mark.parametrize(("differing", "verdict"), [(1, NOISE), (5, NOISE), (6, BETTER)])
def test_a_few_triples_show_nothing(differing, verdict):
    one = np.full(60, 5)
    two = one.copy()
    two[:differing] = 1
    table = compare({"one": queries_of(one), "two": queries_of(two)}, NOTHING)
    row = row_of(table, "two")
    assert row["verdict"] == verdict
    assert row["p"] >= 2 / 2**differing
    assert row_of(table, "two", side="head")["p"] == 1
    both = np.full(60, 5)
    both[[*range(differing), *range(30, 30 + differing)]] = 1  # either side of the same triples
    table = compare({"one": queries_of(one), "two": queries_of(both)}, NOTHING)
    assert row_of(table, "two")["verdict"] == verdict


def test_what_cannot_be_compared():
    one = queries_of([1, 2])
    with pytest.raises(ValueError, match="at least two runs"):
        compare({"one": one}, NOTHING)
    with pytest.raises(ValueError, match="different queries"):
        compare({"one": one, "two": queries_of([1, 2, 3, 4])}, NOTHING)


def test_unknown_candidates_leave_only_what_needs_them_unknown():
    ranks = queries_of(some_ranks(0))
    unknown = RankedQueries(
        ranks.triple, ranks.head_side, ranks.ranks, {}, torch.full((400,), torch.nan),
        ranks.raw_candidates,
    )  # fmt: skip
    table = compare({"one": ranks, "two": unknown}, NOTHING)
    assert row_of(table, "two")["p"] == 1
    row = row_of(table, "two", "amri")
    assert pd.isna(row["value"])
    assert pd.isna(row["p"])
    assert row["verdict"] == ""


def test_the_order_of_runs_and_queries_changes_no_difference():
    order = list(range(200))
    random.Random(1).shuffle(order)
    index = [*order, *(200 + i for i in order)]
    one, two = some_ranks(1), some_ranks(2)
    table = compare({"one": queries_of(one), "two": queries_of(two)}, NOTHING)
    other = compare({"one": queries_of(one[index]), "two": queries_of(two[index])}, NOTHING)
    assert table["difference"].to_numpy() == pytest.approx(
        other["difference"].to_numpy(), nan_ok=True
    )
