"""The GRU decoder, compared with torch's GRUCell query by query; all scoring routes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.cells import CELLS, GRUCell
from kgtool.models.model import OnePathModel
from kgtool.models.path_gru import OnePathDecoder
from kgtool.models.rgcn import RGCNEncoder
from tests.support.cells import EACH_CELL, similarity_by_hand
from tests.support.graphs import random_dataset

N, R, DIM, MAX_LENGTH = 7, 6, 5, 4
lengths = st.lists(st.integers(1, MAX_LENGTH), max_size=12)


class Case:
    """A decoder, states, and a batch of paths of the given lengths, in double precision."""

    def __init__(self, wanted: list[int], max_length: int = MAX_LENGTH) -> None:
        torch.manual_seed(len(wanted))
        self.decoder = OnePathDecoder(N, DIM).double().eval()
        self.entities = torch.randn(N, DIM, dtype=torch.float64, requires_grad=True)
        self.relations = torch.randn(R, DIM, dtype=torch.float64, requires_grad=True)
        self.head = torch.randint(N, (len(wanted),))
        self.path = torch.randint(R, (len(wanted), max_length))
        self.length = torch.tensor(wanted, dtype=torch.long)

    def fast(self, path: Tensor | None = None) -> Tensor:
        path = self.path if path is None else path
        return self.decoder(self.head, path, self.length, self.entities, self.relations)

    def slow(self) -> Tensor:
        """A slow version: each query alone, with a GRUCell of the same weights."""
        cell = nn.GRUCell(DIM, DIM).double()
        cell.load_state_dict(self.decoder.cell.state_dict())
        self.slow_cell = cell
        states = [self.entities.new_zeros(0, DIM)]
        for head, path, length in zip(
            self.head.tolist(), self.path.tolist(), self.length.tolist(), strict=True
        ):
            state = self.entities[head].unsqueeze(0)
            for relation in path[:length]:
                state = cell(self.relations[relation].unsqueeze(0), state)
            states.append(state)
        return torch.cat(states)


def assert_same_with_gradients(case: Case) -> None:
    fast, slow = case.fast(), case.slow()
    torch.testing.assert_close(fast, slow)
    if not len(fast):
        return
    weight = torch.randn_like(slow)
    states = [case.entities, case.relations]
    fast_grads = torch.autograd.grad(
        (fast * weight).sum(), [*states, *case.decoder.cell.parameters()]
    )
    slow_grads = torch.autograd.grad((slow * weight).sum(), [*states, *case.slow_cell.parameters()])
    for fast_grad, slow_grad in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(fast_grad.to_dense(), slow_grad)  # that of entities is sparse


@given(lengths)
def test_decoder_equals_a_gru_cell_a_query(wanted: list[int]) -> None:
    assert_same_with_gradients(Case(wanted))


@pytest.mark.parametrize("max_length", [1, 2, 6])
def test_paths_of_one_length(max_length: int) -> None:
    assert_same_with_gradients(Case([max_length] * 5, max_length))
    # No path as long as the padding.
    assert_same_with_gradients(Case([1, 1, 1], max_length))


def test_the_cell_is_the_one_of_the_docstring() -> None:
    case = Case([1])
    cell = case.decoder.cell
    assert isinstance(cell, GRUCell)
    w_r, w_z, w_n = cell.weight_ih.chunk(3)
    u_r, u_z, u_n = cell.weight_hh.chunk(3)
    b_r, b_z, b_n = cell.bias_ih.chunk(3)
    c_r, c_z, c_n = cell.bias_hh.chunk(3)
    s, w = case.entities[case.head[0]], case.relations[case.path[0, 0]]
    r = torch.sigmoid(w_r @ w + b_r + u_r @ s + c_r)
    z = torch.sigmoid(w_z @ w + b_z + u_z @ s + c_z)
    n = torch.tanh(w_n @ w + b_n + r * (u_n @ s + c_n))
    torch.testing.assert_close(case.fast()[0], (1 - z) * n + z * s)


@given(lengths)
def test_padding_is_not_read(wanted: list[int]) -> None:
    case = Case(wanted)
    beyond = torch.arange(MAX_LENGTH) >= case.length.unsqueeze(1)
    for padding in (0, R - 1, -1, 10**6):
        padded = torch.where(beyond, padding, case.path)
        before = padded.clone()
        assert torch.equal(case.fast(padded), case.fast())
        assert torch.equal(padded, before)


@given(lengths)
def test_the_order_of_the_batch_is_irrelevant(wanted: list[int]) -> None:
    case = Case(wanted)
    out = case.fast()
    order = torch.randperm(len(wanted))
    case.head, case.path, case.length = (t[order] for t in (case.head, case.path, case.length))
    torch.testing.assert_close(case.fast(), out[order])


def test_dropout_is_for_training_alone() -> None:
    case = Case([1, 2, 3, 4])
    plain = case.fast()
    for name in ("input_dropout", "output_dropout"):
        options: dict[str, Any] = {name: 0.5}
        decoder = OnePathDecoder(N, DIM, **options).double().eval()
        decoder.load_state_dict(case.decoder.state_dict())
        case.decoder = decoder
        assert torch.equal(case.fast(), plain)
        decoder.train()
        assert not torch.allclose(case.fast(), case.fast())


def random_model(
    seed: int, num_layers: int, cell: str = "gru", norm: int = 2, dim: int = 6
) -> OnePathModel:
    dataset = random_dataset(seed)
    torch.manual_seed(seed)
    encoder = RGCNEncoder(
        dataset.num_entities,
        dataset.num_relations,
        dim,
        num_layers,
        decomposition="basis",
        num_parts=2,
        edge_dropout=0.3,
        feature_dropout=0.3,
    )
    decoder = OnePathDecoder(
        dataset.num_entities, dim, input_dropout=0.3, output_dropout=0.3,
        cell=CELLS[cell](dim, norm),
    )  # fmt: skip
    nn.init.normal_(decoder.bias)
    return OnePathModel(encoder, decoder, KnowledgeGraph.from_dataset(dataset)).double()


def test_the_product_is_distmult_and_a_path_its_composition() -> None:
    model = random_model(1, 0, "distmult")
    scorer = model.scorer()
    e, w, b = scorer.entities, scorer.relations, model.decoder.bias.detach()
    head, path, length = torch.tensor([2, 5]), torch.tensor([[1, 0], [4, 3]]), torch.tensor([1, 2])
    scores = scorer.score_paths(head, path, length)
    torch.testing.assert_close(scores[0], (e[2] * w[1] * e).sum(1) + b)
    torch.testing.assert_close(scores[1], (e[5] * w[4] * w[3] * e).sum(1) + b)
    assert not list(model.decoder.cell.parameters())


@pytest.mark.parametrize(("cell", "norm"), EACH_CELL)
@pytest.mark.parametrize("num_layers", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_all_scoring_routes_agree(seed: int, num_layers: int, cell: str, norm: int) -> None:
    model = random_model(seed, num_layers, cell, norm)
    scorer = model.train().scorer()
    num_entities, num_ids = len(scorer.entities), len(scorer.relations)
    everything = torch.cartesian_prod(
        torch.arange(num_entities), torch.arange(num_ids), torch.arange(num_entities)
    )
    hr = torch.cartesian_prod(torch.arange(num_entities), torch.arange(num_ids))
    by_tails = scorer.score_t(hr)
    assert by_tails.shape == (num_entities * num_ids, num_entities)
    torch.testing.assert_close(scorer.score_hrt(everything), by_tails.flatten())
    path = torch.cat([hr[:, 1:], torch.full((len(hr), 2), -1)], dim=1)
    by_paths = scorer.score_paths(hr[:, 0], path, torch.ones(len(hr), dtype=torch.long))
    torch.testing.assert_close(by_paths, by_tails)

    pairs = torch.cartesian_prod(torch.arange(num_entities), torch.arange(num_entities))
    pairs = pairs[torch.randperm(len(pairs))]
    relation = torch.randperm(num_ids)[:3]
    by_relations = by_tails.view(num_entities, num_ids, num_entities)[pairs[:, 0], :, pairs[:, 1]]
    torch.testing.assert_close(scorer.score_r(pairs, relation), by_relations[:, relation])

    # And with sim(s_1, e_t) + b_t by hand, from the states in evaluation mode.
    entities, relations = model.eval().states()
    for head, relation, tail in everything[::41].tolist():
        state = model.decoder.cell(relations[relation : relation + 1], entities[head : head + 1])
        score = similarity_by_hand(cell, norm, state[0], entities[tail]) + model.decoder.bias[tail]
        torch.testing.assert_close(
            score.detach(), by_tails[head * num_ids + relation, tail], rtol=1e-9, atol=1e-9
        )
    assert not by_tails.requires_grad
    assert not scorer.score_hrt(everything).requires_grad


@pytest.mark.parametrize(("cell", "norm"), EACH_CELL)
def test_scores_of_chains(cell: str, norm: int) -> None:
    model = random_model(3, 1, cell, norm)
    scorer = model.scorer()
    head, length = torch.tensor([4, 0, 9]), torch.tensor([3, 1, 2])
    path = torch.tensor([[0, 5, 2], [3, -1, -1], [1, 1, -1]])
    scores = scorer.score_paths(head, path, length)
    assert scores.shape == (3, len(scorer.entities))
    for i in range(3):
        state = scorer.entities[head[i] : head[i] + 1]
        for relation in path[i, : length[i]].tolist():
            state = model.decoder.cell(scorer.relations[relation : relation + 1], state)
        similar = [similarity_by_hand(cell, norm, state[0], tail) for tail in scorer.entities]
        torch.testing.assert_close(scores[i], (torch.stack(similar) + model.decoder.bias).detach())
