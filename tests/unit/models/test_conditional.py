"""The conditional model, compared with its definition, and on relabelled graphs."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset
from kgtool.evaluation.ranking import rank_tails
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.relation_graph import RelationGraph
from kgtool.inference.explain import explain_triple
from kgtool.models.all_paths import Parts
from kgtool.models.conditional import ConditionalDecoder, ConditionalModel, ConditionalScorer
from kgtool.models.relation_encoder import RelationEncoder
from kgtool.models.scorers import RowScorer
from tests.support.graphs import edges_of, random_dataset
from tests.support.runs import in_memory

DIM, LAYERS, MLP = 6, 3, 5


def make_model(dataset: KGDataset, double: bool = True) -> ConditionalModel:
    """A model with random parameters."""
    torch.manual_seed(0)
    encoder, decoder = RelationEncoder(DIM, 2), ConditionalDecoder(DIM, LAYERS, MLP)
    model = ConditionalModel(encoder, decoder, KnowledgeGraph.from_dataset(dataset))
    model = model.double() if double else model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def slow_states(encoder: RelationEncoder, graph: KnowledgeGraph, relation: int) -> Tensor:
    """The states of relations for a query relation, by loops over the edges of each kind."""
    met, size = RelationGraph(graph), graph.num_relation_ids
    inverse = met.opposite.tolist()
    statistics = met.statistics(torch.tensor([relation]))[0].double()
    x = [
        encoder.init * float(r == relation) + encoder.statistics(statistics[r]) for r in range(size)
    ]
    mean = met.mean.double()  # one table serves all kinds; see `kgtool.graph.relation_graph`
    for i, norm in enumerate(encoder.norms):
        new = []
        for r in range(size):
            parts = [  # head-head, tail-head, head-tail, tail-tail
                sum((mean[of, o] * x[end[o]] for o in range(size)), torch.zeros(DIM))
                for of in (r, inverse[r])
                for end in (range(size), inverse)
            ]
            read = torch.cat(parts) @ encoder.kinds[i]
            read = read + x[r] @ encoder.self_loop[i] + encoder.bias[i]
            new.append(x[r] + torch.relu(norm(read)))
        x = new
    return torch.stack(x)


@pytest.mark.parametrize("seed", range(2))
def test_the_encoder_equals_a_loop(seed: int) -> None:
    model = make_model(random_dataset(seed))
    relation = torch.tensor([0, 4])
    found = model.relation_encoder(model.relations, relation)
    for states, r in zip(found, relation.tolist(), strict=True):
        slow = slow_states(model.relation_encoder, model.graph, r)
        torch.testing.assert_close(states, slow)


def test_a_pass_for_one_relation_equals_the_pass_in_contexts() -> None:
    model = make_model(random_dataset(1))
    relation = torch.tensor([0, 3])
    head, context = torch.tensor([2, 5, 2]), torch.tensor([1, 0, 0])
    conditions = model.conditions(relation)
    reached = model.decoder.reach(model.graph, head)
    last = model.decoder(reached, conditions, context)
    first = reached.first[-1]
    for i, (h, c) in enumerate(zip(head.tolist(), context.tolist(), strict=True)):
        q = int(relation[c])
        states = model.relation_encoder(model.relations, torch.tensor([q]))[0]
        alone = model.decoder.on(states, q)
        own = alone.reach(model.graph, torch.tensor([h]))
        torch.testing.assert_close(alone(own)[: own.rows(LAYERS)], last[first[i] : first[i + 1]])
        torch.testing.assert_close(alone.queries(torch.tensor([q]))[0], conditions.queries[c])


def relabelled(dataset: KGDataset, seed: int) -> tuple[KGDataset, Tensor, Tensor]:
    """The data set with its entities and its relations in another order, and the new ids."""
    draw = torch.Generator().manual_seed(seed)
    entity = torch.randperm(dataset.num_entities, generator=draw)
    relation = torch.randperm(dataset.num_relations, generator=draw)
    h, r, t = dataset.train.unbind(1)
    moved = torch.stack([entity[h], relation[r], entity[t]], dim=1).tolist()
    other = in_memory(moved, [], [], dataset.num_entities, dataset.num_relations)
    return other, entity, relation


@pytest.mark.parametrize("seed", range(3))
def test_scores_do_not_depend_on_labels(seed: int) -> None:
    dataset = random_dataset(seed)
    model = make_model(dataset, double=False)
    other, entity, relation = relabelled(dataset, seed)
    relation = torch.cat([relation, relation + dataset.num_relations])
    hr = torch.cartesian_prod(torch.arange(dataset.num_entities), torch.arange(len(relation)))
    scores = model.scorer().score_t(hr)
    moved = model.on(KnowledgeGraph.from_dataset(other)).scorer()
    new = moved.score_t(torch.stack([entity[hr[:, 0]], relation[hr[:, 1]]], dim=1))
    torch.testing.assert_close(new[:, entity], scores, rtol=1e-4, atol=1e-4)


def in_parts(scorer: ConditionalScorer, most: int) -> ConditionalScorer:
    """The scorer on parts of the graph, of at most so many new entities a step."""
    decoder = copy(scorer.decoder)
    decoder.parts = Parts(whole=0, nearest=most)
    return replace(scorer, decoder=decoder)


@pytest.mark.parametrize("most", [None, 2])
def test_all_routes_of_the_scorer_agree(most: int | None) -> None:
    dataset = random_dataset(0)
    scorer = make_model(dataset, double=False).scorer()
    scorer = in_parts(scorer, most) if most else scorer
    hrt = torch.tensor([[0, 1, 3], [2, 0, 1], [0, 1, 4], [5, 4, 0], [2, 0, 11]])
    rows = scorer.score_t(hrt[:, :2])
    torch.testing.assert_close(scorer.score_hrt(hrt), rows[torch.arange(5), hrt[:, 2]])
    between = scorer.score_r(hrt[:, ::2], torch.tensor([0, 1, 4]))
    for i, (h, _, t) in enumerate(hrt.tolist()):
        for k, r in enumerate((0, 1, 4)):
            torch.testing.assert_close(
                between[i, k], scorer.score_hrt(torch.tensor([[h, r, t]]))[0]
            )
    assert scorer.score_t(hrt[:0, :2]).shape == (0, dataset.num_entities)
    assert scorer.score_hrt(hrt[:0]).shape == (0,)


def test_a_score_is_explained_by_paths() -> None:
    dataset = random_dataset(2)
    scorer = make_model(dataset, double=False).scorer()
    head, relation, tail = edges_of(scorer.graph)[0]
    found = explain_triple(scorer.passes, (head, relation, tail))
    whole = float(scorer.score_hrt(torch.tensor([[head, relation, tail]])))
    assert found.paths
    assert all(p.entities[0] == head and p.entities[-1] == tail for p in found.paths)
    assert found.score != whole  # the edge itself has left the graph


def test_on_a_part_with_all_entities_scores_are_those_of_the_graph() -> None:
    dataset = random_dataset(1)
    scorer = make_model(dataset, double=False).scorer()
    hr = torch.tensor([[3, 0], [3, 5], [7, 2], [11, 1]])
    parts = in_parts(scorer, 100)
    assert len(parts.near(3)[1]) == 11  # all except the entity without edges
    torch.testing.assert_close(parts.score_t(hr), scorer.score_t(hr), rtol=1e-4, atol=1e-4)


def test_scores_on_a_part_are_those_of_the_part_as_a_graph() -> None:
    dataset = random_dataset(3, num_entities=40, num_train=120)
    scorer = in_parts(make_model(dataset, double=False).scorer(), 3)
    for head, relation in ((3, 0), (5, 4), (20, 1)):
        part, entities = scorer.near(head)
        place = int(torch.searchsorted(entities, head))
        own = part.score_t(torch.tensor([[place, relation]]))[0]
        found = scorer.score_t(torch.tensor([[head, relation]]))[0]
        torch.testing.assert_close(found[entities], own, rtol=1e-5, atol=1e-5)


def test_on_parts_the_others_share_a_score_and_ranks_need_no_rows() -> None:
    dataset = random_dataset(3, num_entities=40, num_train=120)
    scorer = in_parts(make_model(dataset, double=False).scorer(), 3)
    hr = torch.tensor([[3, 0], [5, 4], [3, 1]])
    rows, sparse = scorer.score_t(hr), scorer.sparse_scores(hr)
    for i, row in enumerate(rows):
        listed = sparse.entity[sparse.first[i] : sparse.first[i + 1]]
        assert 1 < len(listed) <= 1 + 3 * LAYERS
        assert set(listed.tolist()) <= set(scorer.near(int(hr[i, 0]))[1].tolist())
        others = torch.ones(40, dtype=torch.bool)
        others[listed] = False
        assert bool((row[others] == sparse.rest[i]).all())
        assert len(row[listed].unique()) > 1
    known = answer_index(dataset.train, dataset.num_relations)
    by_rows = rank_tails(RowScorer(scorer), dataset.valid, known, 40)
    found = rank_tails(scorer, dataset.valid, known, 40)
    assert torch.equal(found.filtered.realistic, by_rows.filtered.realistic)


def test_a_score_on_a_part_is_explained_with_the_ids_of_the_graph() -> None:
    dataset = random_dataset(3, num_entities=40, num_train=120)
    scorer = in_parts(make_model(dataset, double=False).scorer(), 3)
    edges = edges_of(scorer.graph)
    pairs = {(u, v) for u, _, v in edges}
    head, relation, tail = next(e for e in edges if e[0] == 20 != e[2])
    found = explain_triple(scorer.passes, (head, relation, tail))
    assert found.paths
    for path in found.paths:
        assert (path.entities[0], path.entities[-1]) == (head, tail)
        assert all(step in pairs for step in pairwise(path.entities))
    outside = next(e for e in range(40) if e not in scorer.near(head)[1])
    nothing = explain_triple(scorer.passes, (head, relation, outside))
    expected = float(scorer.score_hrt(torch.tensor([[head, relation, outside]])))
    assert (nothing.paths, nothing.score, nothing.rest) == ((), expected, expected)
