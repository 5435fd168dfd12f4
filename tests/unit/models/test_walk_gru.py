"""The GRU over walks, compared with torch's GRUCell walk by walk; its probabilities."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.random_walk import Walks, WalkSampler
from kgtool.models.path_gru import OnePathDecoder, WalkReadout
from kgtool.models.walk_gru import WalkReader
from tests.support.graphs import random_dataset

R, DIM, MAX_LENGTH = 6, 5, 3


def make_reader(
    seed: int = 0, num_entities: int = 12, num_relation_ids: int = R, **dropout: Any
) -> WalkReader:
    """A model with random weights, in double precision and in evaluation mode."""
    torch.manual_seed(seed)
    readout = WalkReadout(num_relation_ids, DIM)
    decoder = OnePathDecoder(num_entities, DIM, **dropout, walks=readout).double().eval()
    nn.init.normal_(decoder.bias)
    for parameter in readout.parameters():
        nn.init.normal_(parameter)
    states = [
        torch.randn(rows, DIM, dtype=torch.double, requires_grad=True)
        for rows in (num_entities, num_relation_ids)
    ]
    return WalkReader(decoder, *states)


def some_walks(count: int = 9) -> Walks:
    graph = KnowledgeGraph.from_dataset(random_dataset(8))
    return WalkSampler(graph, MAX_LENGTH, torch.Generator().manual_seed(3)).walks(count)


class Slow:
    """The formulas of the module, walk by walk and step by step."""

    def __init__(self, reader: WalkReader) -> None:
        self.entities, self.relations = reader.entities, reader.relations
        self.decoder = reader.decoder
        assert reader.decoder.walks is not None
        self.readout = reader.decoder.walks
        self.gru, self.gru_of_entities = (
            nn.GRUCell(DIM, DIM).double(),
            nn.GRUCell(DIM, DIM).double(),
        )
        self.gru.load_state_dict(self.decoder.cell.state_dict())
        self.gru_of_entities.load_state_dict(self.readout.cell.state_dict())

    def take(self, state: Tensor, relation: int) -> Tensor:
        return self.gru(self.relations[relation], state)

    def arrive(self, state: Tensor, entity: int) -> Tensor:
        return self.gru_of_entities(self.entities[entity], state)

    def odds(self, state: Tensor, tail: int | None = None) -> Tensor:
        """`exp` of `⟨v_a, tanh(A s + B e + C (s ∗ e) + b)⟩ + c_a`."""
        hidden = self.readout.state.weight @ state + self.readout.state.bias
        if tail is not None:
            e = self.entities[tail]
            b, c = self.readout.tail.weight.split(DIM, dim=1)
            hidden = hidden + b @ e + c @ (state * e)
        return (self.readout.steps.weight @ torch.tanh(hidden) + self.readout.steps.bias).exp()

    def of_relation(self, state: Tensor) -> Tensor:
        odds = self.odds(state)[:-1]
        return odds / odds.sum()

    def of_entity(self, state: Tensor) -> Tensor:
        odds = (self.entities @ state + self.decoder.bias).exp()
        return odds / odds.sum()

    def of_step(self, state: Tensor, begins: bool, tail: int | None = None) -> Tensor:
        odds = self.odds(state, tail)
        if begins:
            odds = torch.cat([odds[:-1], torch.zeros(1)])
        return odds / odds.sum()

    def path(self, head: int, relations: tuple[int, ...], tail: int | None = None) -> Tensor:
        """The probability of each step, and of the end."""
        state, found = self.entities[head], []
        for i, relation in enumerate((*relations, self.readout.steps.out_features - 1)):
            found.append(self.of_step(state, i == 0, tail)[relation])
            if i < len(relations):
                state = self.take(state, relation)
        return torch.stack(found)

    def walk(self, entities: list[int], relations: list[int]) -> tuple[list[Tensor], list[Tensor]]:
        """The probabilities of each step's relation and entity."""
        state, first, second = self.entities[entities[0]], [], []
        for relation, entity in zip(relations, entities[1:], strict=True):
            first.append(self.of_relation(state)[relation])
            state = self.take(state, relation)
            second.append(self.of_entity(state)[entity])
            state = self.arrive(state, entity)
        return first, second


def of(walks: Walks, i: int) -> tuple[list[int], list[int]]:
    """The entities and relations of a walk."""
    length = int(walks.length[i])
    return walks.entity[i, : length + 1].tolist(), walks.relation[i, :length].tolist()


