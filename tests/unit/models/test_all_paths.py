"""The all-paths model, compared with torch's cell on a chain, and with its definition."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numba
import pytest
import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder, Feed, Parts
from kgtool.models.model import AllPathsModel
from kgtool.models.scorers import PassScorer
from kgtool.ops import path_loss, path_step
from kgtool.ops.all_paths.path_messages import EPSILON, LEAST_VARIANCE
from kgtool.training.batches import PassSampler
from tests.support.graphs import edges_of, random_dataset
from tests.support.runs import in_memory

DIM = 6
THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def make_decoder(dataset: KGDataset, layers: int = 3, dim: int = DIM) -> AllPathsDecoder:
    """A decoder with random parameters, in float64."""
    decoder = AllPathsDecoder(dataset.num_relations, dim, layers, mlp_dim=5).double()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return decoder


def torch_cell(decoder: AllPathsDecoder) -> torch.nn.GRUCell:
    """torch's cell with the decoder's weights; torch orders the gates r, z, n."""
    d = decoder.dim
    cell = torch.nn.GRUCell(2 * d, d).double()
    z, r, n = decoder.messages_in.t().split(d)
    z_s, r_s, n_s = decoder.state_in.t().split(d)
    b_z, b_r, b_n, b_s = decoder.bias.split(d)
    nothing = torch.zeros(d).double()
    cell.load_state_dict(
        {
            "weight_ih": torch.cat([r, z, n]),
            "weight_hh": torch.cat([r_s, z_s, n_s]),
            "bias_ih": torch.cat([b_r, b_z, b_n]),
            "bias_hh": torch.cat([nothing, nothing, b_s]),
        }
    )
    return cell


def summary(messages: list[Tensor], scaler: Tensor) -> Tensor:
    """Mean and deviation of messages, scaled by their number, and normalised together."""
    stacked = torch.stack(messages or [torch.zeros_like(scaler[0])])
    mean = stacked.mean(0)
    variance = (stacked.square().mean(0) - mean.square()).clamp(min=LEAST_VARIANCE)
    both = torch.cat([mean, variance.sqrt()]) * (1 + len(messages)) ** scaler.flatten()
    return (both - both.mean()) / torch.sqrt(both.var(correction=0) + EPSILON)


def by_definition(
    decoder: AllPathsDecoder, edges: list[tuple[int, int, int]], head: int
) -> dict[int, Tensor]:
    """The last state of every reached entity, computed edge by edge."""
    cell = torch_cell(decoder)
    incoming = defaultdict(list)
    for source, relation, tail in edges:
        incoming[tail].append((source, relation))
    zero = torch.zeros(decoder.dim).double()
    states: dict[int, Tensor] = {head: decoder.init}
    for weights, scaler in zip(decoder.weights, decoder.scalers, strict=True):
        beside = {v for v, into in incoming.items() if any(u in states for u, _ in into)}
        new: dict[int, Tensor] = {}
        for v in states.keys() | beside:
            messages = [states.get(u, zero) * weights[r] for u, r in incoming[v]]
            new[v] = cell(summary(messages, scaler)[None], states.get(v, zero)[None])[0]
        states = new
    return states


def edges_without(graph: KnowledgeGraph, gone: set[int]) -> list[tuple[int, int, int]]:
    triples = torch.stack([graph.head, graph.relation, graph.tail], dim=1).tolist()
    return [(h, r, t) for e, (h, r, t) in enumerate(triples) if e not in gone]


def in_edges(graph: KnowledgeGraph, heads: Tensor) -> list[list[int]]:
    return [torch.nonzero(graph.tail == h).flatten().tolist() for h in heads.tolist()]


def hide(graph: KnowledgeGraph, heads: Tensor) -> tuple[list[Tensor], list[set[int]]]:
    """Exclude a third of each head's in-edges: the ids, and these with inverses, by head."""
    excluded, gone = [], []
    for edges in in_edges(graph, heads):
        chosen = {e for e in edges if torch.rand(()) < 0.33}
        both = chosen | {int(graph.inverse[e]) for e in chosen}
        excluded.append(torch.tensor([e for e in edges if e in both], dtype=torch.long))
        gone.append(both)
    return excluded, gone


