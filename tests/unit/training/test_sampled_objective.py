"""Training with sampled entities: the samples, their weights, and the rows they change."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kgtool.config import CELLS_OF, parse_config
from kgtool.data.dataset import KGDataset, invert
from kgtool.errors import ConfigError
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.sampling import draw_around
from kgtool.models.factory import build_model
from kgtool.models.model import Model, OnePathModel
from kgtool.models.rgcn import RGCNEncoder
from kgtool.ops import known_among, rows, sample_in_edges
from kgtool.training.batches import link_queries
from kgtool.training.factory import make_objective
from kgtool.training.objectives import OnePathObjective, SampledObjective
from kgtool.training.optimizer import clip_norm
from tests.support.graphs import edges_of, random_dataset
from tests.support.runs import ring, tiny_config

NONE = torch.empty(0, dtype=torch.long)


@pytest.fixture(scope="module")
def graph() -> KnowledgeGraph:
    return KnowledgeGraph.from_dataset(random_dataset(3))


def group_sizes(graph: KnowledgeGraph, hidden: set[int]) -> Counter[tuple[int, int]]:
    """c_{v,r} without excluded edges."""
    edges = edges_of(graph)
    return Counter((v, r) for e, (_, r, v) in enumerate(edges) if e not in hidden)


@pytest.mark.parametrize("hide", [False, True])
def test_all_edges_are_drawn_where_there_are_few(graph, hide):
    hidden = torch.tensor([0, 3, 4, 20]) if hide else NONE
    node = torch.tensor([0, 2, 3, 7, graph.num_entities - 1])
    position, edge, scale = sample_in_edges(graph.csc, node, 1000, hidden, 1)
    sizes, edges, gone = group_sizes(graph, set(hidden.tolist())), edges_of(graph), hidden.tolist()
    expected = [
        (i, e, 1 / sizes[v, r])
        for i, v in enumerate(node.tolist())
        for e, (_, r, tail) in enumerate(edges)
        if tail == v and e not in gone
    ]
    found = list(zip(position.tolist(), edge.tolist(), scale.tolist(), strict=True))
    assert found == [pytest.approx(each) for each in expected]


def test_few_are_drawn_of_many_and_their_mean_is_the_whole(graph):
    node, hidden = torch.arange(graph.num_entities), torch.tensor([1, 5])
    whole = sample_in_edges(graph.csc, node, 1000, hidden, 0)
    total = torch.zeros(graph.num_edges, dtype=torch.double)
    draws = 4000
    for seed in range(draws):
        position, edge, scale = sample_in_edges(graph.csc, node, 3, hidden, seed)
        assert int(torch.bincount(position).max()) <= 3
        assert len(set(edge.tolist())) == len(edge)
        assert torch.equal(graph.tail[edge], node[position])
        assert not set(edge.tolist()) & {1, 5}
        total.index_add_(0, edge, scale.double())
    # An entity whose three edges drawn are all hidden ones receives nothing, which is rare.
    torch.testing.assert_close((total / draws)[whole[1]], whole[2].double(), rtol=0.2, atol=0.01)


def test_draws_are_the_same_for_any_number_of_threads(graph):
    node = torch.arange(graph.num_entities)
    draw = lambda: sample_in_edges(graph.csc, node, 2, NONE, 7)  # noqa: E731
    first, threads = draw(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert all(torch.equal(a, b) for a, b in zip(first, draw(), strict=True))
    finally:
        torch.set_num_threads(threads)
    other = sample_in_edges(graph.csc, node, 2, NONE, 8)
    assert not torch.equal(first[1], other[1])


def test_known_answers_are_found_as_by_a_loop(graph):
    answers = {(h, r, t) for h, r, t in edges_of(graph)}
    num = graph.num_relation_ids
    queries = [(h, r) for h in range(graph.num_entities) for r in range(num)]
    hr = torch.tensor(queries)
    inverse = (hr[:, 1] + num // 2) % num
    for entity in (torch.arange(graph.num_entities), torch.tensor([0, 5, 9]), NONE):
        found = known_among(graph.csc, hr[:, 0], inverse, entity)
        expected = [[(h, r, t) in answers for t in entity.tolist()] for h, r in queries]
        assert found.tolist() == expected


def test_rows_have_a_gradient_of_their_own_size():
    table = torch.randn(50, 3, dtype=torch.double, requires_grad=True)
    ids = torch.tensor([4, 7, 30])
    weight = torch.randn(3, 3, dtype=torch.double)
    (fast,) = torch.autograd.grad((rows(table, ids) * weight).sum(), table)
    (slow,) = torch.autograd.grad((table[ids] * weight).sum(), table)
    assert fast.is_sparse
    assert fast.is_coalesced()
    assert fast._nnz() == 3
    assert torch.equal(fast.to_dense(), slow)


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_states_of_whole_neighbourhoods_are_those_of_the_whole_graph(graph, num_layers):
    torch.manual_seed(1)
    encoder = RGCNEncoder(graph.num_entities, 3, 6, num_layers, num_parts=3).double().eval()
    hidden = torch.tensor([2, 9, 30])
    entity = torch.tensor([0, 1, 5, 11])
    whole, relations = encoder(graph, hidden)
    around = draw_around(graph, entity, num_layers, 1000, hidden)
    some, same_relations = encoder.of_some(rows(encoder.entities, around.entity), around)
    torch.testing.assert_close(some, whole[entity], rtol=1e-6, atol=1e-7)  # scales are float32
    assert torch.equal(relations, same_relations)
    weight = torch.randn_like(some)
    inputs = list(encoder.parameters())
    fast = torch.autograd.grad((some * weight).sum(), inputs, allow_unused=True)
    slow = torch.autograd.grad((whole[entity] * weight).sum(), inputs, allow_unused=True)
    for a, b in zip(fast, slow, strict=True):
        assert (a is None) is (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a.to_dense(), b, rtol=1e-5, atol=1e-6)


def test_states_are_the_same_in_parts(graph, monkeypatch):
    encoder = RGCNEncoder(graph.num_entities, 3, 6, 2).eval()
    with torch.no_grad():
        whole = encoder(graph)[0]
        monkeypatch.setattr("kgtool.models.rgcn.ENTITIES", 5)
        assert torch.equal(encoder(graph)[0], whole)


def sampled_config(num_negatives: int = 4, **settings: Any) -> Any:
    training = {"optimizer": "adagrad", "precision": "float32"} | settings.pop("training", {})
    return tiny_config(num_negatives=num_negatives, **settings, **training)


def sampled(
    dataset: KGDataset | None = None, **settings: Any
) -> tuple[OnePathModel, SampledObjective]:
    dataset, config = dataset or ring(), sampled_config(**settings)
    torch.manual_seed(1)
    model = build_model(config, dataset)
    made = make_objective(config, model, dataset)
    assert isinstance(model, OnePathModel)
    assert isinstance(made, SampledObjective)
    return model, made


def test_the_loss_is_that_of_a_loop():
    model, made = sampled(encoder={"layers": 0})
    graph, decoder = model.graph, model.decoder.eval()
    made._draw = lambda: (entity, log_weight)  # type: ignore[method-assign]
    entity, log_weight = torch.tensor([2, 3, 8, 9, 20]), torch.randn(5)
    part = torch.tensor([3, 9, 70, 71, 100])
    answers, losses = set(edges_of(graph)), []
    entities, relations = (states.detach() for states in model.states())
    for t, inverse, h in [edges_of(graph)[e] for e in part.tolist()]:
        r = (inverse + graph.num_relation_ids // 2) % graph.num_relation_ids
        query = decoder(
            torch.tensor([h]), torch.tensor([[r]]), torch.tensor([1]), entities, relations
        )
        score = ((query @ entities.t())[0] + decoder.bias).detach()
        z = math.exp(score[t]) + sum(
            math.exp(score[v] + weight)
            for v, weight in zip(entity.tolist(), log_weight.tolist(), strict=True)
            if (h, r, v) not in answers
        )
        losses.append(math.log(z) - float(score[t]))
    assert made.loss(part)[0].item() / len(part) == pytest.approx(
        sum(losses) / len(losses), rel=1e-5
    )


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("cell", ["rotate", "complex"])
def test_the_binary_loss_is_that_of_a_loop(cell, temperature):
    margin = 2.0 if cell == "rotate" else 0.0
    model, made = sampled(
        encoder={"layers": 0}, cell=cell, loss="bce", margin=margin,
        adversarial_temperature=temperature,
    )  # fmt: skip
    graph, decoder = model.graph, model.decoder.eval()
    made._draw = lambda: (entity, log_weight)  # type: ignore[method-assign]
    entity, log_weight = torch.tensor([2, 3, 8, 9, 20]), torch.randn(5)
    part = torch.tensor([3, 9, 70, 71, 100])
    answers, losses = set(edges_of(graph)), []
    entities, relations = (states.detach() for states in model.states())
    for t, inverse, h in [edges_of(graph)[e] for e in part.tolist()]:
        r = (inverse + graph.num_relation_ids // 2) % graph.num_relation_ids
        query = decoder(
            torch.tensor([h]), torch.tensor([[r]]), torch.tensor([1]), entities, relations
        )
        score = (decoder.similarity.pairs(query, entities)[0] + decoder.bias).detach()
        shares = {
            v: math.exp(temperature * float(score[v]) + weight)
            for v, weight in zip(entity.tolist(), log_weight.tolist(), strict=True)
            if (h, r, v) not in answers
        }
        negative = sum(
            share / sum(shares.values()) * math.log1p(math.exp(float(score[v]) + margin))
            for v, share in shares.items()
        )
        losses.append(math.log1p(math.exp(-float(score[t]) - margin)) + negative)
    assert made.loss(part)[0].item() == pytest.approx(sum(losses), rel=1e-5)


def relation_loss(model: Model, triples: list[tuple[int, int, int]]) -> float:
    """The mean over triples of -log P(r | h, t), by scores of every relation."""
    scorer = model.scorer()
    hrt = torch.tensor(triples)
    scores = scorer.score_r(hrt[:, ::2], torch.arange(len(scorer.relation_states())))
    return float(torch.nn.functional.cross_entropy(scores, hrt[:, 1]))


@pytest.mark.parametrize("cell", CELLS_OF["relation_prediction"])
@pytest.mark.parametrize("num_negatives", [0, 4])
def test_relation_prediction_is_a_softmax_over_relations(cell, num_negatives):
    plain: dict[str, Any] = {
        "encoder": {"layers": 0}, "cell": cell, "input_dropout": 0.0, "output_dropout": 0.0,
        "precision": "float32",
    }  # fmt: skip
    if num_negatives:
        plain |= {"num_negatives": num_negatives, "optimizer": "adagrad"}
    losses = []
    for weight in (0.0, 0.5):
        config, dataset = tiny_config(**plain, relation_prediction=weight), ring()
        torch.manual_seed(1)
        model = build_model(config, dataset)
        assert isinstance(model, OnePathModel)
        with torch.no_grad():
            for table in (model.encoder.entities, model.encoder.relations):
                torch.nn.init.normal_(table)
        made = make_objective(config, model, dataset)
        part = torch.tensor([3, 9, 70, 71, 100])
        if not num_negatives:
            part = torch.arange(20)
        torch.manual_seed(2)
        loss, count = made.loss(part)
        losses.append(loss.item() / count)
    if num_negatives:
        triples = [(h, r, t) for t, r, h in (edges_of(model.graph)[e] for e in part.tolist())]
        half = model.graph.num_relation_ids // 2
        triples = [(h, (r + half) % (2 * half), t) for h, r, t in triples]
    else:
        assert isinstance(made, OnePathObjective)
        batch, _ = link_queries(made.answers, part)
        head, relation = batch.head[batch.position], batch.path[batch.position, 0]
        triples = list(zip(head.tolist(), relation.tolist(), batch.tail.tolist(), strict=True))
    assert losses[1] - losses[0] == pytest.approx(0.5 * relation_loss(model, triples), rel=1e-4)


def test_the_loss_of_many_draws_is_that_of_all_entities():
    model, made = sampled(num_negatives=60_000, encoder={"layers": 0})
    model.decoder.eval()
    with torch.no_grad():
        model.encoder.entities.mul_(20)  # scores that differ
    answers = set(edges_of(model.graph))
    entities, relations = (states.detach() for states in model.states())
    part = torch.arange(0, model.graph.num_edges, 7)
    losses = []
    for t, inverse, h in [edges_of(model.graph)[e] for e in part.tolist()]:
        r = (inverse + len(relations) // 2) % len(relations)
        query = model.decoder(
            torch.tensor([h]), torch.tensor([[r]]), torch.tensor([1]), entities, relations
        )
        score = ((query @ entities.t())[0] + model.decoder.bias).detach()
        others = [v == t or (h, r, v) not in answers for v in range(len(entities))]
        losses.append(float(score[torch.tensor(others)].logsumexp(0) - score[t]))
    assert made.loss(part)[0].item() / len(part) == pytest.approx(
        sum(losses) / len(losses), rel=0.01
    )


def test_a_step_touches_only_what_it_draws():
    model, made = sampled(num_negatives=2, encoder={"layers": 1, "fanout": 1})
    loss, _ = made.loss(torch.tensor([0]))
    entities, bias = torch.autograd.grad(loss, [model.encoder.entities, model.decoder.bias])
    assert entities.is_sparse
    assert bias.is_sparse
    assert entities._nnz() <= 2 * 4  # head, tail and two drawn, each with one neighbour
    assert bias._nnz() <= 4


def test_a_step_whose_draws_are_all_known_answers_has_gradients():
    model, made = sampled(num_negatives=1, encoder={"layers": 0})
    parameters = list(model.parameters())
    answers, alone = set(edges_of(model.graph)), 0
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = set(made._draw()[0].tolist())
        torch.manual_seed(seed)
        for batch in made.order(1, 0).split(8):
            edges = torch.tensor(edges_of(model.graph))[batch]
            queries = invert(edges, made.model.graph.num_relation_ids // 2).tolist()
            alone += any(all((h, r, v) in answers for v in drawn) for h, r, _ in queries)
            told = torch.autograd.grad(made.loss(batch)[0], parameters, allow_unused=True)
            for gradient in told:
                assert gradient is None or bool(gradient.to_dense().isfinite().all())
            torch.manual_seed(seed)
    assert alone


class Products(TorchDispatchMode):
    """Records the shapes of all matrix products, also in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("mm", "addmm", "mv", "bmm"):
            self.shapes.add((func, *(a.shape for a in args if isinstance(a, torch.Tensor))))
        return func(*args, **(kwargs or {}))


