"""How well held-out walks are foretold: the perplexity of their steps, beside what counting says.

The perplexity of n steps of probability p_i is `exp(-1/n Σ log p_i)`: a step is as hard to foretell
as one of so many that are equally likely. A step's relation is foretold from the walk before it,
its entity from that and the relation; the perplexity of both is the product of the two.

Walks of a split are of the graph of train and that split, at least one of their edges the split's;
a model's own messages are train's alone. Beside the model, what counting train's edges foretells:

uniform     every relation, every entity alike
frequency   the frequency of the relation, and of the entity
bigram      of the relation after the one before, and of the entity at an end of the relation
edges       of the relation at the entity stood at, and of what this relation leads to from there

Each backs off to the one above it by what its context has not shown (Witten & Bell 1991):
`P(x | c) = (n(c, x) + t(c) P'(x)) / (n(c) + t(c))`, of t(c) distinct x seen after c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.random_walk import Walks, WalkSampler
from kgtool.models.walk_gru import WalkReader

# Walks of train that the bigrams are counted on, and walks that are read at a time.
COUNTED = 50_000
CHUNK = 256


@dataclass(frozen=True)
class WalkPerplexity:
    """What `perplexity` finds.

    Attributes:
        split: which one.
        max_length, seed: of the walks.
        walks: how many they are.
        table: a row for each of two sets of steps, `all` and `held-out` (those that walk an edge of
            the split), and each that foretells them: `steps`, `count`, `by`, and the perplexities
            `relation`, `entity` and `both`.
        file: where it has been written, if it has.
    """

    split: str
    max_length: int
    seed: int
    walks: int
    table: pd.DataFrame
    file: Path | None = None

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
    reader: WalkReader, dataset: KGDataset, split: str, max_length: int, count: int, seed: int
) -> WalkPerplexity:
    """The perplexity of `count` walks with an edge of a split, drawn by a seed.

    Raises:
        ValueError: for an unknown or empty split.
    """
    held_out = dataset.split(split)
    if not len(held_out):
        raise ValueError(f"the {split} split holds no triples")
    generator = torch.Generator().manual_seed(seed)
    train = KnowledgeGraph.from_dataset(dataset)
    known = torch.cat([dataset.train, held_out]).unique(dim=0)
    graph = KnowledgeGraph.from_dataset(replace(dataset, train=known))
    edges = graph.find(with_inverses(held_out, dataset.num_relations))
    walks = WalkSampler(graph, max_length, generator).walks_through(edges, count)
    seen = WalkSampler(train, max_length, generator).walks(COUNTED)
    foretold = {"model": read_steps(reader, walks), **counted_steps(train, seen, walks)}
    is_held_out = torch.zeros(graph.num_edges, dtype=torch.bool)
    is_held_out[edges] = True
    sets = {"all": torch.ones(int(walks.length.sum()), dtype=torch.bool)}
    sets["held-out"] = is_held_out[walks.edge[walks.taken]]
    return WalkPerplexity(split, max_length, seed, count, _table(foretold, sets))


def _table(
    foretold: Mapping[str, tuple[Tensor, Tensor]], sets: Mapping[str, Tensor]
) -> pd.DataFrame:
    rows = []
    for steps, chosen in sets.items():
        for by, (relation, entity) in foretold.items():
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
    """As `read_steps`, by each way of counting.

    Args:
        graph: whose edges are counted.
        seen: walks over it, whose pairs of relations are counted.
        walks: what is asked for.
    """
    relations, entities = graph.num_relation_ids, graph.num_entities
    relation, end = walks.relation[walks.taken], walks.entity[:, 1:][walks.taken]
    stood = walks.entity[:, :-1][walks.taken]
    # The relation before; one more stands for the begin of a walk.
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
    found = {"uniform": uniform, "frequency": frequency, "bigram": bigram, "edges": edges}
    return {name: (first.log(), second.log()) for name, (first, second) in found.items()}


def _before(walks: Walks, begin: int) -> Tensor:
    """`(q, max_length)`: the relation before each step, `begin` before the first."""
    first = torch.full_like(walks.relation[:, :1], begin)
    return torch.cat([first, walks.relation[:, :-1]], dim=1)


def _backed_off(
    seen: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor], size: int, lower: Tensor
) -> Tensor:
    """`(n,)` float64: Witten and Bell's P(x | c).

    Args:
        seen: contexts and outcomes that are counted.
        asked: `(n,)` contexts and outcomes that are asked for.
        size: outcomes are below it.
        lower: `(n,)` float64, P'(x).
    """
    key, count = torch.unique(seen[0] * size + seen[1], return_counts=True)
    context, which, types = torch.unique_consecutive(
        key // size, return_inverse=True, return_counts=True
    )
    total = torch.zeros_like(types).index_add_(0, which, count)
    n_cx = _look_up(key, count, asked[0] * size + asked[1])
    n_c = _look_up(context, total, asked[0])
    t_c = _look_up(context, types, asked[0])
    return torch.where(n_c > 0, (n_cx + t_c * lower) / (n_c + t_c).clamp(min=1), lower)


def _look_up(keys: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """The value of each wanted key, 0 for one that is not there; keys ascend."""
    slot = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[slot] == wanted, values[slot], 0)
