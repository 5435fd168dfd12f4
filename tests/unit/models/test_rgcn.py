"""The R-GCN encoder, compared with a loop over edges and with DGL's RelGraphConv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dgl
import pytest
import torch
from dgl.nn.pytorch import RelGraphConv
from torch import Tensor, nn

from kgtool.data.dataset import KGDataset, invert
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.rgcn import Decomposition, EntityInit, RGCNEncoder, RGCNLayer
from tests.support.graphs import edges_of, random_dataset, tensor_of
from tests.support.runs import in_memory

DECOMPOSITIONS: list[Decomposition] = ["basis", "block"]
STARTS: list[EntityInit] = ["embedding", "relations"]
EACH_DECOMPOSITION = pytest.mark.parametrize("decomposition", DECOMPOSITIONS)


@pytest.fixture(scope="module")
def dataset() -> KGDataset:
    return random_dataset(3)


@pytest.fixture(scope="module")
def graph(dataset: KGDataset) -> KnowledgeGraph:
    return KnowledgeGraph.from_dataset(dataset)


@pytest.fixture
def kept(graph: KnowledgeGraph) -> Tensor:
    """A mask with about two thirds of the edges, and without the first group."""
    mask = torch.rand(graph.num_edges, generator=torch.Generator().manual_seed(4)) < 0.7
    mask[graph.group == 0] = False
    return mask


def make_layer(
    graph: KnowledgeGraph, decomposition: Decomposition, dim_in: int = 6, dim_out: int = 6
) -> RGCNLayer:
    torch.manual_seed(5)
    return RGCNLayer(dim_in, dim_out, graph.num_relation_ids, decomposition, 3).double()


def make_encoder(dataset: KGDataset, **options: Any) -> RGCNEncoder:
    """Two layers in double precision, with changed initial values of norms and maps."""
    torch.manual_seed(6)
    settings = {"num_layers": 2, "num_parts": 3} | options
    encoder = RGCNEncoder(dataset.num_entities, dataset.num_relations, 6, **settings)
    encoder = encoder.double().eval()
    with torch.no_grad():
        for parameter in (*encoder.norms.parameters(), *encoder.relation_maps.parameters()):
            parameter.add_(torch.randn_like(parameter))
    return encoder


def matrix(layer: RGCNLayer, relation: int) -> Tensor:
    """`W_r`, `(dim_in, dim_out)`, of equation 3 or 4."""
    if layer.decomposition == "basis":
        parts = zip(layer.coefficients[relation], layer.bases, strict=True)
        return torch.stack([coefficient * basis for coefficient, basis in parts]).sum(0)
    return torch.block_diag(*layer.blocks[relation])


def slow_layer(layer: RGCNLayer, h: Tensor, graph: KnowledgeGraph, kept: Tensor | None) -> Tensor:
    """`h_v' = Σ_r Σ_{u ∈ N_r(v)} 1/c_{v,r} · h_u W_r + h_v W_0`, neighbour by neighbour."""
    edges = [edge for i, edge in enumerate(edges_of(graph)) if kept is None or kept[i]]
    out = []
    for v in range(graph.num_entities):
        state = h[v] @ layer.self_loop
        for r in range(graph.num_relation_ids):
            neighbours = [u for u, relation, tail in edges if (relation, tail) == (r, v)]
            for u in neighbours:
                state = state + h[u] @ matrix(layer, r) / len(neighbours)
        out.append(state)
    return torch.stack(out)


def assert_same_with_gradients(
    fast: Tensor, slow: Tensor, fast_inputs: Sequence[Tensor], slow_inputs: Sequence[Tensor]
) -> None:
    torch.testing.assert_close(fast, slow)
    weight = torch.randn_like(slow)
    fast_grads = torch.autograd.grad((fast * weight).sum(), fast_inputs)
    slow_grads = torch.autograd.grad((slow * weight).sum(), slow_inputs)
    for fast_grad, slow_grad in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(fast_grad, slow_grad)


@EACH_DECOMPOSITION
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "thinned"])
def test_layer_equals_a_loop_over_edges(
    decomposition: Decomposition, graph: KnowledgeGraph, kept: Tensor, whole: bool
) -> None:
    layer = make_layer(graph, decomposition)
    mask = None if whole else kept
    h = torch.randn(graph.num_entities, 6, dtype=torch.float64, requires_grad=True)
    inputs = [h, *layer.parameters()]
    assert_same_with_gradients(
        layer(graph.flat, h, graph.relation, graph.scale(mask, h.dtype)),
        slow_layer(layer, h, graph, mask),
        inputs,
        inputs,
    )


def test_basis_layer_changes_the_number_of_dims(graph: KnowledgeGraph) -> None:
    layer = make_layer(graph, "basis", dim_in=6, dim_out=4)
    h = torch.randn(graph.num_entities, 6, dtype=torch.float64)
    out = layer(graph.flat, h, graph.relation, graph.scale(None, h.dtype))
    assert out.shape == (graph.num_entities, 4)
    torch.testing.assert_close(out, slow_layer(layer, h, graph, None))


@EACH_DECOMPOSITION
def test_layer_equals_rel_graph_conv(
    decomposition: Decomposition, graph: KnowledgeGraph, kept: Tensor
) -> None:
    layer = make_layer(graph, decomposition)
    theirs: Any = layer.to_dgl()
    assert isinstance(theirs, RelGraphConv)
    assert theirs.linear_r.regularizer == {"basis": "basis", "block": "bdd"}[decomposition]
    back = RGCNLayer.from_dgl(theirs).state_dict()
    assert back.keys() == layer.state_dict().keys()
    for name, parameter in layer.state_dict().items():
        assert torch.equal(back[name], parameter)
    h = torch.randn(graph.num_entities, 6, dtype=torch.float64, requires_grad=True)
    order = torch.randperm(graph.num_edges)  # the ids of edges are then not their places in CSC
    shuffled = dgl.graph((graph.head[order], graph.tail[order]), num_nodes=graph.num_entities)
    for mask in (None, kept):
        scale = graph.scale(mask, h.dtype)
        slow = theirs(graph.flat, h, graph.relation, norm=scale.unsqueeze(1))
        assert_same_with_gradients(layer.propagate(h, graph.csc, scale), slow, [h], [h])
        fast = layer(shuffled, h, graph.relation[order], scale[order].unsqueeze(1))
        inputs = [h, *layer.parameters()]
        ours = layer.propagate(h, graph.csc, scale)
        assert_same_with_gradients(fast, ours, inputs, inputs)
    plain = theirs(graph.flat, h, graph.relation)
    torch.testing.assert_close(layer(graph.flat, h, graph.relation), plain)


@EACH_DECOMPOSITION
def test_layer_reads_blocks(decomposition: Decomposition, graph: KnowledgeGraph) -> None:
    layer = make_layer(graph, decomposition)
    wanted = torch.tensor([3, 0, 5], dtype=torch.int32)
    block = dgl.to_block(dgl.in_subgraph(graph.flat, wanted), wanted)
    h = torch.randn(graph.num_entities, 6, dtype=torch.float64)
    out = layer(block, h[block.srcdata[dgl.NID].long()], block.edata[dgl.ETYPE])
    assert out.shape == (3, 6)
    torch.testing.assert_close(out, layer(graph.flat, h, graph.relation)[wanted.long()])


@pytest.mark.parametrize(
    "options",
    [
        {"regularizer": None}, {"self_loop": False}, {"bias": True}, {"dropout": 0.1},
        {"layer_norm": True}, {"activation": torch.relu},
    ],
)  # fmt: skip
def test_other_layers_of_dgl_are_refused(options: dict[str, Any]) -> None:
    given = {"regularizer": "basis", "num_bases": 2, "bias": False, **options}
    with pytest.raises(ValueError, match="expected a RelGraphConv"):
        RGCNLayer.from_dgl(RelGraphConv(4, 4, 6, **given))


@pytest.mark.parametrize(("dim_in", "dim_out", "parts"), [(6, 6, 4), (6, 9, 3), (6, 3, 3)])
def test_blocks_that_do_not_divide_are_refused(dim_in: int, dim_out: int, parts: int) -> None:
    with pytest.raises(ValueError, match="do not divide"):
        RGCNLayer(dim_in, dim_out, 4, "block", parts)


def test_without_layers_the_states_are_the_embeddings(
    dataset: KGDataset, graph: KnowledgeGraph
) -> None:
    encoder = make_encoder(dataset, num_layers=0, feature_dropout=0.5, edge_dropout=0.5).train()
    for hidden in (None, torch.arange(4)):
        entities, relations = encoder(graph, hidden)
        assert entities is encoder.entities
        assert relations is encoder.relations
    assert entities.shape == (dataset.num_entities, 6)
    assert relations.shape == (2 * dataset.num_relations, 6)


@EACH_DECOMPOSITION
def test_encoder_stacks_layers_with_residuals(
    decomposition: Decomposition, dataset: KGDataset, graph: KnowledgeGraph
) -> None:
    encoder = make_encoder(dataset, decomposition=decomposition)
    h: Tensor = encoder.entities
    relations: Tensor = encoder.relations
    for layer, norm, relation_map in zip(
        encoder.layers, encoder.norms, encoder.relation_maps, strict=True
    ):
        assert isinstance(layer, RGCNLayer)
        assert isinstance(relation_map, nn.Linear)
        h = h + torch.tanh(norm(slow_layer(layer, h, graph, None)))
        relations = relations @ relation_map.weight.t()
    entities, fast_relations = encoder(graph)
    parameters = list(encoder.parameters())
    assert_same_with_gradients(
        torch.cat([entities, fast_relations]), torch.cat([h, relations]), parameters, parameters
    )


@pytest.mark.parametrize("start", STARTS)
@EACH_DECOMPOSITION
def test_hidden_edges_and_their_inverses_carry_no_message(
    decomposition: Decomposition, start: EntityInit, dataset: KGDataset, graph: KnowledgeGraph
) -> None:
    encoder = make_encoder(dataset, decomposition=decomposition, entity_init=start)
    part, rest = dataset.train[:15], dataset.train[15:]
    smaller = KnowledgeGraph.from_dataset(
        in_memory(rest.tolist(), [], [], dataset.num_entities, dataset.num_relations)
    )
    expected, _ = encoder(smaller)
    whole, _ = encoder(graph)
    assert not torch.allclose(whole, expected)

    # By the edges, by their inverses, by some of each, and by both.
    edges = graph.find(part)
    inverses = graph.find(invert(part, dataset.num_relations))
    mixed = torch.cat([edges[:7], inverses[7:]])
    for hidden in (edges, inverses, mixed, torch.cat([edges, inverses, edges])):
        entities, _ = encoder(graph, hidden)
        torch.testing.assert_close(entities, expected)
    nothing, _ = encoder(graph, edges[:0])
    assert torch.equal(nothing, whole)
    bare, _ = encoder(graph, torch.arange(graph.num_edges))
    empty, _ = encoder(graph.subgraph(torch.zeros(graph.num_edges, dtype=torch.bool)))
    torch.testing.assert_close(bare, empty)


def test_edge_dropout_drops_edges_with_their_inverses(
    dataset: KGDataset, graph: KnowledgeGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Tensor] = []
    plain_scale = KnowledgeGraph.scale

    def scale(self: KnowledgeGraph, kept: Tensor | None, dtype: torch.dtype) -> Tensor:
        assert kept is not None
        masks.append(kept)
        return plain_scale(self, kept, dtype)

    encoder = make_encoder(dataset, edge_dropout=0.3).train()
    hidden = graph.find(dataset.train[:5])
    with monkeypatch.context() as patch:
        patch.setattr(KnowledgeGraph, "scale", scale)
        outputs = [encoder(graph, hidden)[0] for _ in range(200)]
    masks_together = torch.stack(masks)  # (200, E): one mask a pass, for all layers
    assert masks_together.shape == (200, graph.num_edges)
    assert torch.equal(masks_together, masks_together[:, graph.inverse])
    assert not masks_together[:, hidden].any()
    visible = torch.ones(graph.num_edges, dtype=torch.bool)
    visible[torch.cat([hidden, graph.inverse[hidden]])] = False
    # 9,000 draws (45 pairs of edges in 200 passes): a standard deviation of 0.5 points.
    assert abs(float(masks_together[:, visible].double().mean()) - 0.7) < 0.03
    assert len({tuple(mask.tolist()) for mask in masks}) == 200

    # What is dropped is not there, and the groups that lose edges are divided by what is left.
    triples = tensor_of(
        triple
        for triple, present in zip(edges_of(graph), masks[0].tolist(), strict=True)
        if present and triple[1] < dataset.num_relations
    )
    smaller = KnowledgeGraph.from_dataset(
        in_memory(triples.tolist(), [], [], dataset.num_entities, dataset.num_relations)
    )
    torch.testing.assert_close(outputs[0], encoder.eval()(smaller)[0])


def test_entities_start_from_the_relations_around_them(
    dataset: KGDataset, graph: KnowledgeGraph
) -> None:
    encoder = make_encoder(dataset, num_layers=0, entity_init="relations")
    assert len(encoder.entities) == 2 * dataset.num_relations
    around: list[set[int]] = [set() for _ in range(graph.num_entities)]
    hidden = {5, int(graph.inverse[5])}
    for e, (relation, tail) in enumerate(zip(graph.relation.tolist(), graph.tail, strict=True)):
        if e not in hidden:
            around[tail].add(relation)
    states, _ = encoder(graph, torch.tensor([5]))
    for state, relations in zip(states, around, strict=True):
        expected = encoder.entities[sorted(relations)].mean(0) if relations else torch.zeros(6)
        torch.testing.assert_close(state, expected.to(state.dtype))
    states.square().sum().backward()
    assert encoder.entities.grad is not None
    assert encoder.entities.grad.any()


def test_dropout_is_for_training_alone(dataset: KGDataset, graph: KnowledgeGraph) -> None:
    plain, _ = make_encoder(dataset)(graph)
    for option in ("edge_dropout", "feature_dropout"):
        encoder = make_encoder(dataset, **{option: 0.4})
        assert torch.equal(encoder(graph)[0], plain)
        encoder.train()
        first, second = encoder(graph)[0], encoder(graph)[0]
        assert not torch.allclose(first, second)
        assert torch.equal(encoder.eval()(graph)[0], plain)


@EACH_DECOMPOSITION
def test_layers_start_at_a_scale_that_training_can_use(
    decomposition: Decomposition, dataset: KGDataset, graph: KnowledgeGraph
) -> None:
    torch.manual_seed(7)
    encoder = RGCNEncoder(
        dataset.num_entities, dataset.num_relations, 6, 2, decomposition=decomposition, num_parts=3
    )
    entities, relations = encoder(graph)
    assert torch.equal(relations, encoder.relations)  # the maps start as the identity
    for parameter in encoder.parameters():
        assert parameter.isfinite().all()
    assert 0.03 < float(entities.detach().std()) < 0.5
    assert entities.dtype == torch.float32
