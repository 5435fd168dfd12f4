"""Perplexity of held-out walks, for a model and for counting baselines.

The perplexity of n steps with probabilities p_i is `exp(-1/n Σ log p_i)`: the number of equally
likely choices that would be as hard to predict. A step's relation is predicted from the walk before
it, its entity from that and the relation. The perplexity of both is the product of the two.

The walks of a split are walks of the graph of train and that split, with at least one edge of the
split. The model's own graph is that of train only. The baselines count the edges of train:

uniform     all relations and all entities are equally likely
frequency   the frequency of the relation, and of the entity
bigram      of the relation after the previous one, and of the entity as a tail of the relation
edges       of the relation at the current entity, and of its tails from there

Each baseline backs off to the one above it (Witten & Bell 1991), with t(c) distinct x seen after c:
`P(x | c) = (n(c, x) + t(c) P'(x)) / (n(c) + t(c))`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.random_walk import Walks, WalkSampler
from kgtool.models.walk_gru import WalkReader

# Number of train walks for counting bigrams, and number of walks per batch.
COUNTED = 50_000
CHUNK = 256


@dataclass(frozen=True)
class WalkPerplexity:
    """The perplexities of the walks of a split.

    Attributes:
        split: the split.
        max_length, seed: of the walks.
        walks: number of walks.
        table: a row for each set of steps (`all`, or `held-out` for edges of the split) and each
            predictor: `steps`, `count`, `by`, and the perplexities `relation`, `entity` and `both`.
    """

    split: str
    max_length: int
    seed: int
    walks: int
    table: pd.DataFrame = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "split": self.split,
            "max_length": self.max_length,
            "seed": self.seed,
            "walks": self.walks,
            "perplexity": self.table.to_dict("records"),
        }


def perplexity(
    reader: WalkReader, dataset: KGDataset, split: str, *, max_length: int, count: int, seed: int
) -> WalkPerplexity:
    """The perplexity of `count` random walks with an edge of a split.

    Raises:
        ValueError: for an unknown or empty split.
    """
    held_out = dataset.split(split)
    if not len(held_out):
        raise ValueError(f"the {split} split holds no triples")
    generator = torch.Generator().manual_seed(seed)
    train = KnowledgeGraph.from_dataset(dataset)
    known = torch.cat([dataset.train, held_out]).unique(dim=0)
    graph = KnowledgeGraph.from_dataset(replace(dataset, train=known, weights={}))
    edges = graph.find(with_inverses(held_out, dataset.num_relations))
    walks = WalkSampler(graph, max_length, generator).walks_through(edges, count)
    seen = WalkSampler(train, max_length, generator).walks(COUNTED)
    predicted = {"model": read_steps(reader, walks), **counted_steps(train, seen, walks)}
    is_held_out = torch.zeros(graph.num_edges, dtype=torch.bool)
    is_held_out[edges] = True
    sets = {"all": torch.ones(int(walks.length.sum()), dtype=torch.bool)}
    sets["held-out"] = is_held_out[walks.edge[walks.taken]]
    return WalkPerplexity(split, max_length, seed, count, _table(predicted, sets))


def _table(
    predicted: Mapping[str, tuple[Tensor, Tensor]], sets: Mapping[str, Tensor]
) -> pd.DataFrame:
    rows = []
    for steps, chosen in sets.items():
        for by, (relation, entity) in predicted.items():
            logs = (relation[chosen], entity[chosen], relation[chosen] + entity[chosen])
            values = (float((-log.mean()).exp()) for log in logs)
            rows.append((steps, int(chosen.sum()), by, *values))
    return pd.DataFrame(rows, columns=["steps", "count", "by", "relation", "entity", "both"])


@torch.no_grad()
def read_steps(reader: WalkReader, walks: Walks) -> tuple[Tensor, Tensor]:
    """`(n,)` float64 each: the log-probability of every step's relation, and of its entity."""
    relations, entities = [], []
    for rows in torch.arange(len(walks.length)).split(CHUNK):
        part = walks[rows]
        relation, entity = part.relation[part.taken], part.entity[:, 1:][part.taken]
        read = reader.read(part)
        before = reader.next_relation(read.before[part.taken])  # (n, R)
        after = reader.next_entity(read.after[part.taken])  # (n, N)
        relations.append(before.gather(1, relation.unsqueeze(1)).squeeze(1).double())
        entities.append(after.gather(1, entity.unsqueeze(1)).squeeze(1).double())
    return torch.cat(relations), torch.cat(entities)


