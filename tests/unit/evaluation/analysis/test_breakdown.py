"""Groups of queries, compared with loops over triples, and the table of their metrics."""

from __future__ import annotations

import io
from collections import deque

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import kgtool
from kgtool.cli.render.console import Terminal
from kgtool.cli.render.ranking import breakdown_table
from kgtool.data.dataset import invert, with_inverses
from kgtool.data.loaders import load_dataset
from kgtool.evaluation.analysis.breakdown import (
    COLUMNS,
    HALF_LINKS,
    RankedQueries,
    breakdown,
    categories,
    groupings,
    ranked_queries,
)
from kgtool.evaluation.evaluator import SIDES, evaluate_model
from kgtool.evaluation.metrics import HITS, POLICIES, Grouping
from kgtool.ops import distance
from kgtool.training.trainer import train
from tests.support.runs import Table, all_paths_config, in_memory, ring, write_folder


def slow_distance(edges: list[tuple[int, int]], source: int, target: int) -> int:
    steps = {source: 0}
    queue = deque([source])
    while queue:
        node = queue.popleft()
        for a, b in edges:
            for here, there in ((a, b), (b, a)):
                if here == node and there not in steps:
                    steps[there] = steps[node] + 1
                    queue.append(there)
    return steps.get(target, -1)


@settings(deadline=None)  # the first example compiles
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=14))
def test_distances_are_those_of_a_search(edges):
    pairs = [(a, b) for a in range(12) for b in range(12)]
    found = distance(torch.tensor(edges, dtype=torch.long).view(-1, 2), torch.tensor(pairs), 12)
    assert found.tolist() == [slow_distance(edges, a, b) for a, b in pairs]


def test_categories_are_counted_on_train():
    # r0 1-1; r1 from one head to many; r2 from many to one; r3 both; r4 only in test.
    dataset = in_memory(
        [(0, 0, 1), (2, 0, 3), (0, 1, 1), (0, 1, 2), (1, 2, 0), (2, 2, 0)]
        + [(a, 3, b) for a in (0, 1) for b in (2, 3)],
        [],
        [(0, 4, 1)],
        4,
        5,
    )
    assert categories(dataset).tolist() == [0, 1, 2, 3, 4]


def test_the_cut_off_of_many_is_one_and_a_half():
    # 3 tails of 2 heads are N, 4 of 3 are 1.
    assert categories(in_memory([(0, 0, 2), (0, 0, 3), (1, 0, 4)], [], [], 9)).tolist() == [1]
    few = [(0, 0, 3), (0, 0, 4), (1, 0, 5), (2, 0, 6)]
    assert categories(in_memory(few, [], [], 9)).tolist() == [0]


def test_groups_of_queries():
    dataset = in_memory(
        [(0, 0, 1), (1, 0, 2), (1, 1, 3)], [], [(0, 0, 2), (2, 1, 4), (5, 0, 5), (3, 0, 3)], 6, 2
    )
    found = groupings(dataset, with_inverses(dataset.test, 2))

    def names(by: str) -> list[str]:
        return [found[by].names[i] for i in found[by].of.tolist()]

    assert names("relation") == ["r000", "r001", "r000", "r000"] * 2
    assert names("degree")[:4] == ["1", "0", "0", "1"]  # of the tails 2, 4, 5, 3
    assert names("degree")[4:] == ["1", "1", "0", "1"]  # of the heads 0, 2, 5, 3
    assert names("distance") == ["2", "none", "0", "0"] * 2
    assert names("entities")[:4] == ["seen", "answer unseen", "both unseen", "seen"]
    assert names("entities")[4:] == ["seen", "question unseen", "both unseen", "seen"]
    # Train has (0, 0, 1) and (1, 0, 2) of relation 0, and (1, 1, 3) of relation 1.
    assert names("half_links")[:4] == ["both", "neither", "neither", "neither"]
    assert names("half_links")[4:] == ["both", "neither", "neither", "neither"]


def slow_half_links(train: list[tuple[int, ...]], query: tuple[int, ...], relations: int) -> str:
    """The group of a query `(h, r, ?)` with the answer `t`, by a search through train."""
    head, relation, tail = query
    inverse = [(t, r + relations, h) for h, r, t in train]
    answer = question = False
    for h, r, t in [*train, *inverse]:
        if r == relation:
            answer = answer or t == tail
            question = question or h == head
    if answer:
        return "both" if question else "answer only"
    return "question only" if question else "neither"


triples = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 7)), max_size=12)


