"""Passes on a budget: equal to full passes if the budget suffices, else to the definition."""

from __future__ import annotations

import math
import types
from collections import defaultdict
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import kgtool
from kgtool.config import AllPathsConfig
from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.errors import ConfigError, ScoreError
from kgtool.evaluation.ranking import rank_tails
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.inference.explain import explain_triple
from kgtool.inference.path_search import PathSearch
from kgtool.models.all_paths import AllPathsDecoder
from kgtool.models.model import AllPathsModel
from kgtool.models.scorers import PassScorer
from kgtool.ops import CSC, Reach, Region, Task
from kgtool.ops.all_paths import growth, region
from kgtool.ops.runtime.mix import mix
from kgtool.storage.checkpoint import load_tensors
from kgtool.training.batches import PassSampler
from kgtool.training.objectives import AllPathsObjective
from kgtool.training.trainer import train
from kgtool.training.warm_start import sizes
from tests.support.graphs import edges_of, random_dataset
from tests.support.runs import all_paths_config, in_memory, ring, write_folder
from tests.unit.models.test_all_paths import hide, make_decoder, summary, torch_cell

PLENTY = 1000
NOTHING = torch.empty(0, dtype=torch.long)


def a_graph(seed: int) -> tuple[KGDataset, KnowledgeGraph]:
    dataset = random_dataset(seed, num_entities=40, num_train=150)
    return dataset, KnowledgeGraph.from_dataset(dataset)


def with_budget(decoder: AllPathsDecoder, node_budget: int) -> AllPathsDecoder:
    """The same weights, with a node budget and random transition weights."""
    num_types, dim = decoder.relations.shape
    layers, mlp_dim = decoder.layers, decoder.hidden.out_features
    new = AllPathsDecoder(num_types // 2, dim, layers, mlp_dim, node_budget).to(decoder.init.dtype)
    new.load_state_dict({**decoder.state_dict(), "priority": torch.randn(num_types, dim + 1)})
    return new


def pass_of(decoder: AllPathsDecoder, *where: Any) -> tuple[Tensor, Region]:
    reached = decoder.reach(*where)
    assert isinstance(reached, Region)
    return decoder(reached), reached


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_a_budget_that_is_not_spent_changes_no_bit(seed, dtype):
    torch.manual_seed(seed)
    dataset, graph = a_graph(seed)
    decoder = make_decoder(dataset, dim=8).to(dtype)
    budgeted = with_budget(decoder, PLENTY)
    heads = torch.tensor([0, 5, 5, dataset.num_entities - 1, 3])
    excluded, _ = hide(graph, heads)
    whole = decoder.reach(graph, heads, excluded)
    last = decoder(whole)
    mine, kept = pass_of(budgeted, graph, heads, excluded)
    assert torch.equal(mine, last)
    assert torch.equal(kept.entities(), whole.entities())
    assert np.array_equal(kept.first, whole.first)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(dataset.num_entities)).unbind(1)
    assert torch.equal(kept.slot_of(*pairs), whole.slot_of(*pairs))
    for value in (mine, last):
        value.square().sum().backward()
    for name, parameter in decoder.named_parameters():
        other = budgeted.get_parameter(name).grad
        assert (parameter.grad is None) == (other is None)
        if parameter.grad is not None and other is not None:
            assert torch.equal(parameter.grad, other), name


class Definition(NamedTuple):
    """A pass on a node budget from one head, by loops."""

    entity: list[int]
    state: dict[int, Tensor]
    loss: Tensor
    read: list[int]


