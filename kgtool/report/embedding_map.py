"""The embedding map: entity states in two dimensions, by t-SNE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from kgtool.data.dataset import KGDataset
from kgtool.models.scorers import ModelScorer

SHOWN = 2000  # the most entities
FEWEST = 10
DIMS = 50  # principal components for t-SNE


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Entities on a plane.

    Attributes:
        entity: `(n,)` int64, ids.
        place: `(n, 2)` coordinates.
        role: `(n,)` int64, the entity's most frequent role in train: `r` for a head of relation
            `r`, `r + num_relations` for a tail; -1 for an entity that is not in train.
        degree: `(n,)` int64, number of train triples.
        everyone: number of all entities.
    """

    entity: Tensor
    place: np.ndarray
    role: Tensor
    degree: Tensor
    everyone: int


def embedding_map(scorer: ModelScorer, dataset: KGDataset) -> EmbeddingMap | None:
    """The map of all entities, or of a fixed random sample of many entities.

    Returns:
        None for fewer than `FEWEST` entities, and for a model without embeddings.
    """
    everyone = dataset.num_entities
    if everyone < FEWEST or not scorer.has_states:
        return None
    generator = torch.Generator().manual_seed(0)
    entity = torch.randperm(everyone, generator=generator)[:SHOWN].sort()[0]
    states = scorer.entity_states(entity)
    role, degree = roles(dataset)
    return EmbeddingMap(entity, project(states), role[entity], degree[entity], everyone)


def roles(dataset: KGDataset) -> tuple[Tensor, Tensor]:
    """`(num_entities,)` each: the most frequent role of an entity in train, and its degree."""
    n, types = dataset.num_entities, 2 * dataset.num_relations
    head, relation, tail = dataset.train.unbind(1)
    as_head, as_tail = head * types + relation, tail * types + relation + dataset.num_relations
    key, count = torch.unique(torch.cat([as_head, as_tail]), return_counts=True)
    # Rarest first, so that the most frequent role is written last; of equal ones the first.
    order = torch.argsort(count * types - key % types, stable=True)
    role = np.full(n, -1)
    role[(key[order] // types).numpy()] = (key[order] % types).numpy()
    degree = torch.bincount(dataset.train[:, [0, 2]].flatten(), minlength=n)
    return torch.from_numpy(role), degree


def project(states: Tensor) -> np.ndarray:
    """`(n, 2)`: t-SNE (van der Maaten & Hinton 2008) of states `(n, d)`, n at least `FEWEST`.

    It runs in one thread, so that equal states give the same map.
    """
    from sklearn.manifold import TSNE  # here: it takes a second to import

    vectors = states.detach().double().numpy()
    with threadpool_limits(limits=1):
        left, size, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
        parts = (left * size)[:, :DIMS]  # principal components
        start = parts[:, [0, min(1, parts.shape[1] - 1)]]
        spread = start[:, 0].std()
        # Small initial coordinates, as recommended for t-SNE.
        start = start / spread * 1e-4 if spread > 0 else start
        place: np.ndarray = TSNE(
            perplexity=min(30.0, (len(parts) - 1) / 3),
            init=start.astype(np.float32),
            random_state=0,
        ).fit_transform(parts.astype(np.float32))
    return place
