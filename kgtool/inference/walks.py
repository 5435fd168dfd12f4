"""The likeliest next steps of a walk, and the likeliest relation paths from a head to a tail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.walk_gru import WalkReader

# Path prefixes that each step of the search keeps.
BEAM = 256
# Relations per batch of scored entities.
RELATIONS = 16


@dataclass(frozen=True)
class NextStep:
    """A possible next step of a walk.

    Attributes:
        relation, entity: ids; the relation is an inverse if an edge is walked backwards.
        probability: P(r, e | walk).
        of_relation: P(r | walk).
        is_known: whether the step is an edge of the graph.
    """

    relation: int
    entity: int
    probability: float
    of_relation: float
    is_known: bool


@torch.no_grad()
def next_steps(
    reader: WalkReader, graph: KnowledgeGraph, entities: Sequence[int], relations: Sequence[int],
    top: int,
) -> list[NextStep]:  # fmt: skip
    """The likeliest next steps of a walk `e_0 r_1 e_1 … r_k e_k`, likeliest first.

    Args:
        reader: of a decoder in evaluation mode.
        graph: the known edges.
        entities: `e_0` to `e_k`.
        relations: `r_1` to `r_k`.
        top: the most steps.
    """
    state = reader.begin(torch.tensor(entities[:1]))
    for relation, entity in zip(relations, entities[1:], strict=True):
        state = reader.take(state, torch.tensor([relation]))
        state = reader.arrive(state, torch.tensor([entity]))
    of_relation = reader.next_relation(state)[0].exp()
    best: list[tuple[float, int, int]] = []
    for some in of_relation.argsort(descending=True, stable=True).split(RELATIONS):
        # A step cannot be likelier than its relation.
        if len(best) == top and best[-1][0] >= float(of_relation[some[0]]):
            break
        after = reader.take(state.expand(len(some), -1), some)
        both = of_relation[some].unsqueeze(1) * reader.next_entity(after).exp()  # (some, N)
        value, place = both.flatten().topk(min(top, both.numel()))
        step = (some[place // both.shape[1]].tolist(), (place % both.shape[1]).tolist())
        best += zip(value.tolist(), *step, strict=True)
        best = sorted(best, key=lambda each: -each[0])[:top]
    out = graph.head == entities[-1]
    edges = set(zip(graph.relation[out].tolist(), graph.tail[out].tolist(), strict=True))
    return [
        NextStep(r, e, probability, float(of_relation[r]), (r, e) in edges)
        for probability, r, e in best
    ]


@dataclass(frozen=True)
class Route:
    """A relation path from a head.

    Attributes:
        relations: relation ids; an inverse if an edge is walked backwards.
        probability: the probability that a walk from the head (to the tail, if given) takes these
            relations and then ends.
        ends: number of entities that the path reaches in the graph.
        arrives: whether the path reaches the tail; None without a tail.
    """

    relations: tuple[int, ...]
    probability: float
    ends: int
    arrives: bool | None


@torch.no_grad()
def likeliest_routes(
    reader: WalkReader, graph: KnowledgeGraph, head: int, tail: int | None,
    *, max_length: int, top: int, beam: int = BEAM,
) -> list[Route]:  # fmt: skip
    """The likeliest relation paths of 1 to `max_length` steps from a head, likeliest first.

    By the formulas of `kgtool.models.walk_gru`, the probabilities of all paths of any length sum to
    1. A prefix is at least as likely as any path that it begins. So the search drops prefixes that
    are less likely than the `top` best paths, and it is exact unless the beam is full.

    Args:
        reader: of a decoder in evaluation mode.
        graph: the graph of the paths.
        head: the first entity.
        tail: the target entity; None for any.
        max_length: the most relations in a path.
        top: the most paths.
        beam: the prefixes that each step keeps.
    """
    state = reader.begin(torch.tensor([head]))  # (b, d)
    log = torch.zeros(1)
    paths: list[tuple[int, ...]] = [()]
    best: list[tuple[float, tuple[int, ...]]] = []
    goal = None if tail is None else torch.tensor([tail])
    for step in range(max_length + 1):
        bound = None if goal is None else goal.expand(len(paths))
        begins = torch.full((len(paths),), step == 0)
        logs = log.unsqueeze(1) + reader.next_or_end(state, begins, bound)  # (b, R + 1)
        if step:
            best += zip(logs[:, -1].tolist(), paths, strict=True)
            best = sorted(best, key=lambda path: -path[0])[:top]
        if step == max_length:
            break
        on = logs[:, :-1]
        log, place = on.flatten().topk(min(beam, on.numel()))
        if len(best) == top:
            enough = log >= best[-1][0]
            log, place = log[enough], place[enough]
        if not len(place):
            break
        begun, relation = place // on.shape[1], place % on.shape[1]
        state = reader.take(state[begun], relation)
        steps = zip(begun.tolist(), relation.tolist(), strict=True)
        paths = [(*paths[i], r) for i, r in steps]
    routes = []
    for value, relations in best:
        ends = walk_ends(graph, head, relations)
        arrives = None if tail is None else bool(ends[tail])
        probability = math.exp(value)
        routes.append(Route(relations, probability, int(ends.sum()), arrives))
    return routes


def walk_ends(graph: KnowledgeGraph, head: int, relations: Sequence[int]) -> Tensor:
    """`(num_entities,)` bool: the entities that a relation path reaches from a head."""
    reached = torch.zeros(graph.num_entities, dtype=torch.bool)
    reached[head] = True
    for relation in relations:
        walked = reached[graph.head] & (graph.relation == relation)
        reached = torch.zeros_like(reached)
        reached[graph.tail[walked]] = True
    return reached
