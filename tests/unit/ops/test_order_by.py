"""Sorted rows and edge look-up, compared with Python's sort and a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kgtool.ops import CSC, find_edges, order_by

SIZES = (5, 3, 4)
ROWS = st.lists(st.tuples(*(st.integers(0, size - 1) for size in SIZES)), max_size=60)
OUTSIDE = st.lists(st.tuples(*(st.integers(-2, size + 1) for size in SIZES)), max_size=60)


@given(ROWS)
def test_rows_are_sorted_as_tuples_and_equal_ones_stay_in_order(
    rows: list[tuple[int, ...]],
) -> None:
    table = np.array(rows, np.int64).reshape(-1, 3)
    found = order_by(list(table.T), SIZES)
    assert found.dtype == np.int32
    assert found.tolist() == sorted(range(len(rows)), key=lambda i: rows[i])
    narrow = list(np.ascontiguousarray(table.T.astype(np.int32)))
    assert order_by(narrow, SIZES).tolist() == found.tolist()
    by_one = order_by([table[:, 1]], [SIZES[1]])
    assert by_one.tolist() == sorted(range(len(rows)), key=lambda i: rows[i][1])


@given(st.lists(st.integers(0, 2**62), max_size=20))
def test_few_of_many_ids_take_no_more_memory_than_rows(ids: list[int]) -> None:
    found = order_by([np.array(ids, np.int64)], [2**62 + 1])
    assert found.tolist() == sorted(range(len(ids)), key=lambda i: ids[i])


@pytest.mark.parametrize("bad", [-1, 3])
def test_an_id_out_of_range_is_refused(bad: int) -> None:
    with pytest.raises(ValueError, match=f"ids from {min(bad, 0)} to {max(bad, 2)}, of 3"):
        order_by([np.array([0, 2, bad]), np.array([0, 0, 0])], [3, 1])


@given(ROWS, OUTSIDE)
def test_edges_are_found_where_they_are(
    edges: list[tuple[int, ...]], others: list[tuple[int, ...]]
) -> None:
    """Edges are (head, relation, tail) here; an id out of range is not an edge."""
    edges = sorted(set(edges), key=lambda edge: edge[::-1])
    place = {edge: i for i, edge in enumerate(edges)}
    asked = edges[::-1] + others
    head, relation, tail = _columns(edges)
    index = CSC.from_edges(head, tail, relation, SIZES[0], SIZES[2])
    found = find_edges(index, torch.tensor(asked, dtype=torch.long).reshape(-1, 3))
    assert found.tolist() == [place.get(triple, -1) for triple in asked]


def _columns(triples: list[tuple[int, ...]]) -> tuple[Tensor, Tensor, Tensor]:
    head, relation, tail = torch.tensor(triples, dtype=torch.long).reshape(-1, 3).unbind(1)
    return head, relation, tail