def by_definition(
    decoder: AllPathsDecoder,
    graph: KnowledgeGraph,
    head: int,
    gone: set[int],
    wanted: set[int],
    seed: int,
) -> Definition:
    edges, cell, half = edges_of(graph), torch_cell(decoder), graph.num_relation_ids // 2
    inverse, dim = graph.inverse.tolist(), decoder.dim
    groups = defaultdict(list)  # by end and type, in the graph's order
    for e, (_, r, t) in enumerate(edges):
        groups[t, r].append(e)
    degree = torch.bincount(graph.tail, minlength=graph.num_entities).tolist()
    entity, weight = [head], {head: torch.tensor(1.0).double()}
    states: dict[int, Tensor] = {head: decoder.init}
    loss, read = torch.zeros(()).double(), []
    for step in range(decoder.layers):
        queue = []
        for u in entity:
            for r in range(graph.num_relation_ids):
                if group := groups.get((u, r)):
                    a = decoder.priority[(r + half) % (2 * half)]
                    p = a[:dim] @ states[u].detach() + a[dim]
                    queue.append((weight[u].detach() * p.exp() / degree[u], u, group))
        most, chosen = decoder.node_budget * region.EDGES_AN_ENTITY, []  # type: ignore[attr-defined]
        for place in sorted(range(len(queue)), key=lambda i: -float(queue[i][0].detach())):
            part, _, group = queue[place]
            turn = 0
            if len(group) > most > 0:
                turn = int(mix(np.uint64(seed), np.int64(group[0]))) % len(group)
            round_ = group[turn:] + group[:turn]
            chosen.append((place, round_[:most]))
            most -= len(chosen[-1][1])
        gained: dict[int, Tensor] = {}
        links = []
        read.append(0)
        for place, some in sorted(chosen):
            part, u, _ = queue[place]
            for e in some:
                read[-1] += 1
                if e in gone:
                    continue
                v = edges[e][0]
                links.append((u, edges[inverse[e]][1], v))
                if v not in weight:
                    gained[v] = gained.get(v, 0) + part
        total = sum(gained.values(), torch.zeros(()).double())
        loss = loss + sum(torch.log(total / gained[v]) for v in gained if v in wanted)
        order = list(gained)
        best = sorted(order, key=lambda v: -float(gained[v].detach()))[: decoder.node_budget]
        new = [v for v in order if v in best]
        entity = entity + new
        weight |= {v: gained[v] for v in new}
        incoming = defaultdict(list)
        for u, r, v in links:
            incoming[v].append(states[u] * decoder.weights[step, r])
        after, zero = {}, torch.zeros(dim).double()
        for v in entity:
            absent = degree[v] - sum(1 for e in gone if edges[e][2] == v) - len(incoming[v])
            message = summary(incoming[v] + [zero] * absent, decoder.scalers[step])
            after[v] = cell(message[None], states.get(v, zero)[None])[0]
        states = after
    return Definition(entity, states, loss, read)


@pytest.mark.parametrize("seed", range(4))
def test_a_spent_budget_keeps_what_its_definition_does(monkeypatch, seed):
    monkeypatch.setattr(region, "EDGES_AN_ENTITY", 4)
    torch.manual_seed(seed)
    dataset, graph = a_graph(seed)
    decoder = with_budget(make_decoder(dataset), 5)
    heads = torch.tensor([0, 7, 3])
    excluded, gone = hide(graph, heads)
    task = Task(torch.arange(3).repeat(12), torch.arange(36), seed, 0.0)
    last, kept = pass_of(decoder, graph, heads, excluded, task)
    loss = kept.walk_loss(decoder.priority)
    found = last.split([*kept.rows_of_heads(), len(last) - kept.rows(3)])
    expected, entities = [], []
    for b, head in enumerate(heads.tolist()):
        wanted = set(range(b, 36, 3))
        by_loops = by_definition(
            decoder, graph, head, gone[b], wanted, seed * 1_000_003 + head
        )  # fmt: skip
        assert max(by_loops.read) == 20  # as many as there may be
        assert max(kept.rows_of_heads()) > 10
        for v, state in zip(by_loops.entity, found[b], strict=True):
            torch.testing.assert_close(state, by_loops.state[v])
        entities += by_loops.entity
        expected.append(by_loops.loss)
    assert kept.entities().tolist() == entities
    torch.testing.assert_close(loss, sum(expected[1:], expected[0]))
    (mine,) = torch.autograd.grad(3 * loss, decoder.priority)
    (theirs,) = torch.autograd.grad(3 * sum(expected[1:], expected[0]), decoder.priority)
    assert int((mine != 0).any(1).sum()) > 2
    torch.testing.assert_close(mine, theirs)


def links_of(kept: Region, step: int) -> set[tuple[int, int, int]]:
    """The edges of a step of the first head."""
    entity = kept.entities().tolist()
    slots = torch.arange(int(kept.first[step, 1]))
    place, source, kind, _, _ = kept.arriving(step, slots)
    triples = zip(source.tolist(), kind.tolist(), place.tolist(), strict=True)
    return {(entity[u], r, entity[v]) for u, r, v in triples}


