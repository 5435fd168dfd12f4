"""The cells of the one-path decoder by the definitions of their papers, a number at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from kgtool.models.cells import Cell, TuckER

# Each cell, with each norm where it has a distance.
EACH_CELL = [
    ("gru", 2), ("distmult", 2), ("complex", 2), ("tucker", 2),
    ("transe", 1), ("transe", 2), ("rotate", 1), ("rotate", 2),
]  # fmt: skip
COMPLEX = ("complex", "rotate")


def numbers(name: str, row: Tensor) -> list[Tensor]:
    """The numbers of a state `(d,)`: real ones, or half as many complex ones."""
    if name not in COMPLEX:
        return list(row)
    half = len(row) // 2
    return [torch.complex(row[k], row[half + k]) for k in range(half)]


def compose_by_hand(name: str, cell: Cell, w: Tensor, s: Tensor) -> list[Tensor]:
    """The numbers of the new state after a relation state `(d,)` and a state `(d,)`."""
    ws, ss = numbers(name, w), numbers(name, s)
    d = range(len(ss))
    if name == "gru":
        return list(cell(w.unsqueeze(0), s.unsqueeze(0))[0])
    if name == "tucker":
        assert isinstance(cell, TuckER)
        core = cell.core
        return [torch.stack([core[i, j, k] * ws[i] * ss[j] for i in d for j in d]).sum() for k in d]
    if name == "transe":
        return [ss[k] + ws[k] for k in d]
    if name == "rotate":
        return [ss[k] * ws[k] / ws[k].abs() for k in d]
    return [ss[k] * ws[k] for k in d]


def compare_by_hand(name: str, norm: int, ss: list[Tensor], tail: Tensor) -> Tensor:
    """The similarity of the numbers of a last state to a tail's state `(d,)`."""
    es = numbers(name, tail)
    pairs = list(zip(ss, es, strict=True))
    if name == "complex":
        return torch.stack([(s * e.conj()).real for s, e in pairs]).sum()
    if name in ("transe", "rotate"):
        apart = torch.stack([(s - e).abs() for s, e in pairs])
        return -apart.sum() if norm == 1 else -apart.square().sum().sqrt()
    return torch.stack([s * e for s, e in pairs]).sum()


def similarity_by_hand(name: str, norm: int, state: Tensor, tail: Tensor) -> Tensor:
    """The similarity of a last state `(d,)` to a tail's state `(d,)`."""
    return compare_by_hand(name, norm, numbers(name, state), tail)