@settings(deadline=None)
@given(train=triples, test=triples)
def test_half_links_are_those_of_a_search(train, test):
    # Nine entities: the last is in no triple. Test triples may have entities that train lacks, and
    # may occur in train.
    dataset = in_memory(train, [], test, 9, 3)
    queries = with_inverses(dataset.test, 3)
    grouping = groupings(dataset, queries)["half_links"]
    assert grouping.names == HALF_LINKS
    slow = [slow_half_links(train, tuple(query), 3) for query in queries.tolist()]
    assert [HALF_LINKS[i] for i in grouping.of.tolist()] == slow
    # The group of a query does not depend on the other queries. A head query swaps the two ends.
    tails = grouping.of[: len(test)]
    assert torch.equal(groupings(dataset, dataset.test)["half_links"].of, tails)
    heads = groupings(dataset, invert(dataset.test, 3))["half_links"].of
    assert torch.equal(heads, torch.tensor([0, 2, 1, 3])[tails])


def test_the_direction_of_an_edge_counts_for_half_links():
    # 0 is a head of the relation, 1 a tail, and 2 is both; 3 is in no triple of train.
    test = [(0, 0, 2), (1, 0, 2), (0, 0, 0), (1, 0, 0), (3, 0, 1), (3, 0, 3), (0, 1, 2)]
    dataset = in_memory([(0, 0, 1), (2, 0, 2)], [], test, 4, 2)
    found = groupings(dataset, with_inverses(dataset.test, 2))["half_links"]
    tails = ["both", "answer only", "question only", "neither", "answer only", "neither", "neither"]
    assert [found.names[i] for i in found.of.tolist()[: len(test)]] == tails
    # A train triple itself has both half-links in train.
    found = groupings(dataset, with_inverses(dataset.train, 2))["half_links"]
    assert {found.names[i] for i in found.of.tolist()} == {"both"}


def test_half_links_of_another_graph_are_those_of_its_train(tmp_path):
    data = write_folder(ring(), tmp_path / "ring")
    run = train(all_paths_config(epochs=1), load_dataset(data), tmp_path / "run", progress=False)
    # More entities than the run's graph has, in test triples that its rules do not give.
    random = torch.Generator().manual_seed(4)
    sizes = torch.tensor([40, 3, 40])
    rows = (torch.rand(90, 3, generator=random) * sizes).long().unique(dim=0).tolist()
    edges, valid, test = rows[::3], rows[1:2], rows[2::3]
    other = in_memory(edges, valid, test, 40, 3)
    file = write_folder(other, tmp_path / "other")
    table = kgtool.evaluate(run, data=file).ranks
    assert len(table) == 2 * len(test)
    heads = {(f"e{h:03}", f"r{r:03}") for h, r, _ in edges}
    tails = {(f"e{t:03}", f"r{r:03}") for _, r, t in edges}
    for row in table.itertuples():
        head, tail = (row.head, row.relation) in heads, (row.tail, row.relation) in tails
        answer, question = (tail, head) if row.side == "tail" else (head, tail)
        expected = {(True, True): "both", (True, False): "answer only",
                    (False, True): "question only", (False, False): "neither"}  # fmt: skip
        assert row.half_links == expected[answer, question]
    assert table.half_links.nunique() == 4


def small() -> tuple[RankedQueries, dict[str, Grouping]]:
    """Three triples, both sides: the ranks of tails are 1, 2 and 4, of heads 3, 1 and 2."""
    ranks = torch.tensor([1.0, 2, 4, 3, 1, 2], dtype=torch.double)
    triple = torch.arange(3).repeat(2)
    queries = RankedQueries(
        triple, torch.arange(6) >= 3, dict.fromkeys(POLICIES, ranks),
        {}, torch.full((6,), 10), torch.full((6,), torch.nan),
    )  # fmt: skip
    return queries, {"kind": Grouping(("a", "idle", "b"), torch.tensor([0, 2, 2]).repeat(2))}


def test_the_table_worked_by_hand():
    table = breakdown(*small(), hits=(1, 2))
    assert tuple(table.columns) == COLUMNS
    assert set(table["by"]) == {"all", "kind"}
    # The idle group is left out.
    assert list(table.loc[table["by"] == "kind", "group"].unique()) == ["a", "b"]

    def value(group: str, side: str, metric: str, column: str = "value") -> float:
        rows = table[
            (table["group"] == group) & (table["side"] == side) & (table["metric"] == metric)
            & (table["ties"] == "realistic")
        ]  # fmt: skip
        assert len(rows) == 1
        return float(rows[column].iloc[0])

    assert value("all", "both", "mrr") == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 3 + 1 + 1 / 2) / 6)
    assert value("a", "both", "mrr") == pytest.approx((1 + 1 / 3) / 2)
    assert value("b", "tail", "mrr") == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert value("b", "head", "hits@1") == 0.5
    assert value("b", "both", "mr") == pytest.approx((2 + 4 + 1 + 2) / 4)
    assert value("b", "both", "mrr", "queries") == 4
    for group in ("all", "a", "b"):
        low, high = (value(group, "both", "mrr", end) for end in ("low", "high"))
        assert low - 1e-6 <= value(group, "both", "mrr") <= high + 1e-6
    optimistic = table[table["ties"] == "optimistic"]
    assert bool(optimistic["low"].isna().all())