@pytest.mark.parametrize("nearest", [0, 2, 100])
@pytest.mark.parametrize("seed", range(3))
def test_states_are_those_of_the_definition(seed, nearest):
    """With parts, they are those of the edges between the entities of a part."""
    torch.manual_seed(seed)
    dataset = random_dataset(seed)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    decoder.parts = Parts(whole=0, nearest=nearest) if nearest else None
    heads = torch.tensor([0, 5, 5, dataset.num_entities - 1, 3])
    excluded, gone = hide(graph, heads)
    reached = decoder.reach(graph, heads, excluded)
    rows = reached.rows_of_heads()
    last = decoder(reached)
    assert len(last) > sum(rows)
    assert not last[sum(rows) :].any()
    states = last[: sum(rows)].split(rows)
    entities = reached.entities().split(rows)
    for b, head in enumerate(heads.tolist()):
        part = set(entities[b].tolist())
        edges = edges_without(graph, gone[b])
        if nearest == 2:
            edges = [(u, r, v) for u, r, v in edges if u in part and v in part]
            assert len(part) <= 1 + 2 * decoder.layers
        expected = by_definition(decoder, edges, head)
        assert sorted(expected) == sorted(entities[b].tolist())
        for state, entity in zip(states[b], entities[b].tolist(), strict=True):
            torch.testing.assert_close(state, expected[entity])
        everyone = torch.arange(dataset.num_entities)
        slots = reached.slot_of(torch.full_like(everyone, b), everyone)
        assert {v for v, slot in enumerate(slots.tolist()) if slot < rows[b]} == set(expected)


def test_a_part_is_chosen_without_the_excluded_edges():
    """A chain 0 - 1 - 2, and a shortcut from 0 to 2 that a pass may not take."""
    dataset = in_memory([(0, 0, 1), (1, 0, 2), (0, 1, 2), (2, 0, 3)], [], [], 4, 2)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset, layers=1)
    decoder.parts = Parts(whole=0, nearest=4)
    shortcut = graph.find(torch.tensor([[2, 3, 0]]))  # the inverse, which leads to the head
    for excluded, entities in ([shortcut], [0, 1]), ([shortcut[:0]], [0, 1, 2]):
        reached = decoder.reach(graph, torch.tensor([0]), excluded)
        assert sorted(reached.entities().tolist()) == entities


def test_an_encoder_feeds_the_start_the_end_and_the_queries():
    torch.manual_seed(12)
    dataset = random_dataset(12)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    feed = Feed(
        torch.randn(dataset.num_entities, DIM).double(),
        torch.randn(2 * dataset.num_relations, DIM).double(),
    )
    heads = torch.tensor([4, 0])
    reached = decoder.reach(graph, heads)
    fed, plain = decoder(reached, feed), []
    for b, head in enumerate(heads.tolist()):
        alone = decoder.reach(graph, heads[b : b + 1])
        with torch.no_grad():
            init = decoder.init.clone()
            decoder.init.add_(feed.entities[head])
            plain.append(decoder(alone)[: len(alone.entities())] + feed.entities[alone.entities()])
            decoder.init.copy_(init)
    torch.testing.assert_close(fed[: reached.rows(3)], torch.cat(plain))
    assert not fed[reached.rows(3) :].any()
    relation = torch.tensor([1, 0])
    more = decoder.queries(relation, feed) - decoder.queries(relation)
    torch.testing.assert_close(more[:, :DIM], feed.relations[relation])
    assert not more[:, DIM:].any()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_along_a_chain_it_is_torchs_cell(length):
    torch.manual_seed(length)
    chain = [(i, i % 2, i + 1) for i in range(length)]
    dataset = in_memory(chain, chain, chain, length + 1, 2)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset, layers=length)
    cell = torch_cell(decoder)
    reached = decoder.reach(graph, torch.tensor([0]))
    last = decoder(reached)[reached.slot_of(torch.tensor([0]), torch.tensor([length]))]
    state, zero = decoder.init, torch.zeros(1, DIM).double()
    for i in range(length):
        message = state * decoder.weights[i, i % 2]
        # All but the last entity have a second in-edge, from behind, which brings nothing yet.
        messages = [message] if i == length - 1 else [message, torch.zeros_like(message)]
        state = cell(summary(messages, decoder.scalers[i])[None], zero)[0]
    torch.testing.assert_close(last[0], state)


