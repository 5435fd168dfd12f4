"""Small random knowledge graphs."""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset
from kgtool.graph.knowledge_graph import KnowledgeGraph
from tests.support.runs import in_memory

Triple = tuple[int, int, int]


def tensor_of(triples: Iterable[Triple]) -> Tensor:
    """`(n, 3)` int64, also for an empty list of triples."""
    return torch.tensor(list(triples), dtype=torch.long).view(-1, 3)


def tuples_of(triples: Tensor) -> list[Triple]:
    return [(head, relation, tail) for head, relation, tail in triples.tolist()]


def edges_of(graph: KnowledgeGraph) -> list[Triple]:
    """The triple of each edge, in the order of the edges."""
    return tuples_of(graph.triples())


def random_dataset(
    seed: int, num_entities: int = 12, num_relations: int = 3, num_train: int = 50
) -> KGDataset:
    """Distinct triples with self loops, large groups, an isolated entity and an empty relation.

    The last entity has no edge in train. If there are three relations or more, the last but one has
    no edge in train.
    """
    draw = random.Random(seed)
    relations = [r for r in range(num_relations) if num_relations < 3 or r != num_relations - 2]
    # Half of the tails are among the first three entities, so that their groups are large.
    pool = sorted(
        {
            (
                draw.randrange(num_entities - 1),
                draw.choice(relations),
                draw.randrange(3 if draw.random() < 0.5 else num_entities - 1),
            )
            for _ in range(4 * num_train)
        }
        | {(0, 0, 0)}
    )
    draw.shuffle(pool)
    held_out = [triple for triple in pool if triple != (0, 0, 0)][:6]
    train = [triple for triple in pool if triple not in held_out][: num_train - 1]
    if (0, 0, 0) not in train:
        train.append((0, 0, 0))
    return in_memory(train, held_out[:3], held_out[3:], num_entities, num_relations)