def test_steps_make_products_of_few_shapes():
    """Each new shape is compiled and cached: memory would grow with the number of steps."""
    dataset = random_dataset(1, num_entities=500, num_train=1500)
    model, made = sampled(dataset, num_negatives=300, encoder={"layers": 1, "fanout": 2}, dura=0.1)
    parameters = list(model.parameters())
    seen = []
    for batch in made.order(1, 0)[:2000].split(200):
        with Products() as products:
            torch.autograd.grad(made.loss(batch)[0], parameters, allow_unused=True)
        seen.append(products.shapes)
    assert len(seen) >= 6
    assert seen[0]
    assert len(set.union(*seen)) <= 3.5 * len(seen[0])  # 8 times, where sizes are as drawn


def test_clipping_is_torch_s_own():
    dense = [torch.nn.Parameter(torch.randn(4, 2)) for _ in range(2)]
    for parameter in dense:
        parameter.grad = torch.randn(4, 2)
    sparse = torch.nn.Parameter(torch.zeros(9, 2))
    own = torch.nn.Parameter(torch.zeros(3, 2))
    own.grad = torch.randn(3, 2)
    sparse.grad = torch.sparse_coo_tensor(
        torch.tensor([[1, 4, 5]]), own.grad.clone(), (9, 2),
        check_invariants=False, is_coalesced=True,
    )  # fmt: skip
    clip_norm([dense[0], sparse], 0.5)
    torch.nn.utils.clip_grad_norm_([dense[0], own], 100.0)
    torch.nn.utils.clip_grad_norm_([own], 100.0)
    values = sparse.grad._values()
    assert dense[0].grad is not None
    assert float(torch.cat([dense[0].grad.flatten(), values.flatten()]).norm()) == pytest.approx(
        0.5, rel=1e-4
    )
    torch.testing.assert_close(values / values.norm(), own.grad / own.grad.norm())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("one_path.training", "KvsAll"),
        ("one_path.label_smoothing", 0.1),
        ("one_path.path_query_ratio", 0.5),
        ("one_path.walk_ratio", 0.5),
        ("encoder.entity_init", "relations"),
        ("encoder.edge_dropout", 0.1),
        ("training.optimizer", "adam"),
        ("training.weight_decay", 0.1),
    ],
)
def test_what_would_touch_all_entities_is_refused(key, value):
    section, name = key.split(".")
    settings: dict[str, Any] = {
        "encoder": {},
        "one_path": {"training": "negative_sampling", "num_negatives": 4},
        "training": {"optimizer": "adagrad"},
    }
    assert parse_config(settings).one_path
    settings[section][name] = value
    with pytest.raises(
        ConfigError, match=rf"(negative sampling|one_path.num_negatives) needs {key}"
    ):
        parse_config(settings)