def test_an_excluded_edge_is_an_edge_that_is_not_there():
    torch.manual_seed(0)
    dataset = random_dataset(1)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    head, relation, tail = next(t for t in dataset.train.tolist() if t[0] != t[2])
    edge = int(graph.find(torch.tensor([[head, relation, tail]])))
    excluded = [graph.inverse[[edge]].long()]
    kept = dataset.train[(dataset.train != torch.tensor([head, relation, tail])).any(1)]
    without = KGDataset("x", None, dataset.vocabulary, kept, dataset.valid, dataset.test)
    hidden = decoder.reach(graph, torch.tensor([head]), excluded)
    absent = decoder.reach(KnowledgeGraph.from_dataset(without), torch.tensor([head]))
    assert torch.equal(decoder(hidden), decoder(absent))
    whole = decoder.reach(graph, torch.tensor([head]))
    assert not torch.equal(decoder(hidden)[0], decoder(whole)[0])


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["edge", "pair"])
def test_targets_do_not_show_in_their_own_pass(kind, dropout):
    """Adding or removing a target edge does not change a state or a score."""
    torch.manual_seed(1)
    dataset = random_dataset(2)
    whole = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    sampler = PassSampler(
        whole, max_targets=2, max_target_ratio=0.5, remove_target_edges=kind, edge_dropout=dropout
    )
    for head in torch.unique(dataset.train[:, [0, 2]]).tolist():
        batch = sampler.batch(torch.tensor([head]))
        graph = batch.graph
        heads = torch.full_like(batch.tail, head)
        triples = torch.stack([heads, batch.relation, batch.tail], dim=1)
        asked = graph.find(triples)
        gone = set(torch.cat([asked, graph.inverse[asked]]).tolist())
        if kind == "pair":
            pairs = {(head, t) for t in batch.tail.tolist()}
            pairs |= {(t, h) for h, t in pairs}
            edges = edges_without(graph, set())
            gone = {e for e, (h, _, t) in enumerate(edges) if (h, t) in pairs}
        r, n = dataset.num_relations, dataset.num_entities
        kept = [(h, k, t) for h, k, t in edges_without(graph, gone) if k < r]
        without = KnowledgeGraph.from_dataset(in_memory(kept, [], [], n, r))
        seen = decoder(decoder.reach(graph, batch.head, batch.excluded_edges))
        assert (graph is whole) == (dropout == 0)
        assert torch.equal(seen, decoder(decoder.reach(without, batch.head)))


@pytest.mark.parametrize("parts", [None, Parts(whole=0, nearest=2)])
def test_gradients(parts):
    torch.manual_seed(2)
    dataset = random_dataset(3, num_entities=7, num_train=14)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset, dim=3)
    decoder.parts = parts
    heads = torch.tensor([0, 2, 2])
    reached = decoder.reach(graph, heads, hide(graph, heads)[0])
    context = torch.tensor([0, 1, 0])
    matrix, bias = torch.randn(9, 12).double(), torch.randn(12).double()
    weight = torch.randn(2, 2 * dataset.num_relations, 3).double()
    scaler = 0.1 * torch.randn(2, 3).double()
    for step in (1, 2, 3):
        state = torch.randn(reached.rows(step - 1), 3).double()
        floats = [t.requires_grad_() for t in (state, weight, scaler, matrix, bias)]
        inputs: tuple[Any, ...] = (*floats, context, reached, step)
        assert torch.autograd.gradcheck(path_step, inputs)


