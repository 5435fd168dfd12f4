"""A graph like those of biomedicine: typed, of hubs and modules, with rules that leave exceptions.

Five types (gene, disease, drug, pathway, symptom), ten relations, about 40,000 triples. Pathways
and symptoms are tails only. Base facts join entities of the same module, most of them hubs. Each
rule makes a share of the facts that it allows; no rule explains all facts of its relation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kgtool.data.dataset import KGDataset, Vocabulary

Pairs = NDArray[np.int64]

SIZES = {"gene": 3000, "disease": 500, "drug": 700, "pathway": 300, "symptom": 300}
MODULES = 40
SAME_MODULE = 0.8
# Relation: the types of head and tail, and the number of base facts.
RELATIONS = {
    "interacts": ("gene", "gene", 7500),
    "regulates": ("gene", "gene", 3500),
    "takes_part_in": ("gene", "pathway", 4500),
    "associated_with": ("gene", "disease", 3000),
    "targets": ("drug", "gene", 3000),
    "treats": ("drug", "disease", 700),
    "resembles_drug": ("drug", "drug", 1500),
    "resembles_disease": ("disease", "disease", 1200),
    "causes": ("drug", "symptom", 2000),
    "presents": ("disease", "symptom", 1500),
}
# The relation that a rule makes, its two steps, and how many facts it makes at most.
RULES = (
    ("treats", ("targets", "associated_with"), 3000),
    ("causes", ("resembles_drug", "causes"), 4000),
    ("presents", ("resembles_disease", "presents"), 3000),
    ("associated_with", ("interacts", "associated_with"), 3000),
    ("takes_part_in", ("regulates", "takes_part_in"), 4000),
)
# The share of the pairs of `interacts` that are stated in both directions.
BOTH_WAYS = 0.5


def biomedical(seed: int = 0, scale: float = 1.0) -> KGDataset:
    """The graph, with 10 % of the triples in valid and 10 % in test.

    Args:
        seed: of all draws.
        scale: of the numbers of entities and facts.
    """
    draw = np.random.default_rng(seed)
    sizes = {kind: max(10, round(size * scale)) for kind, size in SIZES.items()}
    module = {kind: draw.integers(MODULES, size=size) for kind, size in sizes.items()}
    facts = {
        name: _distinct(_base(draw, module[head], module[tail], round(many * scale)))
        for name, (head, tail, many) in RELATIONS.items()
    }
    there = draw.random(len(facts["interacts"])) < BOTH_WAYS
    reverse = facts["interacts"][there][:, ::-1]
    facts["interacts"] = _distinct([*facts["interacts"], *reverse])
    for name, steps, most in RULES:
        made = _composed(*(_matrix(facts[step], *RELATIONS[step][:2], sizes) for step in steps))
        made = made[draw.permutation(len(made))[: round(most * scale)]]
        facts[name] = _distinct([*facts[name], *made])
    return _dataset(draw, sizes, facts)


def _distinct(pairs: Iterable[Any]) -> Pairs:
    """Pairs in ascending order, each once."""
    return np.unique(np.array(list(pairs), np.int64).reshape(-1, 2), axis=0)


def _base(
    draw: np.random.Generator, of_heads: Pairs, of_tails: Pairs, many: int
) -> Iterator[tuple[int, int]]:
    """Facts between hubs, most of them within a module."""
    weights = [1 / np.arange(1, len(each) + 1) ** 0.6 for each in (of_heads, of_tails)]
    order = [draw.permutation(len(each)) for each in (of_heads, of_tails)]
    heads = draw.choice(order[0], many, p=weights[0] / weights[0].sum())
    for head in heads:
        near = of_tails[order[1]] == of_heads[head]
        if draw.random() > SAME_MODULE or not near.any():
            near = np.ones(len(near), np.bool_)
        share = weights[1] * near
        yield int(head), int(draw.choice(order[1], p=share / share.sum()))


def _matrix(pairs: Pairs, head: str, tail: str, sizes: dict[str, int]) -> csr_array:
    return csr_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(sizes[head], sizes[tail]))


def _composed(first: csr_array, second: csr_array) -> Pairs:
    """The pairs that two steps join, each once."""
    return np.stack((first @ second).nonzero(), axis=1)


def _dataset(
    draw: np.random.Generator, sizes: dict[str, int], facts: dict[str, Pairs]
) -> KGDataset:
    start = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    triples = []
    for relation, (name, (head, tail, _)) in enumerate(RELATIONS.items()):
        ends = facts[name] + [start[head], start[tail]]
        triples.append(np.insert(ends, 1, relation, axis=1))
    rows = np.concatenate(triples)
    mixed = torch.from_numpy(rows[draw.permutation(len(rows))])
    tenth = len(mixed) // 10
    labels = tuple(f"{kind}{i}" for kind, size in sizes.items() for i in range(size))
    valid, test, train = mixed.split([tenth, tenth, len(mixed) - 2 * tenth])
    return KGDataset("biomedical", None, Vocabulary(labels, tuple(RELATIONS)), train, valid, test)