@pytest.mark.parametrize("budget", [3, PLENTY])
@pytest.mark.parametrize("kind", ["edge", "pair"])
def test_targets_are_no_edges_of_their_pass(kind, budget):
    torch.manual_seed(1)
    dataset, graph = a_graph(2)
    decoder = with_budget(make_decoder(dataset), budget)
    sampler = PassSampler(graph, max_targets=4, max_target_ratio=0.5, remove_target_edges=kind)
    half, seen = dataset.num_relations, 0
    for head in torch.unique(graph.tail).tolist():
        batch = sampler.batch(torch.tensor([head]))
        task = Task(batch.position, batch.tail, 5, 0.0)
        _, kept = pass_of(decoder, graph, batch.head, batch.excluded_edges, task)
        for step in (1, 2, 3):
            links = links_of(kept, step)
            seen += len(links)
            for r, t in zip(batch.relation.tolist(), batch.tail.tolist(), strict=True):
                assert (head, r, t) not in links
                assert (t, (r + half) % (2 * half), head) not in links
                if kind == "pair":
                    assert not {(u, v) for u, _, v in links} & {(head, t), (t, head)}
    assert seen > 500


def test_edges_drop_out_with_their_inverses_but_at_the_head():
    dataset = random_dataset(3, num_entities=40, num_train=400)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = with_budget(make_decoder(dataset), PLENTY)
    half, all_edges = dataset.num_relations, set(edges_of(graph))
    away = {(h, r, t) for h, r, t in all_edges if 0 not in (h, t)}
    beside = {t for h, _, t in all_edges if h == 0}
    possible = {(h, r, t) for h, r, t in away if {h, t} <= beside}
    seen = []
    for seed in range(60):
        _, kept = pass_of(
            decoder, graph, torch.tensor([0]), None, Task(NOTHING, NOTHING, seed, 0.4)
        )
        links = links_of(kept, 3)
        there = set(kept.entities()[: int(kept.first[2, 1])].tolist())
        inside = {(h, r, t) for h, r, t in links if h in there and t in there}
        assert {(t, (r + half) % (2 * half), h) for h, r, t in inside} == inside
        assert {edge for edge in all_edges if edge[0] == 0} <= links
        # Between neighbours of the head, which all are there after the first step.
        seen.append(len(possible & links) / len(possible))
    assert len(set(seen)) > 20
    assert abs(sum(seen) / len(seen) - 0.6) < 0.03


def test_a_pass_is_a_function_of_head_and_seed(monkeypatch):
    monkeypatch.setattr(region, "EDGES_AN_ENTITY", 6)
    torch.manual_seed(4)
    dataset, graph = a_graph(4)
    decoder = with_budget(make_decoder(dataset), 4)
    heads = torch.tensor([1, 0, 6])
    found, kept = pass_of(decoder, graph, heads)
    again, _ = pass_of(decoder, graph, heads)
    assert torch.equal(found, again)
    for b, head in enumerate(heads.tolist()):
        alone, _ = pass_of(decoder, graph, torch.tensor([head]))
        rows = slice(int(kept.first[3, b]), int(kept.first[3, b + 1]))
        torch.testing.assert_close(found[rows], alone[: rows.stop - rows.start])
    entities = [
        tuple(pass_of(decoder, graph, heads, None, Task(NOTHING, NOTHING, seed, 0.3))[1].entities())
        for seed in (1, 1, 2)
    ]
    assert [int(v) for v in entities[0]] == [int(v) for v in entities[1]]
    assert [int(v) for v in entities[0]] != [int(v) for v in entities[2]]


@pytest.mark.parametrize("leaves", [1_000, 1_000_000])
@pytest.mark.parametrize("head", [0, 7])
def test_a_hub_takes_the_time_of_the_budget(monkeypatch, head, leaves):
    """A star: the hub is 0; all leaves have one relation, except one leaf with another."""
    into = torch.arange(1, leaves + 1)
    kind = (into == leaves).long()
    edges = CSC.from_edges(
        torch.cat([into, torch.zeros_like(into)]), torch.cat([torch.zeros_like(into), into]),
        torch.cat([kind, 2 + kind]), leaves + 1, leaves + 1,
    )  # fmt: skip
    graph = KnowledgeGraph(edges, 4)
    read: list[tuple[int, int, int]] = []
    read_edges = growth.read_edges

    def noted(*arguments: Any) -> Any:
        found = read_edges(*arguments)
        read.append((len(arguments[3]), len(found[0]), len(found[4])))
        return found

    monkeypatch.setattr(region, "read_edges", noted)
    decoder = AllPathsDecoder(2, 4, 3, 2, node_budget=5)
    with torch.no_grad():
        decoder.priority[3, 4] = 1  # leaves of the other relation are worth more
    _, kept = pass_of(decoder, graph, torch.tensor([head]))
    assert max(edges for _, edges, _ in read) == 5 * growth.EDGES_AN_ENTITY
    assert max(groups for groups, _, _ in read) < 20
    assert max(found for _, _, found in read) <= 5 * growth.EDGES_AN_ENTITY + 12
    assert leaves in kept.entities().tolist()
    assert kept.rows_of_heads() == [16 if head == 0 else 12]


