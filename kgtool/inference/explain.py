"""Explanations: the contribution of each path to a score, by the gradients of the model's pass.

A score is a sum over the paths from head to tail. Let `J_e` be the derivative of an entity's new
state by the state that edge `e` brings to it. A path of edges `e_1 … e_k` contributes

    ⟨∂score/∂s_t, J_{e_k} … J_{e_1} init⟩,

summed over the steps at which the pass can take it: a state may wait between two edges. Gates,
divisors and slopes are constants in these derivatives (see `path_rows`), so the contributions of
all paths sum to the score, except for biases. A true gradient would give a single path no weight,
since messages are normalised. The search walks backwards from the tail. The product of a path's
gradient so far and the current state is the contribution of all paths with this ending. A beam
search keeps the strongest, similar to NBFNet's search by gradients of edges (Zhu et al. 2021, 4.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kgtool.data.dataset import Vocabulary
from kgtool.display import frame_of, html
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder, Feed
from kgtool.ops import Reach, Region, path_rows

if TYPE_CHECKING:
    from kgtool.display import DataFrame

# Path endings that each step of the search keeps.
BEAM = 256
# Relations shown per step, of those between the same two entities.
MAIN_RELATIONS = 3


@dataclass(frozen=True)
class Path:
    """A path of entities and its contribution to a score, over all edges between the entities.

    Parallel edges often have the same meaning, such as `sister_of` and its inverse, and a model may
    use any of them. So all paths over the same entities are one explanation.

    Attributes:
        weight: its contribution to the score; negative if it lowers the score.
        entities: entity ids from head to tail.
        steps: for each step `(relation, weight)`, strongest first, inverses included: the part of
            the path's weight over this edge.
    """

    weight: float
    entities: tuple[int, ...]
    steps: tuple[tuple[tuple[int, float], ...], ...]


def explain_triple(
    decoder: AllPathsDecoder,
    graph: KnowledgeGraph,
    triple: tuple[int, int, int],
    beam: int = BEAM,
    feed: Feed | None = None,
) -> list[Path]:
    """The paths from head to tail that contribute to the score of a triple, strongest first.

    A triple that is an edge of the graph is scored without that edge and its inverse, as in
    training: the explanation shows the other evidence.

    Args:
        decoder: in evaluation mode.
        graph: the graph of the paths.
        triple: ids, the relation an inverse for a head query.
        beam: path endings kept at each step.
        feed: the states of an encoder, if any; their contribution belongs to no path.

    Returns:
        Distinct paths of entities; empty if no path of at most L edges leads from head to tail.
    """
    head, relation, tail = triple
    first, end = graph.csc.offsets[head], graph.csc.offsets[head + 1]
    source, kind = graph.head[first:end], graph.relation[first:end]
    inverse = int(graph.inverse_of(torch.tensor(relation)))
    # A self loop and its inverse are both in-edges.
    same = (kind == inverse) | (kind == relation) if head == tail else kind == inverse
    own = int(first) + torch.nonzero((source == tail) & same).flatten()
    reached = decoder.reach(graph, torch.tensor([head]), [own])
    with torch.no_grad():
        states = [s[: reached.rows(i)] for i, s in enumerate(decoder.states(reached, feed))]
    slot = int(reached.slot_of(torch.tensor([0]), torch.tensor([tail])))
    if slot >= reached.rows(decoder.layers):
        return []
    last = states[-1][slot : slot + 1]
    if feed is not None:
        last = last + feed.entities[tail]
    last = last.detach().requires_grad_()
    score = decoder.features(last) @ decoder.queries(torch.tensor([relation]), feed).t()
    (gradient,) = torch.autograd.grad(score.sum(), last)
    ends = _Ends(torch.tensor([slot]), gradient, [()])
    for step in range(decoder.layers, 0, -1):
        ends = _step_back(decoder, reached, step, states[step - 1], ends, beam=beam)
    carried = (ends.gradient @ states[0][0]).tolist()
    weights: dict[tuple[_Edge, ...], float] = {}
    for path, weight in zip(ends.path, carried, strict=True):
        weights[path] = weights.get(path, 0.0) + weight
    entity = reached.entities().tolist()
    return _by_entities(entity, {path: weight for path, weight in weights.items() if path})


def _by_entities(entity: list[int], weights: dict[tuple[_Edge, ...], float]) -> list[Path]:
    """Paths of entities, strongest first, from the weights of paths of edges between slots."""
    relations: dict[tuple[int, ...], list[dict[int, float]]] = {}
    for path, weight in weights.items():
        entities = (entity[path[0][0]], *(entity[edge[2]] for edge in path))
        steps = relations.setdefault(entities, [{} for _ in path])
        for step, (_, relation, _) in zip(steps, path, strict=True):
            step[relation] = step.get(relation, 0.0) + weight
    paths = [
        Path(sum(steps[0].values()), entities, tuple(_strongest_first(step) for step in steps))
        for entities, steps in relations.items()
    ]
    return sorted(paths, key=lambda path: -path.weight)


def _strongest_first(weights: dict[int, float]) -> tuple[tuple[int, float], ...]:
    return tuple(sorted(weights.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class NamedPath:
    """A path in labels.

    Attributes:
        weight, entities, steps: as of `Path`; `^r` is the inverse of the relation `r`, an edge
            walked backwards.
    """

    weight: float
    entities: tuple[str, ...]
    steps: tuple[tuple[tuple[str, float], ...], ...]

    def __str__(self) -> str:
        """`Ada --mother_of--> Ben --^father_of, ^uncle_of--> Carl`."""
        text = self.entities[0]
        for step, entity in zip(self.steps, self.entities[1:], strict=True):
            text += f" --{', '.join(main_relations(step))}--> {entity}"
        return text


def main_relations(step: tuple[tuple[str, float], ...]) -> list[str]:
    """The strongest relations of a step, with at least a tenth of the strongest weight."""
    least = step[0][1] / 10 if step[0][1] > 0 else -float("inf")
    return [relation for relation, weight in step if weight >= least][:MAIN_RELATIONS]


@dataclass(frozen=True)
class Explanation:
    """The explanation of a triple's score.

    Attributes:
        triple: labels of head, relation and tail.
        paths: the paths, strongest first; empty if no path leads from head to tail.
    """

    triple: tuple[str, str, str]
    paths: tuple[NamedPath, ...]

    def __repr__(self) -> str:
        return f"Explanation({' '.join(map(repr, self.triple))}: {len(self.paths)} paths)"

    def _repr_html_(self) -> str:
        return html("Why " + " ".join(self.triple), self.to_frame())

    def to_frame(self) -> DataFrame:
        """A row per path: its `weight` and the `path` as text."""
        columns = {"weight": [p.weight for p in self.paths], "path": [str(p) for p in self.paths]}
        return frame_of(columns, texts=["path"])

    def readable(self, names: Mapping[str, str]) -> Explanation:
        """The explanation with readable names of entities, where `names` has one."""
        head, relation, tail = self.triple
        return Explanation(
            (names.get(head, head), relation, names.get(tail, tail)),
            tuple(
                replace(path, entities=tuple(names.get(entity, entity) for entity in path.entities))
                for path in self.paths
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **dict(zip(("head", "relation", "tail"), self.triple, strict=True)),
            "paths": [
                {
                    "weight": path.weight,
                    "entities": list(path.entities),
                    "steps": [
                        [{"relation": name, "weight": weight} for name, weight in step]
                        for step in path.steps
                    ],
                }
                for path in self.paths
            ],
        }


def name_path(path: Path, vocabulary: Vocabulary) -> NamedPath:
    """A path with labels for ids."""
    names = vocabulary.steps
    return NamedPath(
        path.weight,
        tuple(vocabulary.entities[entity] for entity in path.entities),
        tuple(tuple((names[r], weight) for r, weight in step) for step in path.steps),
    )


# The source slot of an edge, its relation, and its target slot.
_Edge = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Ends:
    """Path endings: the current slot of each, its gradient, and its edges to the tail."""

    slot: Tensor  # (n,) int64
    gradient: Tensor  # (n, d)
    path: list[tuple[_Edge, ...]]


def _step_back(
    decoder: AllPathsDecoder,
    reached: Reach | Region,
    step: int,
    before: Tensor,
    ends: _Ends,
    *,
    beam: int,
) -> _Ends:
    """One step towards the head: along each in-edge with a message, or waiting."""
    weights = decoder.weights[step - 1].detach()
    places, which = torch.unique(ends.slot, return_inverse=True)
    place, source, relation, count = reached.arriving(step, places)
    message = before[source] * weights[relation]  # (e, d)
    sums = before.new_zeros(len(places), decoder.dim).index_add_(0, place, message)
    squares = torch.zeros_like(sums).index_add_(0, place, message.square())
    waits = places < len(before)
    old = torch.where(waits.unsqueeze(1), before[places.clamp(max=len(before) - 1)], 0)
    # The gradient of every ending, back through the entity's update.
    rows = [t[which].requires_grad_() for t in (sums, squares, old)]
    new = path_rows(
        rows[0], rows[1], count[which], rows[2],
        decoder.scalers[step - 1], decoder.matrix(), decoder.bias, held=True,
    )  # fmt: skip
    g_sums, g_squares, g_old = torch.autograd.grad(new, rows, ends.gradient)
    # Endings that wait, then endings that walk back along an edge.
    stay = torch.nonzero(waits[which]).squeeze(1)
    order = torch.argsort(place, stable=True)
    starts = torch.searchsorted(place[order], torch.arange(len(places) + 1))
    spans = [order[starts[p] : starts[p + 1]] for p in which.tolist()]
    walked = torch.cat(spans)
    end = torch.repeat_interleave(torch.tensor([len(span) for span in spans]))
    m = message[walked]
    g_message = g_sums[end] + 2 * m * g_squares[end]
    carried = torch.cat([(g_old[stay] * old[which[stay]]).sum(1), (g_message * m).sum(1)])
    best = carried.topk(min(beam, len(carried))).indices
    staying, walking = best[best < len(stay)], best[best >= len(stay)] - len(stay)
    stayed, e = stay[staying], walked[walking]
    back = g_message[walking] * weights[relation[e]]
    left, came = source[e], places[place[e]]
    edges = zip(left.tolist(), relation[e].tolist(), came.tolist(), strict=True)
    longer = zip(edges, end[walking].tolist(), strict=True)
    return _Ends(
        torch.cat([ends.slot[stayed], left]),
        torch.cat([g_old[stayed], back]),
        [ends.path[i] for i in stayed.tolist()] + [(edge, *ends.path[i]) for edge, i in longer],
    )
