"""Path queries answered step by step, compared with the sum over all paths."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.errors import ScoreError
from kgtool.evaluation.tasks import path_composition
from kgtool.evaluation.tasks.path_composition import DOUBT, ComposedSteps
from tests.support.graphs import random_dataset, tuples_of
from tests.support.runs import Table


def table(dataset: KGDataset, seed: int = 0) -> Table:
    n = dataset.num_entities
    generator = torch.Generator().manual_seed(seed)
    return Table(3 * torch.randn(n, 2 * dataset.num_relations, n, generator=generator))


def train_index(dataset: KGDataset) -> AnswerIndex:
    return AnswerIndex(
        with_inverses(dataset.train, dataset.num_relations), 2 * dataset.num_relations
    )


def slow_score(dataset: KGDataset, scores: Tensor, head: int, path: list[int], tail: int) -> float:
    """The sum of the probabilities of all paths from head to tail, in double precision."""
    known = set(tuples_of(with_inverses(dataset.train, dataset.num_relations)))
    chance = scores.double().softmax(-1)
    total = 0.0
    for between in itertools.product(range(dataset.num_entities), repeat=len(path) - 1):
        way = (head, *between, tail)
        product = 1.0
        for h, r, t in zip(way[:-1], path, way[1:], strict=True):
            p = float(chance[h, r, t])
            product *= 1 - DOUBT * (1 - p) if (h, r, t) in known else p
        total += product
    return math.log(total)


def paths(dataset: KGDataset, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = (len(lengths), max(lengths))
    head = torch.randint(dataset.num_entities, size[:1], generator=generator)
    path = torch.randint(2 * dataset.num_relations, size, generator=generator)
    return head, path, torch.tensor(lengths)


@pytest.mark.parametrize("rows", [1, 1000])
def test_with_a_beam_as_wide_as_the_graph_all_ways_count(monkeypatch, rows):
    monkeypatch.setattr(path_composition, "whole_rows", lambda num_entities: rows)
    monkeypatch.setattr(path_composition, "ROWS", 3)
    dataset = random_dataset(3, num_entities=6, num_train=14)
    model = table(dataset)
    head, path, length = paths(dataset, [2, 3, 1, 2, 4])
    found = ComposedSteps(model, train_index(dataset), 6, beam=6).score_paths(head, path, length)
    for i in (0, 1, 3, 4):
        own = path[i, : length[i]].tolist()
        expected = [slow_score(dataset, model.scores, int(head[i]), own, t) for t in range(6)]
        assert found[i].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_path_of_one_relation_has_the_models_scores():
    dataset = random_dataset(4)
    model = table(dataset)
    head, path, length = paths(dataset, [1] * 30)
    found = ComposedSteps(model, train_index(dataset), 12).score_paths(head, path, length)
    assert torch.equal(found, model.score_t(torch.cat([head.unsqueeze(1), path], dim=1)))


def test_the_beam_keeps_the_likeliest():
    # Two ways of one edge each from 0; only the likelier, by 1, goes on.
    dataset = random_dataset(5, num_entities=5)
    empty = AnswerIndex(torch.zeros(0, 3, dtype=torch.long), 6)
    scores = torch.zeros(5, 6, 5)
    scores[0, 0] = torch.tensor([0.0, 3, 2, 0, 0])
    scores[1, 1] = torch.tensor([0.0, 0, 0, 5, 0])
    scores[2, 1] = torch.tensor([0.0, 0, 0, 0, 9])
    one = torch.tensor
    query = (one([0]), one([[0, 1]]), one([2]))
    narrow = ComposedSteps(Table(scores), empty, 5, beam=1).score_paths(*query)[0]
    expected = scores[0, 0].log_softmax(0)[1] + scores[1, 1].log_softmax(0)
    assert narrow.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    wide = ComposedSteps(Table(scores), empty, 5, beam=2).score_paths(*query)[0]
    assert int(narrow.argmax()) == 3
    assert wide[4] > narrow[4]
    assert dataset.num_entities == 5


def test_known_edges_go_before_others_and_the_likelier_first():
    # 0 has the known tails 1 and 2, of which the model prefers 2; its favourite, 3, is not known.
    index = AnswerIndex(torch.tensor([[0, 0, 1], [0, 0, 2]]), 2)
    scores = torch.zeros(4, 2, 4)
    scores[0, 0] = torch.tensor([0.0, -2, -1, 4])
    for i in (1, 2, 3):
        scores[i, 1] = torch.eye(4)[i] * 8
    query = (torch.tensor([0]), torch.tensor([[0, 1]]), torch.tensor([2]))
    first = [
        ComposedSteps(Table(scores), index, 4, beam=beam).score_paths(*query)[0].argsort()
        for beam in (1, 2, 3)
    ]
    assert [int(order[-1]) for order in first] == [2, 2, 2]
    assert int(first[1][-2]) == 1
    assert int(first[2][-3]) == 3


def test_queries_do_not_depend_on_each_other():
    dataset = random_dataset(6)
    composed = ComposedSteps(table(dataset), train_index(dataset), 12, beam=4)
    head, path, length = paths(dataset, [3, 1, 2, 5, 2, 3, 4])
    together = composed.score_paths(head, path, length)
    for i in range(len(head)):
        alone = composed.score_paths(
            head[i : i + 1], path[i : i + 1, : length[i]], length[i : i + 1]
        )
        torch.testing.assert_close(alone[0], together[i])


def test_chances_too_small_for_a_float_are_level_not_infinite():
    scores = torch.zeros(3, 2, 3)
    scores[:, :, 0] = 300
    empty = AnswerIndex(torch.zeros(0, 3, dtype=torch.long), 2)
    query = (torch.tensor([1]), torch.tensor([[0, 1]]), torch.tensor([2]))
    found = ComposedSteps(Table(scores), empty, 3).score_paths(*query)[0]
    assert found.isfinite().all()
    assert found[1] == found[2] < found[0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("length", [1, 2])
def test_scores_that_are_not_finite_are_refused(value, length):
    dataset = random_dataset(7)
    model = table(dataset)
    model.scores[3, 1, 5] = value
    composed = ComposedSteps(model, train_index(dataset), 12, beam=12)
    path = torch.tensor([[1] * length])
    with pytest.raises(ScoreError, match=r"infinite for query \(head 3, relation 1, \?\)"):
        composed.score_paths(torch.tensor([3]), path, torch.tensor([length]))
    with pytest.raises(ScoreError, match=r"query \(head 3, relation 1, \?\)"):
        composed.score_paths(torch.tensor([2]), torch.tensor([[0, 1]]), torch.tensor([2]))
