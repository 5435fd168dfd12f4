"""Cells, compared with the definitions of their papers, a number at a time."""

from __future__ import annotations

import importlib
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from kgtool.config import CELLS_OF, OnePathConfig, parse_config
from kgtool.errors import ConfigError
from kgtool.models.cells import CELLS, Cell
from kgtool.report.words import READERS
from tests.support.cells import COMPLEX, EACH_CELL, compare_by_hand, compose_by_hand

DIM = 4
each_cell = pytest.mark.parametrize(("name", "norm"), EACH_CELL)
LINEAR = CELLS_OF["relation_prediction"]


def case(name: str, norm: int) -> tuple[Cell, Tensor, Tensor, Tensor]:
    """A cell, and states of three relations, heads and tails."""
    torch.manual_seed(1)
    states = torch.randn(3, 3, DIM, dtype=torch.double, requires_grad=True)
    relation, head, tail = states.unbind(0)
    return CELLS[name](DIM, norm).double(), relation, head, tail


@each_cell
def test_a_cell_is_its_definition(name, norm):
    cell, relation, head, tail = case(name, norm)
    state = cell(relation, head)
    scores = cell.similarity.of_rows(state, tail)
    for i in range(3):
        by_hand = compose_by_hand(name, cell, relation[i], head[i])
        parts = torch.view_as_real(torch.stack(by_hand)).t() if name in COMPLEX else by_hand
        expected = parts.flatten() if isinstance(parts, Tensor) else torch.stack(parts)
        torch.testing.assert_close(state[i], expected)
        torch.testing.assert_close(scores[i], compare_by_hand(name, norm, by_hand, tail[i]))


@each_cell
def test_every_pair_of_states_and_relations(name, norm):
    cell, relation, head, _ = case(name, norm)
    pairs = cell.of_pairs(relation[:2], head)
    assert pairs.shape == (3, 2, DIM)
    for b in range(3):
        for k in range(2):
            torch.testing.assert_close(pairs[b, k], cell(relation[k : k + 1], head[b : b + 1])[0])


@each_cell
def test_gradients_of_cells(name, norm):
    cell, *_ = case(name, norm)
    states = torch.randn(2, 3, DIM, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cell(x[0], x[1]), states)


@each_cell
def test_the_state_between_two_entities_scores_every_relation(name, norm):
    cell, relation, head, tail = case(name, norm)
    if name not in LINEAR:
        with pytest.raises(NotImplementedError):
            cell.between(head, tail)
        return
    scores = cell.similarity.pairs(cell.between(head, tail), relation)
    for i in range(3):
        for k in range(3):
            triple = cell.similarity.of_rows(
                cell(relation[k : k + 1], head[i : i + 1]), tail[i : i + 1]
            )
            torch.testing.assert_close(scores[i, k], triple[0])


def test_every_cell_of_the_configuration_is_there():
    names = get_args(OnePathConfig.model_fields["cell"].annotation)
    assert set(names) == set(CELLS) == {name for name, _ in EACH_CELL}
    assert set(names) == set(READERS)
    for cells in CELLS_OF.values():
        assert set(cells) < set(names)


@pytest.mark.parametrize("key", CELLS_OF)
@pytest.mark.parametrize("name", CELLS)
def test_settings_that_do_not_fit_a_cell_are_refused(key, name):
    value = {"norm": 1, "margin": 6.0}.get(key, 0.1)
    settings = {"one_path": {"cell": name, key: value, "loss": "bce"}}
    if name in CELLS_OF[key]:
        assert parse_config(settings).one_path
    else:
        with pytest.raises(ConfigError, match=f"one_path.{key} does not fit one_path.cell"):
            parse_config(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "complex"}, "needs an even dim, not 33"),
        ({"cell": "rotate"}, "needs an even dim, not 33"),
        ({"cell": "transe", "margin": 6.0}, "one_path.margin needs one_path.loss = 'bce'"),
        ({"training": "1vsAll_unmasked", "loss": "bce"}, "needs one_path.loss = 'softmax'"),
        (
            {"loss": "bce", "adversarial_temperature": 1.0},
            "one_path.adversarial_temperature needs one_path.training",
        ),
        (
            {
                "training": "negative_sampling", "num_negatives": 5,
                "adversarial_temperature": 1.0,
            },
            "one_path.adversarial_temperature needs one_path.training",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_each_other_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"dim": 33, "one_path": settings, "training": {"optimizer": "adagrad"}})


def pykeen_scores(name: str, norm: int, cell: Cell, hrt: tuple[Tensor, ...]) -> Tensor:
    """PyKEEN's scores `(n,)` of heads, relations and tails `(n, d)`, under the cell's weights."""
    modules: Any = importlib.import_module("pykeen.nn.modules")
    if name in COMPLEX:
        hrt = tuple(torch.complex(*x.chunk(2, dim=1)) for x in hrt)
    if name == "tucker":
        theirs = modules.TuckERInteraction(DIM, DIM, 0, 0, 0, apply_batch_normalization=False)
        core = cell.get_parameter("core")
        theirs.load_state_dict({"core_tensor": core.detach().transpose(0, 1)})
        return theirs.double()(*hrt)
    if name == "rotate":
        h, r, t = hrt
        return modules.RotatEInteraction(p=norm)(h, r / r.abs(), t)
    if name == "transe":
        return modules.TransEInteraction(p=norm)(*hrt)
    kind = {"distmult": modules.DistMultInteraction, "complex": modules.ComplExInteraction}[name]
    return kind()(*hrt)


# PyKEEN's norm 1 of complex numbers adds up real and imaginary parts, not moduli.
OF_PYKEEN = [each for each in EACH_CELL if each not in (("gru", 2), ("rotate", 1))]


@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize(("name", "norm"), OF_PYKEEN)
def test_scores_are_those_of_pykeen(name, norm):
    pytest.importorskip("pykeen")
    cell, relation, head, tail = case(name, norm)
    ours = cell.similarity.of_rows(cell(relation, head), tail)
    torch.testing.assert_close(pykeen_scores(name, norm, cell, (head, relation, tail)), ours)
