"""The parts of the report, compared with loops and with examples."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import with_inverses
from kgtool.evaluation.analysis.rank_table import ranks_frame
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.inference.explain import Explanation, NamedPath
from kgtool.inference.layout import Drawing, Edge, draw, two_lines
from kgtool.report import charts
from kgtool.report.cases import choose, count_ranks, describe, queries_of
from kgtool.report.embedding_map import EmbeddingMap, project, roles
from kgtool.report.names import Names
from kgtool.report.tables import Group, by_queries, groups_of
from tests.support.graphs import random_dataset
from tests.support.runs import Table, in_memory

NO_PATHS: Any = SimpleNamespace(passes=None)


def slow_count_rank(train: list[tuple[int, int, int]], n: int, r: int, answer: int) -> float:
    """Like `count_ranks`, for one query; `train` has inverses."""
    count = Counter(t for _, relation, t in train if relation == r)
    above = sum(count[e] > count[answer] for e in range(n))
    level = sum(count[e] == count[answer] for e in range(n))  # the answer included
    return above + (level + 1) / 2


@pytest.mark.parametrize("seed", range(3))
def test_counting_places_answers_as_a_loop_does(seed):
    dataset = random_dataset(seed)
    n, relations = dataset.num_entities, dataset.num_relations
    everything = torch.cartesian_prod(
        torch.tensor([0]), torch.arange(2 * relations), torch.arange(n)
    )
    train = [tuple(t) for t in with_inverses(dataset.train, relations).tolist()]
    expected = [slow_count_rank(train, n, r, t) for _, r, t in everything.tolist()]
    assert count_ranks(dataset, everything).tolist() == expected


def test_counting_of_an_example():
    # Relation 0 ends twice at entity 2, once at 3; 0, 1 and 4 are level behind.
    dataset = in_memory([(0, 0, 2), (1, 0, 2), (0, 0, 3)], [], [], 5, 2)
    asked = torch.tensor([(4, 0, 2), (4, 0, 3), (4, 0, 1), (4, 1, 1), (2, 2, 0), (2, 2, 4)])
    assert count_ranks(dataset, asked).tolist() == [1, 2, 4, 3, 1, 4]
    assert count_ranks(in_memory([], [], [], 3), torch.tensor([(0, 0, 1)])).tolist() == [2]


def ranks(*rows: tuple[str, str, float, int, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["relation", "side", "rank", "pessimistic", "entities"])
    return frame.assign(head="e000", tail="e001")


def test_best_and_worst_are_chosen():
    frame = ranks(
        ("a", "tail", 1, 1, "seen"),  # right, but counting knows it
        ("a", "tail", 1, 1, "seen"),  # right where counting is worse
        ("b", "tail", 1, 2, "seen"),  # a tie
        ("b", "head", 1, 1, "seen"),
        ("a", "tail", 9, 9, "seen"),
        ("a", "tail", 50, 50, "seen"),
        ("b", "tail", 99, 99, "answer unseen"),
        ("a", "head", 7.5, 9, "seen"),
    )
    by_count = torch.tensor([1.0, 30, 90, 2, 5, 5, 5, 5])
    assert choose(frame, by_count) == ([1, 3], [5, 7])
    assert choose(frame, by_count, 1) == ([1], [5])
    assert choose(frame[4:7].drop(columns="entities"), by_count[4:7]) == ([], [2, 1])
    unseen = ranks(("b", "tail", 99, 99, "answer unseen"))
    assert choose(unseen, torch.ones(1)) == ([], [0])


def test_queries_of_labels():
    dataset = in_memory([(0, 1, 2)], [], [], 4, 2)
    frame = pd.DataFrame(
        {"head": ["e000", "e003"], "relation": ["r001"] * 2, "tail": ["e002", "e001"]}
    ).assign(side=["tail", "head"])
    assert queries_of(frame, dataset).tolist() == [[0, 1, 2], [1, 3, 3]]


@pytest.mark.parametrize("seed", range(4))
def test_a_list_of_answers_has_the_ranks_of_the_evaluation(seed):
    """Rank and list leave out the same known answers, whatever their scores."""
    dataset = random_dataset(seed)
    n, relations = dataset.num_entities, dataset.num_relations
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 40, (n, 2 * relations, n), generator=generator).float()  # with ties
    model = Table(scores)
    frame = ranks_frame(evaluate_model(model, dataset, "test"), {}, dataset.vocabulary)
    rows = range(len(frame))
    cases = describe(
        rows, frame, torch.ones(len(frame)), model=model, scorer=NO_PATHS, dataset=dataset,
        splits=("train", "valid", "test"),
    )  # fmt: skip
    known = answer_index(dataset.filter_triples("test"), relations)
    ids = dataset.vocabulary.entity_ids
    for case, query in zip(cases, queries_of(frame, dataset), strict=True):
        facts = set(known.tails[known.expand(known.rows(query[None, :2]))[1]].tolist())
        own = scores[tuple(query[:2].tolist())]
        others = facts - {int(query[2])}
        candidates = [i for i in range(n) if i not in others]
        listed = [ids[answer.entity] for answer in case.answers]
        assert not others & set(listed)
        for answer, entity in zip(case.answers, listed, strict=True):
            better = sum(float(own[i]) > float(own[entity]) for i in candidates)
            equal = sum(float(own[i]) == float(own[entity]) for i in candidates)
            assert answer.rank == better + (equal + 1) / 2
            assert answer.is_asked == (entity == int(query[2]))
            assert answer.rank == case.rank or not answer.is_asked
        assert [a.score for a in case.answers] == sorted(a.score for a in case.answers)[::-1]
        assert sum(answer.is_asked for answer in case.answers) == 1
        least = case.answers[min(5, len(case.answers)) - 1].score
        above = {i for i in others if float(own[i]) >= least}
        assert case.known_count == len(above)
        assert {ids[entity] for entity, _ in case.known} <= above
        assert len(case.known) == min(len(above), 5)


def path(weight: float, *entities: str) -> NamedPath:
    steps = tuple((("r", weight), ("s", weight / 2)) for _ in entities[1:])
    return NamedPath(weight, entities, steps)


def test_an_entity_of_a_graph_is_one_box():
    paths = (path(2, "a", "b", "c", "d"), path(1, "a", "d"), path(-3, "a", "c", "d"))
    drawing = draw(Explanation(("a", "r", "d"), paths), Names({"c": "see"}))
    assert drawing is not None
    nodes = {node.name: node for node in drawing.nodes}
    assert [node.label for node in drawing.nodes] == ["a", "b", "c", "d"]
    assert [nodes[name].end for name in ("a", "b", "see", "d")] == [True, False, False, True]
    xs = [nodes[name].x for name in ("a", "b", "see", "d")]
    assert xs == sorted(xs)
    # Both paths over c end with one line, which has their sum.
    assert [edge.speaks_for for edge in drawing.edges] == [True, True, False, True, False]
    assert [edge.stroke for edge in drawing.edges] == pytest.approx(
        [1 + 5 * weight / 3 for weight in (2, 2, 1, 1, 3)]
    )
    assert {edge.lines for edge in drawing.edges} == {("r +1",)}
    titles = [edge.title for edge in drawing.edges]
    assert titles[0] == "r: 2.00\ns: 1.00"
    assert {tuple(line[0] for line in title.splitlines()) for title in titles} == {("r", "s")}
    assert draw(Explanation(("a", "r", "d"), ()), Names()) is None


def test_a_line_against_the_order_has_its_arrow_at_its_start():
    paths = (path(1, "a", "b", "c", "d"), path(1, "a", "c", "b", "d"))
    drawing = draw(Explanation(("a", "r", "d"), paths), Names())
    assert drawing is not None
    back = [edge for edge in drawing.edges if edge.back]
    assert (len(drawing.nodes), len(drawing.edges), len(back)) == (4, 6, 1)
    place = {node.label: node for node in drawing.nodes}
    assert points(back[0])[0][0] < place["c"].x  # from b, the arrow, to c
    assert points(back[0])[0][0] == pytest.approx(place["b"].x + place["b"].half + 4, abs=0.1)


def test_a_loop_and_a_path_of_no_weight_are_drawn():
    drawing = draw(
        Explanation(("a", "r", "a"), (path(0, "a", "b", "a"), path(0, "a", "a"))), Names()
    )
    assert drawing is not None
    assert [node.label for node in drawing.nodes] == ["a", "b"]
    assert [edge.lines for edge in drawing.edges] == [("r +1",), ("r +1",), ()]
    assert all(y >= 0 for edge in drawing.edges for _, y in points(edge))


Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


def points(edge: Edge) -> list[tuple[float, float]]:
    """Points of an edge's line."""
    found: list[tuple[float, float]] = []
    for kind, numbers in re.findall(r"([MCH])([-\d. ]+)", edge.path):
        n = [float(number) for number in numbers.split()]
        if kind == "M":
            found.append((n[0], n[1]))
        elif kind == "H":
            x, y = found[-1]
            found += [(x + (n[0] - x) * i / 8, y) for i in range(1, 9)]
        else:
            ends = [found[-1], *zip(n[::2], n[1::2], strict=True)]
            for i in range(1, 17):
                t = i / 16
                factors = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
                x, y = (
                    sum(f * end[k] for f, end in zip(factors, ends, strict=True)) for k in (0, 1)
                )
                found.append((x, y))
    return found