def test_contexts_are_passes_with_other_weights():
    torch.manual_seed(3)
    dataset = random_dataset(3)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    reached = decoder.reach(graph, torch.tensor([0, 4]))
    weight = torch.randn(2, 2 * dataset.num_relations, DIM).double()
    state = torch.randn(2, DIM).double()
    matrix, bias = torch.randn(18, 24).double(), torch.randn(24).double()
    scaler = torch.zeros(2, DIM).double()
    rows = int(reached.first[1, 1])
    for c in (0, 1):
        alone = path_step(
            state, weight[c : c + 1], scaler, matrix, bias, torch.tensor([0, 0]), reached, 1
        )
        both = path_step(state, weight, scaler, matrix, bias, torch.tensor([c, 1 - c]), reached, 1)
        assert torch.equal(both[:rows], alone[:rows])


def test_bfloat16_is_near_and_float32_nearer():
    torch.manual_seed(4)
    dataset = random_dataset(4)
    decoder = make_decoder(dataset, dim=32)
    reached = decoder.reach(KnowledgeGraph.from_dataset(dataset), torch.tensor([0, 1]))
    exact = decoder(reached)
    single = decoder.float()(reached)
    with torch.autocast("cpu", torch.bfloat16):
        half = decoder(reached)
        half.float().sum().backward()
    assert (half.dtype, single.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(single.double(), exact, atol=1e-4, rtol=0)
    torch.testing.assert_close(half.double(), exact, atol=0.1, rtol=0)
    rough = decoder.weights.grad
    assert rough is not None
    decoder.zero_grad()
    decoder(reached).sum().backward()
    fine = decoder.weights.grad
    assert fine is not None
    assert float((rough - fine).norm() / fine.norm()) < 0.1


@pytest.mark.skipif(THREADS < 2, reason="numba has one thread")
def test_threads_change_nothing():
    torch.manual_seed(5)
    dataset = random_dataset(5)
    decoder = make_decoder(dataset).float()
    reached = decoder.reach(KnowledgeGraph.from_dataset(dataset), torch.arange(9))
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            decoder.zero_grad()
            state = decoder(reached)
            state.square().sum().backward()
            assert decoder.weights.grad is not None
            found.append((state.detach(), decoder.weights.grad.clone()))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_the_loss_is_a_softmax_over_all_entities():
    torch.manual_seed(6)
    rows, counts, num_entities = torch.tensor([5, 9]), torch.tensor([2, 3]), 20
    state = torch.randn(16, 4).double()
    state[14:] = 0
    # Ids from a head's number of rows on stand for what it does not reach.
    target = torch.tensor([2, 20, 0, 8, 20])
    first, masked = torch.tensor([0, 1, 1, 3, 3, 3]), torch.tensor([1, 3, 4])
    beyond = torch.tensor([1, 0, 0, 0, 1])  # known answers that are not reached
    others = num_entities - rows.repeat_interleave(counts) - beyond
    floats = [state, *(torch.randn(*shape).double() for shape in ((3, 4), (3,), (5, 7)))]
    floats = [t.requires_grad_() for t in floats]

    def loss(state: Tensor, weight: Tensor, bias: Tensor, queries: Tensor) -> Tensor:
        where = (rows, counts, target, first, masked, others)
        return path_loss(state, weight, bias, queries, *where)

    def by_definition(state: Tensor, weight: Tensor, bias: Tensor, queries: Tensor) -> Tensor:
        features = torch.cat([state, torch.relu(state @ weight.t() + bias)], dim=1)
        losses = []
        for i, b in enumerate([0, 0, 1, 1, 1]):
            reached = features[:5] if b == 0 else features[5:14]
            outside = features[-1:].expand(num_entities - len(reached), -1)
            scores = torch.cat([reached, outside]) @ queries[i]
            gone = masked[first[i] : first[i + 1]].tolist()
            gone += range(len(reached) + 1, len(reached) + 1 + int(beyond[i]))
            kept = [j for j in range(num_entities) if j not in gone]
            told = scores[min(int(target[i]), len(reached))]
            losses.append(torch.logsumexp(scores[kept], 0) - told)
        return torch.stack(losses).sum()

    mine, theirs = loss(*floats), by_definition(*floats)
    torch.testing.assert_close(mine, theirs)
    grads = [torch.autograd.grad(3 * value, floats) for value in (mine, theirs)]
    torch.testing.assert_close(grads[0][0][:14], grads[1][0][:14])
    for one, other in zip(grads[0][1:], grads[1][1:], strict=True):
        torch.testing.assert_close(one, other)


def scorer_of(dataset: KGDataset) -> PassScorer:
    model = AllPathsModel(make_decoder(dataset, layers=2), KnowledgeGraph.from_dataset(dataset))
    return model.scorer()


def test_scores_are_of_the_query_alone():
    torch.manual_seed(7)
    dataset = random_dataset(7, num_entities=30)
    scorer = scorer_of(dataset)
    hr = torch.cartesian_prod(torch.arange(30), torch.arange(2 * dataset.num_relations))
    hr = hr[torch.randperm(len(hr))[:40]]
    scores = scorer.score_t(hr)
    for i in range(0, 40, 7):
        torch.testing.assert_close(scorer.score_t(hr[i : i + 1])[0], scores[i])
    hrt = torch.cat([hr, torch.randint(30, (40, 1))], dim=1)
    torch.testing.assert_close(scorer.score_hrt(hrt), scores[torch.arange(40), hrt[:, 2]])
    relation = torch.tensor([3, 0])
    asked = torch.cartesian_prod(torch.arange(30), relation)
    by_tails = scorer.score_t(asked).view(30, 2, 30)
    pairs = torch.randint(30, (50, 2))
    torch.testing.assert_close(
        scorer.score_r(pairs, relation), by_tails[pairs[:, 0], :, pairs[:, 1]]
    )
    reached = scorer.decoder.reach(scorer.graph, torch.tensor([3]))
    entity = reached.entities()
    features = scorer.decoder.features(scorer.decoder(reached)[: len(entity)])
    query = scorer.decoder.queries(torch.tensor([1]))[0]
    score = scorer.score_t(torch.tensor([[3, 1]]))[0]
    torch.testing.assert_close(score[entity], features @ query)


def test_scores_of_bfloat16_passes_are_float32_and_near():
    torch.manual_seed(7)
    dataset = random_dataset(7, num_entities=30)
    decoder = make_decoder(dataset, layers=2, dim=16).float()
    scorer = AllPathsModel(decoder, KnowledgeGraph.from_dataset(dataset)).scorer()
    hr = torch.cartesian_prod(torch.arange(30), torch.arange(2))
    exact = scorer.score_t(hr)
    with torch.autocast("cpu", torch.bfloat16):
        half = scorer.score_t(hr)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert not torch.equal(half, half.bfloat16().float())
    assert float((half - exact).norm() / exact.norm()) < 0.05


def test_what_is_not_reached_scores_alike():
    dataset = random_dataset(8)
    bare = dataset.num_entities - 1
    scores = scorer_of(dataset).score_t(torch.tensor([[bare, 0]]))[0]
    assert len(scores[:bare].unique()) == 1
    assert scores[bare] != scores[0]


@pytest.mark.parametrize("kind", ["edge", "pair"])
def test_sampled_targets(kind):
    dataset = random_dataset(10, num_train=60)
    graph = KnowledgeGraph.from_dataset(dataset)
    sampler = PassSampler(graph, max_targets=3, max_target_ratio=0.34, remove_target_edges=kind)
    heads = torch.unique(graph.tail).repeat(2)
    torch.manual_seed(0)
    batch = sampler.batch(heads)
    degree = torch.bincount(graph.tail, minlength=graph.num_entities)
    counts = torch.bincount(batch.position, minlength=len(heads)).tolist()
    assert counts == [min(3, max(1, int(n * 0.34))) for n in degree[heads].tolist()]
    assert bool((batch.position.diff() >= 0).all())
    edges = torch.stack([batch.head[batch.position], batch.relation, batch.tail], dim=1)
    asked = graph.find(edges)  # raises for what is no edge
    assert torch.equal(torch.cat(batch.excluded_edges), batch.excluded_of_any)
    for b, into in enumerate(in_edges(graph, heads)):
        own = asked[batch.position == b].tolist()
        assert len(own) == len(set(own))
        gone = set(batch.excluded_edges[b].tolist())
        assert gone <= set(into)
        if kind == "edge":
            both = set(own) | set(graph.inverse[own].tolist())
            assert gone == both & set(into)
        else:
            tails = set(graph.tail[own].tolist())
            assert gone == {e for e in into if int(graph.head[e]) in tails}


def test_edges_drop_out_with_their_inverses_but_at_heads():
    graph = KnowledgeGraph.from_dataset(random_dataset(3, num_entities=40, num_train=200))
    sampler = PassSampler(
        graph, max_targets=3, max_target_ratio=0.34, remove_target_edges="edge", edge_dropout=0.4
    )
    plain = PassSampler(graph, max_targets=3, max_target_ratio=0.34, remove_target_edges="edge")
    heads = torch.tensor([5, 9])
    at_heads = {e for e in edges_of(graph) if {e[0], e[2]} & {5, 9}}
    half, away = graph.num_relation_ids // 2, graph.num_edges - len(at_heads)
    kept = []
    for seed in range(100):
        batch = sampler.batch(heads, torch.Generator().manual_seed(seed))
        whole = plain.batch(heads, torch.Generator().manual_seed(seed))
        assert torch.equal(batch.excluded_of_any, whole.excluded_of_any)
        for ours, theirs in zip(batch.excluded_edges, whole.excluded_edges, strict=True):
            # Numbered otherwise, the same edges: heads keep theirs.
            assert torch.equal(batch.graph.triples(ours), graph.triples(theirs))
        edges = edges_of(batch.graph)
        assert edges == [e for e in edges_of(graph) if e in set(edges)]
        assert at_heads <= set(edges)
        assert {(t, (r + half) % (2 * half), h) for h, r, t in edges} == set(edges)
        kept.append(len(edges) - len(at_heads))
    assert len(set(kept)) > 10
    assert abs(sum(kept) / len(kept) / away - 0.6) < 0.02


def test_heads_are_drawn_by_the_square_root_of_their_degree():
    dataset = random_dataset(11, num_entities=6, num_train=40)
    sampler = PassSampler(KnowledgeGraph.from_dataset(dataset), 1, 0.5, "edge")
    assert torch.equal(sampler.order(3, 1), sampler.order(3, 1))
    assert not torch.equal(sampler.order(3, 1), sampler.order(3, 2))
    drawn = torch.cat([sampler.order(0, epoch) for epoch in range(4000)])
    share = torch.bincount(drawn, minlength=6).double() / len(drawn)
    degree = torch.bincount(sampler.graph.tail, minlength=6).double().sqrt()
    torch.testing.assert_close(share, degree / degree.sum(), atol=0.01, rtol=0)
    assert share[-1] == 0  # the last entity is bare


@pytest.mark.parametrize("budget", [0, 3])
def test_excluded_edges_that_lead_elsewhere_are_refused(budget):
    dataset = random_dataset(1)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = AllPathsDecoder(dataset.num_relations, 4, 2, 3, node_budget=budget)
    elsewhere = torch.nonzero(graph.tail != 0)[:1].flatten()
    with pytest.raises(ValueError, match="does not lead to its head, 0"):
        decoder.reach(graph, torch.tensor([0]), [elsewhere])
    with pytest.raises(ValueError, match="of 1 heads, not of 2"):
        decoder.reach(graph, torch.tensor([0, 1]), [elsewhere])
