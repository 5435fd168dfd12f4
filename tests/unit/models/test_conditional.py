"""The conditional model, compared with its definition, and on relabelled graphs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.relation_graph import RelationGraph
from kgtool.inference.explain import explain_triple
from kgtool.models.conditional import ConditionalDecoder, ConditionalModel
from kgtool.models.relation_encoder import RelationEncoder
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
    x = [encoder.init * float(r == relation) for r in range(size)]
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


def test_all_routes_of_the_scorer_agree() -> None:
    dataset = random_dataset(0)
    scorer = make_model(dataset, double=False).scorer()
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