def boxes_of(drawing: Drawing) -> list[Rectangle]:
    return [
        (n.x - n.half, n.y - n.height / 2, n.x + n.half, n.y + n.height / 2) for n in drawing.nodes
    ]


def labels_of(drawing: Drawing) -> list[Rectangle]:
    return [
        (e.x - e.half, e.y - 5.5 * len(e.lines), e.x + e.half, e.y + 5.5 * len(e.lines))
        for e in drawing.edges if e.lines
    ]  # fmt: skip


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=4), min_size=1, max_size=8),
    st.sampled_from(["", "some ", "A VERY LONG NAME OF "]),
)
def test_nothing_lies_on_another_thing_in_a_graph(between, before):
    names = Names({entity: before + entity for entity in "abcdefghyz"} | {"r": before + "r"})
    paths = tuple(path(1 + i, "y", *inner, "z") for i, inner in enumerate(between))
    drawing = draw(Explanation(("y", "r", "z"), paths), names)
    assert drawing is not None
    boxes, labels = boxes_of(drawing), labels_of(drawing)
    assert len(boxes) == len({entity for one in paths for entity in one.entities})
    steps = {pair for one in paths for pair in pairwise(one.entities)}
    assert len(drawing.edges) == len(steps)
    assert len(labels) == sum(a != b for a, b in steps)
    insides = [(left + 1, top, right - 1, bottom) for left, top, right, bottom in boxes]
    insides = [(left + 1, top, right - 1, bottom) for left, top, right, bottom in boxes]
    pieces = [*boxes, *labels]
    for i, piece in enumerate(pieces):
        assert not any(overlap(piece, other) for other in pieces[:i])
        assert 0 <= piece[0] < piece[2] <= drawing.width
        assert 0 <= piece[1] < piece[3] <= drawing.height
    for edge in drawing.edges:
        for x, y in points(edge):
            dot = (x - 0.5, y - 0.5, x + 0.5, y + 0.5)
            assert not any(overlap(dot, label) for label in labels)
            assert not edge.lines or not any(overlap(dot, inside) for inside in insides)


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("short", ("short",)),
        ("/film/film/genre", ("/film/", "film/genre")),
        ("Beatriz_Leclerc_1933", ("Beatriz_", "Leclerc_1933")),
        ("x" * 20, ("x" * 10, "x" * 10)),
        ("a" * 20 + "b" * 20, ("a" * 13 + "…", "b" * 13)),
        ("漢" * 30, ("漢" * 6 + "…", "漢" * 6)),
    ],
)
def test_labels_take_two_lines_at_most(label, lines):
    assert two_lines(label) == lines