def test_other_answers_are_those_of_the_index():
    """Also if a hub has more answers than its pass keeps entities."""
    torch.manual_seed(6)
    dataset, graph = a_graph(6)
    answers = answer_index(dataset.train, dataset.num_relations)
    for budget in (1, 3, 0):
        decoder = make_decoder(dataset)
        decoder = with_budget(decoder, budget) if budget else decoder
        objective = AllPathsObjective(AllPathsConfig(), AllPathsModel(decoder, graph), answers)
        (batch,) = objective.parts(torch.arange(6))
        reached = decoder.reach(graph, batch.head, batch.excluded_edges)
        decoder(reached)
        heads = batch.head[batch.position]
        targets = torch.stack([heads, batch.relation, batch.tail], dim=1)
        query, row, missed = objective._others(reached, batch.position, targets)
        found = defaultdict(set)
        for i, slot in zip(query.tolist(), row.tolist(), strict=True):
            found[i].add(slot)
        assert bool((query.diff() >= 0).all())
        for i, (h, r, t) in enumerate(targets.tolist()):
            known = {v for u, k, v in edges_of(graph) if (u, k) == (h, r)} - {t}
            tails = torch.tensor(sorted(known), dtype=torch.long)
            slots = reached.slot_of(batch.position[i].repeat(len(tails)), tails).tolist()
            inside = {slot for slot in slots if slot < dataset.num_entities}
            assert found[i] == inside
            assert int(missed[i]) == len(known) - len(inside)


@pytest.mark.parametrize("budget", [0, 4])
def test_kept_scores_are_those_of_all(budget):
    torch.manual_seed(7)
    dataset, graph = a_graph(7)
    decoder = make_decoder(dataset, layers=2)
    model = AllPathsModel(with_budget(decoder, budget) if budget else decoder, graph)
    scorer = model.scorer()
    hr = torch.cartesian_prod(torch.arange(40), torch.arange(2 * dataset.num_relations))
    hr = hr[torch.randperm(len(hr))[:50]]
    whole, kept = scorer.score_t(hr), scorer.sparse_scores(hr)
    for i in range(len(hr)):
        entity, score = (part[kept.first[i] : kept.first[i + 1]] for part in kept[1:3])
        row = kept.rest[i].repeat(40)
        row[entity] = score
        assert torch.equal(row, whole[i])
        assert len(entity.unique()) == len(entity) <= (1 + 2 * budget if budget else 40)
    hrt = torch.cat([hr, torch.randint(40, (50, 1))], dim=1)
    torch.testing.assert_close(scorer.score_hrt(hrt), whole[torch.arange(50), hrt[:, 2]])
    assert len(scorer.sparse_scores(hr[:0]).first) == 1


