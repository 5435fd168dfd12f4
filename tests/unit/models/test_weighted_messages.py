"""Weights of triples in messages and losses: each is compared with a loop that follows it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kgtool.config import Config
from kgtool.data.dataset import KGDataset, invert
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.inference.path_search import PathSearch
from kgtool.models.all_paths import AllPathsDecoder
from kgtool.models.factory import build_model
from kgtool.models.rgcn import Decomposition
from kgtool.models.scorers import PassScorer
from kgtool.ops import entity_loss, path_loss, sample_in_edges
from kgtool.ops.all_paths.path_step_torch import torch_path_step
from kgtool.ops.scoring.entity_loss import Loss
from kgtool.ops.scoring.softmax_rows import Training
from kgtool.training.factory import make_objective
from kgtool.training.regularizer import dura, n3
from tests.support.graphs import edges_of, random_dataset
from tests.support.runs import all_paths_config, tiny_config
from tests.unit.inference.test_explain import new_triples, without_biases
from tests.unit.models.test_all_paths import hide, make_decoder, summary, torch_cell
from tests.unit.models.test_rgcn import EACH_DECOMPOSITION, make_layer, matrix
from tests.unit.ops.test_kernels import EACH_LOSS, loss_inputs


def weighted(dataset: KGDataset, seed: int = 0) -> KGDataset:
    """The data set with random weights of train, a third of them 1."""
    generator = torch.Generator().manual_seed(seed)
    weight = 1 - 0.9 * torch.rand(len(dataset.train), generator=generator)
    weight[::3] = 1
    return replace(dataset, weights={"train": weight})


def ones(dataset: KGDataset) -> KGDataset:
    return replace(dataset, weights={"train": torch.ones(len(dataset.train))})


def weight_of_edges(dataset: KGDataset) -> dict[tuple[int, int, int], float]:
    """The weight of each edge and of its inverse."""
    both = torch.cat([dataset.train, invert(dataset.train, dataset.num_relations)])
    weights = dataset.weights["train"].repeat(2)
    return dict(zip(map(tuple, both.tolist()), weights.tolist(), strict=True))


def test_the_graph_has_the_weight_of_each_edge_and_its_inverse() -> None:
    dataset = weighted(random_dataset(4))
    graph, expected = KnowledgeGraph.from_dataset(dataset), weight_of_edges(dataset)
    assert graph.weight is not None
    assert [expected[edge] for edge in edges_of(graph)] == graph.weight.tolist()
    assert torch.equal(graph.weight, graph.weight[graph.inverse.long()])
    kept = torch.rand(graph.num_edges) < 0.5
    part = graph.subgraph(kept)
    assert part.weight is not None
    assert [expected[edge] for edge in edges_of(part)] == part.weight.tolist()
    less = graph.without(torch.tensor([3, 5]))
    assert less.weight is not None
    assert [expected[edge] for edge in edges_of(less)] == less.weight.tolist()
    held = torch.rand(dataset.num_entities) < 0.5
    own = KnowledgeGraph.from_dataset(dataset, held)
    assert own.weight is not None
    assert [expected[edge] for edge in edges_of(own)] == own.weight.tolist()
    assert KnowledgeGraph.from_dataset(ones(dataset)).weight is None


@EACH_DECOMPOSITION
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "thinned"])
def test_an_rgcn_layer_takes_the_weighted_mean_of_each_group(
    decomposition: Decomposition, whole: bool
) -> None:
    torch.manual_seed(1)
    dataset = weighted(random_dataset(2))
    graph, weights = KnowledgeGraph.from_dataset(dataset), weight_of_edges(dataset)
    mask = None if whole else torch.rand(graph.num_edges) < 0.6
    layer = make_layer(graph, decomposition)
    h = torch.randn(graph.num_entities, 6, dtype=torch.float64)
    groups: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    for i, (u, r, v) in enumerate(edges_of(graph)):
        if mask is None or mask[i]:
            groups[v, r].append((u, weights[u, r, v]))
    slow = h @ layer.self_loop
    for (v, r), into in groups.items():
        mean = torch.stack([w * h[u] for u, w in into]).sum(0) / sum(w for _, w in into)
        slow[v] = slow[v] + mean @ matrix(layer, r)
    fast = layer(graph.flat, h, graph.relation, graph.scale(mask, h.dtype))
    torch.testing.assert_close(fast, slow)


def test_weights_of_1_give_the_scale_of_no_weights_to_the_bit() -> None:
    graph = KnowledgeGraph.from_dataset(random_dataset(5))
    csc = replace(graph.csc, weight=torch.ones(graph.num_edges).numpy())
    same = KnowledgeGraph(csc, graph.num_relation_ids)
    kept = torch.rand(graph.num_edges) < 0.5
    for dtype in (torch.float32, torch.float64):
        for mask in (None, kept):
            assert torch.equal(graph.scale(mask, dtype), same.scale(mask, dtype))
    node, hidden = torch.arange(graph.num_entities), torch.tensor([1, 5, 6])
    for fanout in (2, 100):
        found = [sample_in_edges(g.csc, node, fanout, hidden, 3) for g in (graph, same)]
        assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_sampled_edges_have_the_weighted_share_of_their_group() -> None:
    dataset = weighted(random_dataset(3))
    graph, weights = KnowledgeGraph.from_dataset(dataset), weight_of_edges(dataset)
    hidden = [0, 3, 4, 20]
    total: dict[tuple[int, int], float] = defaultdict(float)
    for e, (u, r, v) in enumerate(edges_of(graph)):
        if e not in hidden:
            total[v, r] += weights[u, r, v]
    _, edge, scale = sample_in_edges(
        graph.csc, torch.arange(graph.num_entities), 1000, torch.tensor(hidden), 1
    )
    edges = edges_of(graph)
    for e, share in zip(edge.tolist(), scale.tolist(), strict=True):
        u, r, v = edges[e]
        assert share == pytest.approx(weights[u, r, v] / total[v, r], rel=1e-5)


def passes_by_definition(
    decoder: AllPathsDecoder, edges: dict[tuple[int, int, int], float], head: int
) -> dict[int, Tensor]:
    """The last state of every reached entity, edge by edge, each with its weight."""
    cell = torch_cell(decoder)
    incoming = defaultdict(list)
    for (source, relation, tail), weight in edges.items():
        incoming[tail].append((source, relation, weight))
    zero = torch.zeros(decoder.dim).double()
    states: dict[int, Tensor] = {head: decoder.init}
    for weights, scaler in zip(decoder.weights, decoder.scalers, strict=True):
        near = {v for v, into in incoming.items() if any(u in states for u, _, _ in into)}
        states = {
            v: cell(
                summary([w * states.get(u, zero) * weights[r] for u, r, w in incoming[v]], scaler)[
                    None
                ],
                states.get(v, zero)[None],
            )[0]
            for v in states.keys() | near
        }
    return states


@pytest.mark.parametrize("budget", [0, 1000], ids=["all", "budget"])
@pytest.mark.parametrize("seed", range(2))
def test_passes_multiply_each_message_by_its_weight(seed: int, budget: int) -> None:
    torch.manual_seed(seed)
    dataset = weighted(random_dataset(seed), seed)
    graph, weights = KnowledgeGraph.from_dataset(dataset), weight_of_edges(dataset)
    decoder = make_decoder(dataset)
    if budget:
        small = AllPathsDecoder(dataset.num_relations, decoder.dim, 3, 5, budget).double()
        small.load_state_dict(decoder.state_dict(), strict=False)
        decoder = small
    heads = torch.tensor([0, 5, dataset.num_entities - 1])
    excluded, gone = hide(graph, heads)
    reached = decoder.reach(graph, heads, excluded)
    last = decoder(reached)  # with a budget, it finds the entities
    rows = reached.rows_of_heads()
    last = last[: sum(rows)]
    grad = torch.randn_like(last)
    every, slow_loss = edges_of(graph), torch.zeros(()).double()
    for b, (states, entities, by) in enumerate(
        zip(last.split(rows), reached.entities().split(rows), grad.split(rows), strict=True)
    ):
        edges = {edge: weights[edge] for e, edge in enumerate(every) if e not in gone[b]}
        expected = passes_by_definition(decoder, edges, int(heads[b]))
        assert sorted(expected) == sorted(entities.tolist())
        slow = torch.stack([expected[entity] for entity in entities.tolist()])
        torch.testing.assert_close(states, slow)
        slow_loss = slow_loss + (slow * by).sum()
    parameters = [decoder.weights, decoder.scalers, decoder.init]
    fast = torch.autograd.grad((last * grad).sum(), parameters)
    for mine, theirs in zip(fast, torch.autograd.grad(slow_loss, parameters), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_torchs_passes_are_those_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    dataset = weighted(random_dataset(3))
    graph, decoder = KnowledgeGraph.from_dataset(dataset), make_decoder(dataset)
    heads = torch.tensor([0, 4])
    reached = decoder.reach(graph, heads, hide(graph, heads)[0])

    def run() -> list[Tensor]:
        last = decoder(reached)
        return [last, *torch.autograd.grad(last.square().sum(), [decoder.weights, decoder.init])]

    found = run()
    monkeypatch.setattr("kgtool.models.all_paths.path_step", torch_path_step)
    for one, other in zip(found, run(), strict=True):
        torch.testing.assert_close(one[: reached.rows(3)], other[: reached.rows(3)])


@pytest.mark.parametrize("budget", [0, 1000], ids=["all", "budget"])
def test_the_paths_of_an_explanation_add_up_to_the_score(budget: int) -> None:
    torch.manual_seed(0)
    dataset = weighted(random_dataset(0, num_entities=6, num_train=12))
    decoder = make_decoder(dataset)
    if budget:
        decoder = AllPathsDecoder(dataset.num_relations, 6, 3, 5, budget).double()
    passes = PassScorer(without_biases(decoder), KnowledgeGraph.from_dataset(dataset))
    triple = new_triples(dataset)[0]
    search = PathSearch.of(passes, triple)
    assert search is not None
    paths, whole = search.paths(1_000_000)
    score = float(passes.score_hrt(torch.tensor([triple])))
    assert whole
    assert sum(paths.values()) == pytest.approx(score, rel=1e-3)
    for path, steps in zip(paths, search.parts([*paths]), strict=True):
        for step in steps:
            assert sum(step.values()) == pytest.approx(paths[path], rel=1e-4, abs=1e-9)


def dense_weighted_loss(
    floats: tuple[Tensor, Tensor, Tensor],
    answers: tuple[Tensor, Tensor, Tensor],
    loss: Loss,
    training: Training,
    smoothing: float,
) -> Tensor:
    """`Σ ω · term / Σ ω` over answers; with KvsAll a term is a K-th of the loss of its query."""
    queries, entities, bias = floats
    position, tail, weight = answers
    n, total, count = len(entities), torch.zeros(()).double(), 0.0
    for i, t, w in zip(position.tolist(), tail.tolist(), weight.tolist(), strict=True):
        s = entities @ queries[i] + bias
        mine = tail[position == i].tolist()
        k = len(mine)
        if training == "1vsAll":
            s = s[[j for j in range(n) if j == t or j not in mine]]
            right = sum(j not in mine for j in range(t))
            share = 1.0
        else:
            right, share = t, 1 / k if training == "KvsAll" else 1.0
        label = F.one_hot(torch.tensor(right), len(s)).double()
        if loss == "softmax":
            y = (1 - smoothing) * label + smoothing / len(s)
            term = -(y * F.log_softmax(s, 0)).sum()
        else:
            uniform = smoothing / n
            y = (1 - smoothing) * label + uniform
            each = -(y * F.logsigmoid(s) + (1 - y) * F.logsigmoid(-s))
            if training == "1vsAll":
                term = each.sum()
            else:  # its own term counts once, a K-th of those of entities that are not answers
                others = [j for j in range(n) if j not in mine]
                term = k * each[right] + each[others].sum()
        total, count = total + w * share * term, count + w * share
    return total / count


@EACH_LOSS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("num_queries", [1, 9])
def test_the_loss_of_an_answer_is_multiplied_by_its_weight(
    loss: Loss, training: Training, smoothing: float, num_queries: int
) -> None:
    floats, position, tail = loss_inputs(num_queries)
    weight = 1 - 0.9 * torch.rand(len(tail)).double()
    fast = entity_loss(*floats, position, tail, loss, training, smoothing, weight=weight)
    slow = dense_weighted_loss(floats, (position, tail, weight), loss, training, smoothing)
    torch.testing.assert_close(fast, slow)
    grads = [torch.autograd.grad(3 * value, floats) for value in (fast, slow)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)
    same = entity_loss(*floats, position, tail, loss, training, smoothing, weight=weight * 0 + 1)
    plain = entity_loss(*floats, position, tail, loss, training, smoothing)
    torch.testing.assert_close(same, plain, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("others", [3, 20])
def test_the_loss_of_a_pass_is_multiplied_by_its_weight(others: int) -> None:
    torch.manual_seed(0)
    state = torch.randn(8, 4).double()
    state[7:] = 0
    floats = [state, *(torch.randn(*shape).double() for shape in ((3, 4), (3,), (4, 7)))]
    floats = [t.requires_grad_() for t in floats]
    where = (
        torch.tensor([3, 4]), torch.tensor([2, 2]), torch.tensor([1, 9, 0, 3]),
        torch.tensor([0, 1, 1, 1, 2]), torch.tensor([2, 0]), torch.full((4,), others),
    )  # fmt: skip
    weight = torch.tensor([0.5, 1, 0.125, 0.25]).double()

    def loss(weights: Tensor | None) -> Tensor:
        inputs = (*floats, *where)
        return path_loss(*inputs, weights)  # type: ignore[call-arg]

    together = loss(weight)
    alone = [loss(F.one_hot(torch.tensor(i), 4).double()) for i in range(4)]
    torch.testing.assert_close(loss(None), sum(alone[1:], alone[0]))
    slow = sum((w * each for w, each in zip(weight[1:], alone[1:], strict=True)), alone[0] / 2)
    torch.testing.assert_close(together, slow)
    grads = [torch.autograd.grad(3 * value, floats) for value in (together, slow)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine[:7], theirs[:7])


def test_regularizers_are_weighted_means() -> None:
    torch.manual_seed(0)
    factors = tuple(torch.randn(5, 4).double() for _ in range(3))
    weight = torch.rand(5).double()
    each = torch.stack([n3(tuple(f[i : i + 1] for f in factors), False) for i in range(5)])
    torch.testing.assert_close(n3(factors, False, weight), (each * weight).sum() / weight.sum())
    queries, entities = torch.randn(3, 4).double(), torch.randn(6, 4).double()
    position, tail = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([1, 5, 5, 0, 1])
    each = torch.stack(
        [dura(queries, entities, position[i : i + 1], tail[i : i + 1]) for i in range(5)]
    )
    found = dura(queries, entities, position, tail, weight=weight)
    torch.testing.assert_close(found, (each * weight).sum() / weight.sum())


CONFIGS: dict[str, Config] = {
    "all paths": all_paths_config(),
    "one path": tiny_config(cell="distmult", n3=0.1, relation_prediction=0.5, dura=0.1),
    "sampled": tiny_config(encoder={"fanout": 3}, num_negatives=8, optimizer="adagrad"),
}


def losses(dataset: KGDataset, name: str) -> list[Tensor]:
    """The loss of the first batch, and the gradients, with the same draws each time."""
    config = CONFIGS[name]
    torch.manual_seed(1)
    model = build_model(config, dataset)
    objective = make_objective(config, model, dataset)
    model.eval()  # without dropout
    torch.manual_seed(2)
    rows = objective.order(0, 0)[:6]
    (part, *_) = objective.parts(rows)
    shared = objective.shared([part])
    loss, count = objective.loss(part, *shared)
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [loss.detach() / count, *(g.to_dense() / count for g in grads if g is not None)]


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_of_1_train_as_no_weights_to_the_bit(name: str) -> None:
    dataset = random_dataset(1, num_entities=40, num_train=200)
    for one, other in zip(losses(dataset, name), losses(ones(dataset), name), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_is_the_weighted_mean_of_targets(name: str) -> None:
    """Half the weight everywhere changes no mean; other weights do."""
    dataset = random_dataset(1, num_entities=40, num_train=200)
    plain = losses(dataset, name)
    if name != "all paths":  # whose messages would shrink
        half = replace(dataset, weights={"train": torch.full((len(dataset.train),), 0.5)})
        for one, other in zip(plain, losses(half, name), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(plain[0], losses(weighted(dataset), name)[0])
