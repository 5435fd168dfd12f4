"""Counts of pairs, compared with a dictionary."""

from collections import Counter

import pytest
import torch

from kgtool.data.statistics import PairCounts, tails_of_relations
from tests.support.graphs import random_dataset, tuples_of


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_what_a_counter_says(seed):
    generator = torch.Generator().manual_seed(seed)
    row, column = torch.randint(5, (40,), generator=generator), torch.randint(7, (40,))
    counted = Counter(zip(row.tolist(), column.tolist(), strict=True))
    counts = PairCounts.of(row, column, 6, 8)  # row 5 and column 7 hold nothing
    asked = torch.tensor([5, 0, 3, 0])
    expected = [[counted[i, j] for j in range(8)] for i in asked.tolist()]
    assert counts.rows(asked).tolist() == expected
    assert len(counts.column) == len(counted)
    assert int(counts.count.sum()) == 40


def test_no_pairs():
    nothing = torch.empty(0, dtype=torch.long)
    counts = PairCounts.of(nothing, nothing, 2, 3)
    assert counts.rows(torch.tensor([1, 1])).tolist() == [[0, 0, 0]] * 2
    assert counts.rows(nothing).shape == (0, 3)


def test_tails_of_relations_and_of_their_inverses():
    dataset = random_dataset(0)
    counts = tails_of_relations(dataset.train, dataset)
    found = counts.rows(torch.arange(2 * dataset.num_relations))
    expected = torch.zeros_like(found)
    for head, relation, tail in tuples_of(dataset.train):
        expected[relation, tail] += 1
        expected[relation + dataset.num_relations, head] += 1
    assert torch.equal(found, expected)