def counted_steps(
    graph: KnowledgeGraph, seen: Walks, walks: Walks
) -> dict[str, tuple[Tensor, Tensor]]:
    """As `read_steps`, for each counting baseline.

    Args:
        graph: the graph whose edges are counted.
        seen: walks over it; their pairs of consecutive relations are counted.
        walks: the walks to predict.
    """
    relations, entities = graph.num_relation_ids, graph.num_entities
    relation, end = walks.relation[walks.taken], walks.entity[:, 1:][walks.taken]
    stood = walks.entity[:, :-1][walks.taken]
    # The previous relation; a further id marks the beginning of a walk.
    before = _before(walks, relations)[walks.taken]
    heads, kinds, tails = graph.triples().unbind(1)
    always, everywhere = torch.zeros_like(relation), torch.zeros_like(kinds)
    uniform = (
        torch.full(relation.shape, 1 / relations, dtype=torch.double),
        torch.full(end.shape, 1 / entities, dtype=torch.double),
    )
    frequency = (
        _backed_off((everywhere, kinds), (always, relation), relations, uniform[0]),
        _backed_off((everywhere, tails), (always, end), entities, uniform[1]),
    )
    pairs = (_before(seen, relations)[seen.taken], seen.relation[seen.taken])
    bigram = (
        _backed_off(pairs, (before, relation), relations, frequency[0]),
        _backed_off((kinds, tails), (relation, end), entities, frequency[1]),
    )
    queries = (heads * relations + kinds, stood * relations + relation)
    edges = (
        _backed_off((heads, kinds), (stood, relation), relations, bigram[0]),
        _backed_off((queries[0], tails), (queries[1], end), entities, bigram[1]),
    )
    baselines = {"uniform": uniform, "frequency": frequency, "bigram": bigram, "edges": edges}
    return {name: (first.log(), second.log()) for name, (first, second) in baselines.items()}


def _before(walks: Walks, begin: int) -> Tensor:
    """`(q, max_length)`: the relation before each step, `begin` before the first."""
    first = torch.full_like(walks.relation[:, :1], begin)
    return torch.cat([first, walks.relation[:, :-1]], dim=1)


def _backed_off(
    seen: tuple[Tensor, Tensor], queries: tuple[Tensor, Tensor], size: int, lower: Tensor
) -> Tensor:
    """`(n,)` float64: Witten and Bell's P(x | c).

    Args:
        seen: the counted contexts and outcomes.
        queries: `(n,)` contexts and outcomes to predict.
        size: outcomes are below it.
        lower: `(n,)` float64, P'(x).
    """
    key, count = torch.unique(seen[0] * size + seen[1], return_counts=True)
    context, which, types = torch.unique_consecutive(
        key // size, return_inverse=True, return_counts=True
    )
    total = torch.zeros_like(types).index_add_(0, which, count)
    n_cx = _look_up(key, count, queries[0] * size + queries[1])
    n_c = _look_up(context, total, queries[0])
    t_c = _look_up(context, types, queries[0])
    return torch.where(n_c > 0, (n_cx + t_c * lower) / (n_c + t_c).clamp(min=1), lower)


def _look_up(keys: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """The value of each wanted key, 0 for a missing key; keys are ascending."""
    slot = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[slot] == wanted, values[slot], 0)