@pytest.mark.parametrize("of_train", [True, False])
def test_ranks_by_what_is_kept_are_those_by_all(of_train):
    torch.manual_seed(9)
    dataset, graph = a_graph(9)
    budgeted = with_budget(make_decoder(dataset, layers=2), 4)
    scorer = AllPathsModel(budgeted, graph).scorer()
    known = answer_index(dataset.train, dataset.num_relations)
    triples = with_inverses(dataset.train, dataset.num_relations)
    if not of_train:
        triples = torch.cat([triples[:, :2], torch.randint(40, (len(triples), 1))], dim=1)
    whole = types.SimpleNamespace(score_t=scorer.score_t)
    found, want = (rank_tails(model, triples, known, 40) for model in (scorer, whole))
    for ours, theirs in ((found.filtered, want.filtered), (found.raw, want.raw)):
        for name in ("better", "equal", "candidates"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(found.score, want.score)
    with torch.no_grad():
        budgeted.relations[0] = math.nan
    with pytest.raises(ScoreError, match=r"relation 0"):
        rank_tails(scorer, triples[triples[:, 1] == 0], known, 40)


def test_a_budget_that_is_not_spent_explains_alike():
    torch.manual_seed(8)
    dataset, graph = a_graph(8)
    plain = PassScorer(make_decoder(dataset), graph)
    ample, small = (replace(plain, decoder=with_budget(plain.decoder, b)) for b in (PLENTY, 4))

    def entities(passes: PassScorer, triple: tuple[int, int, int]) -> set[tuple[int, ...]]:
        search = PathSearch.of(passes, triple)
        assert search is not None
        paths, _ = search.paths(1_000_000)
        return {tuple(search.entities[slot] for slot in path) for path in paths}

    for head, relation, tail in dataset.train.tolist()[:6]:
        triple = (head, relation, tail)
        found, theirs = (explain_triple(passes, triple, top=3) for passes in (ample, plain))
        assert (found.score, found.rest) == pytest.approx((theirs.score, theirs.rest))
        assert [p.entities for p in found.paths] == [p.entities for p in theirs.paths]
        for one, other in zip(found.paths, theirs.paths, strict=True):
            assert (one.weight, one.fall) == pytest.approx((other.weight, other.fall))
        if explain_triple(small, triple, top=1).paths:
            assert entities(small, triple) <= entities(plain, triple)


def test_a_walk_learns_to_find_what_is_asked():
    """Answers are two steps away along one of five relations; the walk learns to take it."""
    torch.manual_seed(9)
    facts, n = [], 300
    rng = np.random.default_rng(0)
    for h in range(n):
        for r in range(5):
            for t in rng.choice(n, 4, replace=False).tolist():
                facts.append((h, r, t))
    second = {h: [t for a, r, t in facts if a == h and r == 2] for h in range(n)}
    graph = KnowledgeGraph.from_dataset(in_memory(facts, [], [], n, 5))
    decoder = AllPathsDecoder(5, 8, 2, 4, node_budget=30)
    optimizer = torch.optim.Adam([decoder.priority], lr=0.1)

    def wanted(heads: range) -> tuple[Tensor, Tensor]:
        pairs = [
            (i, t) for i, h in enumerate(heads) for u in second[h] for t in second[u] if t != h
        ]
        position, entity = torch.tensor(pairs).unbind(1)
        return position, entity

    def coverage() -> float:
        heads = range(200, 300)
        _, kept = pass_of(decoder, graph, torch.tensor(heads))
        return float((kept.slot_of(*wanted(heads)) < n).float().mean())

    plain = coverage()
    for start in range(0, 200, 20):
        heads = range(start, start + 20)
        task = Task(*wanted(heads), seed=0, dropout=0.0)
        with torch.no_grad():
            _, kept = pass_of(decoder, graph, torch.tensor(heads), None, task)
        optimizer.zero_grad()
        kept.walk_loss(decoder.priority).backward()
        optimizer.step()
    assert plain < 0.5
    assert coverage() > plain + 0.2


def test_a_budgeted_run(tmp_path):
    data = kgtool.load_dataset(write_folder(ring(), tmp_path / "ring"))
    config = all_paths_config(node_budget=8, edge_dropout=0.2, epochs=3)
    run = train(config, data, tmp_path / "run", progress=False)
    weights, _ = load_tensors(run.path / "best.safetensors")
    assert weights["decoder.priority"].shape == (2 * data.num_relations, 9)
    assert weights["decoder.priority"].abs().sum() > 0
    best = max(row["valid_mrr"] for row in run.history())
    assert kgtool.evaluate(run, "valid").mrr == pytest.approx(best, abs=1e-6)
    assert kgtool.explain(run, "e000", "r002", "e005").paths
    plain = all_paths_config(epochs=1)
    assert sizes(config) != sizes(plain)
    whole = train(plain, data, tmp_path / "whole", progress=False)
    assert "decoder.priority" not in load_tensors(whole.path / "best.safetensors")[0]


def test_a_budget_and_an_encoder_exclude_each_other():
    with pytest.raises(ConfigError, match=r"node_budget and an encoder .*Remedy"):
        all_paths_config(node_budget=4, encoder={})


def test_whole_passes_stay_without_a_budget():
    dataset, graph = a_graph(0)
    decoder = make_decoder(dataset)
    assert isinstance(decoder.reach(graph, torch.tensor([0])), Reach)
    assert "priority" not in decoder.state_dict()
