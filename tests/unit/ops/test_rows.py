"""Rows of a table, with sparse gradients."""

from __future__ import annotations

import pytest
import torch

from kgtool.ops import rows, rows_of_whole


@pytest.mark.parametrize(
    ("gather", "ids"), [(rows, [0, 2, 3]), (rows_of_whole, [3, 0, 3, 3]), (rows_of_whole, [])]
)
def test_the_gradient_is_that_of_a_selection(gather, ids):
    table = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor(ids, dtype=torch.long)
    weight = torch.randn(len(ids), 3, dtype=torch.float64)
    (sparse,) = torch.autograd.grad((gather(table, chosen) * weight).sum(), table)
    (dense,) = torch.autograd.grad((table.index_select(0, chosen) * weight).sum(), table)
    assert sparse.is_sparse
    torch.testing.assert_close(sparse.to_dense(), dense)


def test_a_gradient_of_the_whole_table_takes_in_those_of_rows():
    table = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([1, 1, 3])
    for order in (1, -1):
        losses = [table.square().sum(), rows_of_whole(table, ids).pow(3).sum()][::order]
        (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), table)
        expected = 2 * table
        for i in ids.tolist():
            expected = expected + 3 * table[i].square() * torch.eye(4).double()[i].unsqueeze(1)
        assert not gradient.is_sparse
        torch.testing.assert_close(gradient, expected)