@given(st.text(min_size=1))
def test_two_lines_are_never_more(label):
    assert 1 <= len(two_lines(label, " +2")) <= 2


def test_names():
    names = Names({"/m/1": "one", "r": "is", "bad": "a\x00b\ud800"})
    assert [names(x) for x in ("/m/1", "/m/2", "^r", "^q", "bad", "a\tb")] == [
        "one", "/m/2", "^is", "^q", "a�b�", "a�b",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_roles_are_what_a_loop_counts(seed):
    dataset = random_dataset(seed)
    n = dataset.num_relations
    role, degree = roles(dataset)
    for entity in range(dataset.num_entities):
        count = Counter[int]()
        for h, r, t in dataset.train.tolist():
            count.update([r] * (h == entity) + [r + n] * (t == entity))
        assert degree[entity] == sum(count.values())
        best = min((-c, kind) for kind, c in count.items())[1] if count else -1
        assert role[entity] == best


def test_a_map_keeps_clusters_and_repeats():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9]])
    states = centres.repeat_interleave(30, 0) + torch.randn(90, 3, generator=generator) / 9
    place = project(states.requires_grad_())
    assert place.shape == (90, 2)
    assert np.array_equal(place, project(states))
    gap = np.linalg.norm(place[:, None] - place[None], axis=2)
    gap[np.diag_indices(90)] = np.inf
    assert (gap.argmin(1) // 30 == np.arange(90) // 30).all()


def test_a_map_of_equal_states_is_drawn():
    place = project(torch.ones(12, 1))
    assert np.isfinite(place).all()
    found = EmbeddingMap(torch.arange(12), place, torch.full((12,), -1), torch.zeros(12).long(), 12)
    assert charts.map_plot(found, str, ["$a_1"] * 12).startswith("<svg")


def table() -> pd.DataFrame:
    rows = [
        ("relation", group, side, "filtered", "realistic", "mrr", mrr, mrr / 2, 1.0, queries)
        for group, side, mrr, queries in (
            ("a", "both", 0.5, 4), ("a", "tail", 0.5, 4), ("b", "both", 0.25, 9),
            ("b", "head", 0.2, 5), ("b", "tail", 0.3, 4),
        )
    ]  # fmt: skip
    columns = ["by", "group", "side", "filter", "ties", "metric", "value", "low", "high", "queries"]
    return pd.DataFrame(rows, columns=columns).assign(note="")


def test_groups_of_a_table():
    a, b = groups_of(table(), "relation")
    assert (a.name, a.queries, a.metrics["tail"]) == ("a", {"both": 4, "tail": 4}, {"mrr": 0.5})
    assert (b.low["head"], b.high["head"]) == (0.1, 1.0)
    assert by_queries([a, b]) == [b, a]
    assert groups_of(table(), "degree") == []
    noted = table().assign(note=["far"] * 2 + [""] * 3)
    assert [group.note for group in groups_of(noted, "relation")] == ["far", ""]


def group(name: str) -> Group:
    mrr = {"both": {"mrr": 0.5}, "tail": {"mrr": 0.5}}
    return Group(
        name, {"both": 3, "tail": 3}, mrr, {"both": 0.4, "tail": 0.4}, {"both": 1.0, "tail": 1.0}
    )


def test_plots_are_text_and_repeat():
    def plot() -> str:
        return charts.by_relation([group("$a_1$ & <b>"), group("漢字")], Names())

    text = plot()
    assert text == plot()
    assert "$a_1$ &amp; &lt;b&gt;" in text
    assert "漢字" in text
    assert "<metadata" not in text
    assert 'role="img"' in text.split(">", 1)[0]
    assert charts.by_category([group("1-1")]) == charts.by_category([group("1-1")])


def test_one_validation_and_one_rank_are_plotted():
    one = [{"seconds": 60.0, "valid_mrr": 0.5, "loss": 1.0}]
    assert "0.5000" in charts.learning_curve(one)
    frame = pd.DataFrame({"rank": [1.0], "side": ["head"]})
    assert charts.rank_histogram(frame).startswith("<svg")


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of the plots that are drawn."""
    drawn: list[Any] = []

    def svg(figure: Any, _: Any) -> str:
        drawn.extend(figure.axes)
        return ""

    monkeypatch.setattr(charts, "inline_svg", svg)
    return drawn


def test_bars_of_a_pair_are_equally_wide(axes):
    frame = pd.DataFrame({"rank": [1.0, 1.5, 2, 9, 700], "side": ["head", "tail"] * 2 + ["head"]})
    charts.rank_histogram(frame)
    (plot,) = axes
    assert plot.get_xscale() == "linear"
    assert {round(bar.get_width(), 6) for bar in plot.patches} == {0.42}
    heights = [[bar.get_height() for bar in bars] for bars in plot.containers]
    assert [sum(part) for part in heights] == [pytest.approx(1)] * 2
    assert heights[0][:2] == pytest.approx([1 / 3, 1 / 3])  # ranks 1, and 2 to 3, of 3 queries
    assert heights[1][0] == 0.5  # rank 1.5
    assert [label.get_text() for label in plot.get_xticklabels()][:3] == ["1", "4", "16"]
    (hits,) = plot.lines
    assert next(iter(hits.get_xdata())) == 0  # Hits@1 begins where rank 1 does


def test_no_line_joins_the_bins_of_a_calibration(axes):
    bins = pd.DataFrame({"probability": [0.1, 0.5, 0.9], "observed": [0.3, 1, 0.8],
                         "count": [30, 1, 40], "low": 0.0, "high": 1.0})  # fmt: skip
    charts.calibration_curve(bins)
    diagonal, many, few = axes[0].lines
    assert diagonal.get_linestyle() == "--"
    assert many.get_linestyle() == few.get_linestyle() == "None"
    assert (list(many.get_xdata()), list(few.get_xdata())) == ([0.1, 0.9], [0.5])


def test_the_calibration_error_is_weighed_by_counts():
    bins = pd.DataFrame({"probability": [0.1, 0.9], "observed": [0.3, 0.8], "count": [3, 1]})
    assert charts.calibration_error(bins) == pytest.approx((3 * 0.2 + 0.1) / 4)