def test_all_is_what_the_evaluator_says_and_groups_add_up():
    dataset = ring()
    n = dataset.num_entities
    scores = torch.rand(n, 6, n, generator=torch.Generator().manual_seed(3)).mul(8).round()
    found = evaluate_model(Table(scores), dataset)
    table = breakdown(ranked_queries(found), groupings(dataset, found.queries))
    every = table[table["by"] == "all"].set_index(["filter", "side", "ties", "metric"])
    every = every["value"].sort_index()
    for name, part in (("filtered", found.filtered), ("raw", found.raw)):
        for side in SIDES:
            for policy in POLICIES:
                told = every[name, side, policy]
                assert told.to_dict() == pytest.approx(part[side][policy])
    for by in ("relation", "category", "degree", "distance", "entities", "half_links"):
        rows = table[(table["by"] == by) & (table["side"] == "both") & (table["metric"] == "mrr")]
        rows = rows[rows["ties"] == "realistic"]
        assert rows["queries"].sum() == found.counts["queries"]
        assert np.average(rows["value"], weights=rows["queries"]) == pytest.approx(found.mrr)


def test_answers_that_no_path_of_the_model_reaches_are_marked():
    # A chain 0-1-…-8, and 9 apart; two test triples at distance 2, one at 3, one at 8, one without.
    chain = [(i, 0, i + 1) for i in range(8)]
    test = [(0, 0, 2), (1, 0, 3), (0, 0, 3), (0, 0, 8), (0, 0, 9)]
    dataset = in_memory(chain, [], test, 10)
    queries = with_inverses(dataset.test, 1)
    ranked = RankedQueries(
        torch.arange(5).repeat(2), torch.arange(10) >= 5, {POLICIES[0]: torch.ones(10).double()},
        {}, torch.full((10,), 10), torch.full((10,), torch.nan),
    )  # fmt: skip

    def notes(layers: int | None, by: str) -> dict[str, str]:
        table = breakdown(ranked, groupings(dataset, queries, layers), (1,))
        rows = table[(table["by"] == by) & (table["side"] == "both") & (table["metric"] == "mrr")]
        return dict(zip(rows["group"], rows["note"], strict=True))

    beyond = "cannot be reached by 2 layers"
    marked = {"2": "", "3": beyond, "more than 5": beyond, "none": beyond}
    assert notes(2, "distance") == marked
    assert notes(2, "all") == {"all": f"6 of 10 answers {beyond}"}
    assert notes(2, "reach") == {"reached": "", beyond: beyond}
    assert notes(2, "relation") == {"r000": ""}
    assert notes(2, "entities")["answer unseen"] == beyond
    assert notes(1, "distance")["2"] == "cannot be reached by 1 layer"
    assert notes(8, "distance")["more than 5"] == ""
    assert notes(8, "distance")["none"] == "cannot be reached by 8 layers"
    assert set(notes(None, "distance").values()) == {""}  # a model of embeddings reaches all
    shown = breakdown(ranked, groupings(dataset, queries, 2), (1,))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(breakdown_table(shown, "distance", (1,)))
    text = " ".join(console.export_text().split())
    assert f"distance 3, more than 5, none: {beyond}." in text
    console.print(breakdown_table(shown, "category", (1,)))
    assert f"6 of 10 answers {beyond}: see the breakdown" in " ".join(console.export_text().split())
    console.print(breakdown_table(shown, "half_links", (1,)))
    text = " ".join(console.export_text().split())
    assert "half_links: which of the answer and the question's entity have an edge" in text
    assert f"half_links answer only, question only: {beyond}." in text
    assert "see the breakdown" not in text  # it stands below the categories


def test_groups_with_long_names_fit_into_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    queries, _ = small()
    groups = {"half_links": Grouping(HALF_LINKS, torch.tensor([0, 1, 2, 3, 1, 2]))}
    Terminal().print(breakdown_table(breakdown(queries, groups), "half_links", HITS))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    # A row per group, not a list of its cells.
    for name in HALF_LINKS:
        assert sum(line.startswith(f" {name}  ") for line in lines) == 1


def test_the_table_is_the_same_every_time():
    queries, groups = small()
    pd.testing.assert_frame_equal(breakdown(queries, groups), breakdown(queries, groups))