def test_the_loss_is_that_of_reading_one_walk_at_a_time() -> None:
    reader, walks = make_reader(), some_walks()
    slow = Slow(reader)
    relation: list[Tensor] = []
    entity: list[Tensor] = []
    path: list[Tensor] = []
    bound: list[Tensor] = []
    for i in range(len(walks.length)):
        entities, relations = of(walks, i)
        first, second = slow.walk(entities, relations)
        relation += first
        entity += second
        path += slow.path(entities[0], tuple(relations))
        bound += slow.path(entities[0], tuple(relations), entities[-1])
    expected = torch.stack(
        [-torch.stack(part).log().mean() for part in (relation, entity, path, bound)]
    ).sum()
    loss = reader.loss(walks)
    torch.testing.assert_close(loss, expected)

    shared = [reader.entities, reader.relations, reader.decoder.bias]
    assert reader.decoder.walks is not None
    shared += [p for name, p in reader.decoder.walks.named_parameters() if "cell" not in name]
    ours = [*shared, *reader.decoder.cell.parameters(), *reader.decoder.walks.cell.parameters()]
    theirs = [*shared, *slow.gru.parameters(), *slow.gru_of_entities.parameters()]
    for fast, grad in zip(
        torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs), strict=True
    ):
        torch.testing.assert_close(fast, grad)


def test_what_is_beyond_a_walk_is_not_read() -> None:
    reader, walks = make_reader(), some_walks()
    beyond = ~walks.taken
    relation = torch.where(beyond, R - 1, walks.relation)
    entity = torch.cat([walks.entity[:, :1], torch.where(beyond, 0, walks.entity[:, 1:])], dim=1)
    other = Walks(entity, relation, walks.length, walks.edge)
    assert not torch.equal(other.relation, walks.relation)
    torch.testing.assert_close(reader.loss(other), reader.loss(walks))


def test_states_are_those_of_single_steps() -> None:
    reader, walks = make_reader(), some_walks()
    slow, read = Slow(reader), reader.read(walks)
    for i in range(len(walks.length)):
        entities, relations = of(walks, i)
        known = told = slow.entities[entities[0]]
        for step, relation in enumerate(relations):
            torch.testing.assert_close(read.before[i, step], known)
            torch.testing.assert_close(read.path[i, step], told)
            known, told = slow.take(known, relation), slow.take(told, relation)
            torch.testing.assert_close(read.after[i, step], known)
            known = slow.arrive(known, entities[step + 1])
        torch.testing.assert_close(read.path[i, len(relations)], told)


def test_probabilities_sum_to_one() -> None:
    reader = make_reader()
    state = reader.begin(torch.arange(4))
    tail = torch.tensor([3, 0, 1, 1])
    for begins in (torch.tensor([True, False, True, False]), torch.zeros(4, dtype=torch.bool)):
        for bound in (None, tail):
            logs = reader.next_or_end(state, begins, bound)
            assert logs.shape == (4, R + 1)
            torch.testing.assert_close(logs.exp().sum(1), torch.ones(4, dtype=torch.double))
            assert torch.equal(logs[:, -1] == -torch.inf, begins)
    assert not torch.allclose(logs, reader.next_or_end(state, begins))
    for logs in (reader.next_relation(state), reader.next_entity(state)):
        torch.testing.assert_close(logs.exp().sum(1), torch.ones(4, dtype=torch.double))


@pytest.mark.parametrize("tail", [None, 2])
@torch.no_grad()
def test_all_paths_of_any_length_sum_to_one(tail: int | None) -> None:
    slow = Slow(make_reader(num_relation_ids=3))
    longest = 3
    ended = sum(
        float(slow.path(1, path, tail).prod())
        for length in range(1, longest + 1)
        for path in product(range(3), repeat=length)
    )
    goes_on = sum(
        prod(slow.path(1, (*path, 0), tail)[:longest].tolist())
        * (1 - float(slow.path(1, path, tail)[-1]))
        for path in product(range(3), repeat=longest)
    )
    assert ended + goes_on == pytest.approx(1)
    assert 0.1 < ended < 1


@torch.no_grad()
def test_all_walks_of_a_length_sum_to_one() -> None:
    slow = Slow(make_reader(num_entities=4, num_relation_ids=2))
    total = sum(
        prod(float(p) for part in slow.walk([1, e, f], [r, q]) for p in part)
        for r, e, q, f in product(range(2), range(4), range(2), range(4))
    )
    assert total == pytest.approx(1)


@pytest.mark.parametrize("dropout", ["input_dropout", "output_dropout"])
def test_dropout_is_for_training_alone(dropout: str) -> None:
    options: dict[str, Any] = {dropout: 0.5}
    reader, walks = make_reader(**options), some_walks()
    assert torch.equal(reader.loss(walks), make_reader().loss(walks))
    reader.decoder.train()
    assert not torch.equal(reader.loss(walks), reader.loss(walks))


def test_a_decoder_without_a_readout_reads_no_walks() -> None:
    decoder = OnePathDecoder(12, DIM)
    reader = WalkReader(decoder, torch.zeros(12, DIM), torch.zeros(R, DIM))
    with pytest.raises(ValueError, match="does not read walks"):
        reader.loss(some_walks())
