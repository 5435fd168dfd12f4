"""Explanations: the paths that carry a score, by the gradients of the pass and by removal.

The gradients (`kgtool.inference.path_search`) give the candidates: the paths with the largest
contributions `c`, for or against the score. But a pass adapts to what it reads, so a contribution
does not say what the score would be without the path. So each candidate is tested: its edges leave
the graph, and the fall of the score is measured. Paths that share edges fall together. So the
weight of a path p is its share of the fall: of all that its edges carry, the part of p itself,

    weight(p) = fall(p) · |c(p)| / Σ_q |c(q)| · |p ∩ q| / |q|,

over the candidates q, p included, where `|p ∩ q| / |q|` is the part of q's edges that are edges of
p. A positive weight supports the score, a negative one speaks against it. One more pass, without
the edges of all listed paths, gives the rest of the score: what the listed paths carry is a
difference of two scores, not a sum of estimates.
Removal as a test of explanations: DeYoung et al. 2020 ("comprehensiveness").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kgtool.data.dataset import Vocabulary
from kgtool.display import frame_of, html
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.inference.path_search import PathSearch, Slots
from kgtool.models.scorers import ModelScorer, Passes, PassScorer
from kgtool.ops import in_threads

if TYPE_CHECKING:
    from kgtool.display import DataFrame

# Path endings that the first search keeps at each layer. It is doubled until the candidates stay
# the same.
BEAM, WIDEST = 256, 8192
# Paths that are tested by removal; as many as are listed, if these are more.
CANDIDATES = 20
# Relations shown per step, of those between the same two entities.
MAIN_RELATIONS = 3

# The two entities of a step.
Pair = frozenset[int]


@dataclass(frozen=True)
class Path:
    """A path of entities and its part of a score, over all edges between the entities.

    Parallel edges often have the same meaning, such as `sister_of` and its inverse, and a model may
    use any of them. So all paths over the same entities are one explanation.

    Attributes:
        weight: its share of `fall`, by the formula above; negative if it lowers the score.
        fall: the fall of the score when its edges leave the graph.
        entities: entity ids from head to tail.
        steps: for each step `(relation, weight)`, strongest first, inverses included: the path's
            weight, divided by the sizes of the gradients' parts over each edge.
    """

    weight: float
    fall: float
    entities: tuple[int, ...]
    steps: tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True)
class Explained:
    """The paths that carry a score.

    Attributes:
        score: the score, without the edge of the triple itself and its inverse.
        rest: the score without the edges of all listed paths too.
        paths: the listed paths, strongest first; empty if no path of at most L edges leads from
            head to tail.
    """

    score: float
    rest: float
    paths: tuple[Path, ...]


def explain_triple(
    passes: Passes, triple: tuple[int, int, int], top: int = 10, beam: int = BEAM
) -> Explained:
    """The paths from head to tail that carry the score of a triple.

    A triple that is an edge of the graph is scored without that edge and its inverse, as in
    training: the explanation shows the other evidence. An encoder's states, if any, stay as they
    are; their part of the score belongs to no path.

    Args:
        passes: the model; its decoder is on the CPU.
        triple: ids, the relation an inverse for a head query.
        top: the most paths.
        beam: path endings that the first search keeps at each layer.
    """
    part, entities = passes.near(triple[0])
    if not bool((entities == triple[2]).any()):  # paths to the tail leave the part
        score = float(passes.score_hrt(torch.tensor([triple])))
        return Explained(score, score, ())
    head, tail = torch.searchsorted(entities, torch.tensor(triple[::2])).tolist()
    triple = head, triple[1], tail
    own = part.of_relation(triple[1])
    own = replace(own, graph=without_triple(own.graph, triple))
    score = score_without(own, triple, ())
    search = PathSearch.of(own, triple)
    found = _candidates(search, max(CANDIDATES, top), beam) if search else {}
    if not search or not found:
        return Explained(score, score, ())
    falls = [
        score - left
        for left in in_threads(lambda pairs: score_without(own, triple, pairs), [*found])
    ]
    parts = search.parts([path for path, _ in found.values()])
    paths = []
    for (pairs, (slots, size)), fall, steps in zip(found.items(), falls, parts, strict=True):
        over = sum(c * len(pairs & other) / len(other) for other, (_, c) in found.items())
        weight = fall * size / over if over else 0.0
        on = tuple(search.entities[slot] for slot in slots)
        paths.append(Path(weight, fall, on, tuple(_divided(weight, step) for step in steps)))
    paths.sort(key=lambda path: (-abs(path.weight), len(path.entities)))
    listed = tuple(paths[:top])
    rest = score_without(own, triple, frozenset().union(*(pairs_of(p.entities) for p in listed)))
    return Explained(
        score, rest,
        tuple(replace(p, entities=tuple(entities[list(p.entities)].tolist())) for p in listed),
    )  # fmt: skip


def without_triple(graph: KnowledgeGraph, triple: tuple[int, int, int]) -> KnowledgeGraph:
    """The graph without the edge of a triple and its inverse, if it has them."""
    head, relation, tail = triple
    edge = _between(graph, head, tail)
    own = edge[graph.relation[edge] == relation]
    return graph.without(own) if len(own) else graph


def _between(graph: KnowledgeGraph, head: int, tail: int) -> Tensor:
    """`(k,)` int64: the edges from head to tail."""
    first, end = int(graph.offsets[tail]), int(graph.offsets[tail + 1])
    return first + torch.nonzero(graph.head[first:end] == head).flatten()


def pairs_of(path: Sequence[int]) -> frozenset[Pair]:
    """The pairs of entities, or of slots, of a path's steps."""
    return frozenset(map(frozenset, pairwise(path)))


