"""The counts of a graph equal those of loops over its triples."""

from __future__ import annotations

from collections import Counter

import pytest

from kgtool.data.traits import Traits
from tests.support.biomedical import biomedical
from tests.support.graphs import random_dataset, tuples_of


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_those_of_loops(seed):
    dataset = random_dataset(seed, num_entities=9, num_relations=4)
    traits = Traits.of(dataset)
    train = tuples_of(dataset.train)
    entities = {end for head, _, tail in train for end in (head, tail)}
    heads = Counter((head, relation) for head, relation, _ in train)
    tails = Counter((relation, tail) for _, relation, tail in train)
    pairs = Counter(frozenset((head, tail)) for head, _, tail in train)
    assert (traits.entities, traits.relations, traits.triples) == (len(entities), 4, len(train))
    assert traits.queries == len(heads) + len(tails)
    assert traits.degree == pytest.approx(2 * len(train) / len(entities))
    many = [heads[h, r] > 1 and tails[r, t] > 1 for h, r, t in train]
    assert traits.many_to_many == pytest.approx(sum(many) / len(train))
    joined = [pairs[frozenset((h, t))] > 1 for h, _, t in train]
    assert traits.joined == pytest.approx(sum(joined) / len(train))
    valid = tuples_of(dataset.valid)
    assert traits.valid_joined == pytest.approx(
        sum(frozenset((h, t)) in pairs for h, _, t in valid) / len(valid)
    )


def test_a_biomedical_graph():
    dataset = biomedical(scale=0.2)
    traits = Traits.of(dataset)
    assert traits.relations == 10
    assert traits.many_to_many > 0.5
    tails_only = {
        entity
        for entity, label in enumerate(dataset.vocabulary.entities)
        if label.startswith(("pathway", "symptom"))
    }
    assert not tails_only & set(dataset.train[:, 0].tolist())
    assert (
        biomedical(scale=0.2).fingerprint == dataset.fingerprint != biomedical(1, 0.2).fingerprint
    )