def score_without(
    passes: PassScorer, triple: tuple[int, int, int], pairs: Collection[Pair]
) -> float:
    """The score of a triple on the graph without the edges between pairs of entities."""
    graph = passes.graph
    if pairs:
        edges = [_between(graph, min(pair), max(pair)) for pair in pairs]
        graph = graph.without(torch.cat(edges))
    return float(replace(passes, graph=graph).score_hrt(torch.tensor([triple])))


def _candidates(
    search: PathSearch, count: int, beam: int
) -> dict[frozenset[Pair], tuple[Slots, float]]:
    """The paths with the largest contributions, for or against the score.

    The beam widens until these paths stay the same. Paths over the same pairs of entities stand on
    the same facts: they are one candidate, the shortest of them.

    Returns:
        The pairs of entities of each path → its slots, and the size of its contribution.
    """
    before: set[frozenset[Pair]] = set()
    while True:
        paths, whole = search.paths(beam)
        grouped: dict[frozenset[Pair], tuple[Slots, float]] = {}
        for slots, part in paths.items():
            pairs = pairs_of([search.entities[slot] for slot in slots])
            other, sum_ = grouped.get(pairs, (slots, 0.0))
            grouped[pairs] = (min(slots, other, key=len), sum_ + part)
        sizes = {pairs: (slots, abs(part)) for pairs, (slots, part) in grouped.items()}
        best = sorted(sizes.items(), key=lambda item: -item[1][1])[:count]
        if whole or beam >= WIDEST or {pairs for pairs, _ in best} == before:
            return dict(best)
        before = {pairs for pairs, _ in best}
        beam *= 2


def _divided(weight: float, parts: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    """A step's relations with their parts of a path's weight, largest first."""
    sizes = {relation: abs(part) for relation, part in parts.items()}
    total = sum(sizes.values())
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return tuple((r, weight * (size / total if total else 1 / len(sizes))) for r, size in ordered)


@dataclass(frozen=True)
class NamedPath:
    """A path in labels.

    Attributes:
        weight, entities, steps, fall: as of `Path`; `^r` is the inverse of the relation `r`, an
            edge walked backwards.
    """

    weight: float
    entities: tuple[str, ...]
    steps: tuple[tuple[tuple[str, float], ...], ...]
    fall: float = 0.0

    def __str__(self) -> str:
        """`Ada --mother_of--> Ben --^father_of, ^uncle_of--> Carl`."""
        text = self.entities[0]
        for step, entity in zip(self.steps, self.entities[1:], strict=True):
            text += f" --{', '.join(main_relations(step))}--> {entity}"
        return text


def main_relations(step: tuple[tuple[str, float], ...]) -> list[str]:
    """The strongest relations of a step, with at least a tenth of the strongest weight."""
    least = abs(step[0][1]) / 10
    return [relation for relation, weight in step if abs(weight) >= least][:MAIN_RELATIONS]


@dataclass(frozen=True)
class Explanation:
    """The explanation of a triple's score.

    Attributes:
        triple: labels of head, relation and tail.
        paths: the listed paths, strongest first; empty if no path leads from head to tail.
        score: the score, without the edge of the triple itself.
        rest: the score without the edges of the listed paths too.
        embeddings: the part of `rest` that the embeddings of a combined model give; None for a
            model of paths alone.
    """

    triple: tuple[str, str, str]
    paths: tuple[NamedPath, ...]
    score: float = 0.0
    rest: float = 0.0
    embeddings: float | None = None

    @classmethod
    def of(
        cls,
        scorer: ModelScorer,
        passes: Passes,
        triple: tuple[int, int, int],
        vocabulary: Vocabulary,
        top: int,
    ) -> Explanation:
        """The explanation of a triple of ids, in labels.

        Args:
            scorer: the model.
            passes: its passes, on the CPU.
            triple: ids, the relation an inverse for a head query.
            vocabulary: the labels.
            top: the most paths.
        """
        head, relation, tail = triple
        found = explain_triple(passes, triple, top)
        part = scorer.beyond_passes(torch.tensor([triple]))
        beyond = 0.0 if part is None else float(part)
        return cls(
            (vocabulary.entities[head], vocabulary.steps[relation], vocabulary.entities[tail]),
            tuple(name_path(path, vocabulary) for path in found.paths),
            found.score + beyond,
            found.rest + beyond,
            None if part is None else beyond,
        )

    def parts(self) -> str:
        """A sentence: the parts of the score."""
        graph = self.rest - (self.embeddings or 0.0)
        text = (
            f"Score {self.score:.2f}: the listed paths carry {self.carried:.2f}, the rest of the "
            f"graph {graph:.2f}"
        )
        if self.embeddings is None:
            return f"{text}."
        return f"{text}, the embeddings {self.embeddings:.2f}."

    @property
    def carried(self) -> float:
        """The fall of the score when the edges of all listed paths leave the graph."""
        return self.score - self.rest

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
        return replace(
            self,
            triple=(names.get(head, head), relation, names.get(tail, tail)),
            paths=tuple(
                replace(path, entities=tuple(names.get(entity, entity) for entity in path.entities))
                for path in self.paths
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **dict(zip(("head", "relation", "tail"), self.triple, strict=True)),
            "score": self.score,
            "carried": self.carried,
            "rest": self.rest,
            "embeddings": self.embeddings,
            "paths": [
                {
                    "weight": path.weight,
                    "fall": path.fall,
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
        path.fall,
    )
